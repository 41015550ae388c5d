"""`make proof-sources`: each source gives 100,000 messages through 20 disconnects and broker restarts.

Every id must be in the topic exactly once, and after the stream has drained it, in the table of predictions. Prints one
JSON object per source; exits with 1 otherwise.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from deltalake import DeltaTable
from pydantic import SecretStr

from sentiment_assets.failures import BrokerError
from sentiment_assets.ingest import IngestResult, ingest
from sentiment_assets.ingest.file import FileReplay
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import watermarks
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.sources.jetstream import Jetstream
from sentiment_assets.sources.live import Source
from sentiment_assets.sources.x_api import XStream, recent
from sentiment_assets_tests.peers.jetstream import JetstreamPeer, post_event
from sentiment_assets_tests.peers.topic import keys_in
from sentiment_assets_tests.peers.x_api import (
    HEARTBEAT,
    TOKEN,
    Refusal,
    Step,
    XPeer,
    drop,
    lose,
    raw,
    send,
    stay,
)
from sentiment_assets_tests.proofs.product import command, give_model

RESTARTS = 3
DEADLINE_SECONDS = 180


def main() -> int:
    """Run the chosen sources; 0 when every id is there once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=["x", "jetstream", "file"])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--disconnects", type=int, default=20)
    parser.add_argument(
        "--models", type=Path, help="a models folder with a chosen model; else a small one is trained"
    )
    options = parser.parse_args()
    sound = True
    models = options.models
    with tempfile.TemporaryDirectory(prefix="proof-sources-") as folder:
        for name in options.sources:
            home = Path(folder) / name
            settings = Settings(home=home, kafka_port=free_port(), topic=f"proof-{name}").prepare()
            models = give_model(settings, models)
            broker = EmbeddedBroker(settings)
            broker.start()
            try:
                figures = PROOFS[name](settings, broker, options.messages, options.disconnects)
            finally:
                broker.stop()
            sound = sound and figures["sound"]
            sys.stdout.write(json.dumps({"source": name, **figures}) + "\n")
            sys.stdout.flush()
    return 0 if sound else 1


def prove_x(settings: Settings, broker: EmbeddedBroker, messages: int, disconnects: int) -> dict[str, Any]:
    """Every connection gives a share of the posts, loses some, and breaks; refusals come in between."""
    lost = 50
    share = messages // (disconnects + 1)
    part: list[Step] = [*([send(25), _breath(0.004)] * ((share - lost) // 25)), send((share - lost) % 25)]
    bad = [HEARTBEAT, raw(b"not json\r\n"), raw(b'{"data": 1}\r\n')]
    scripts: list[Any] = []
    for number in range(disconnects):
        scripts.append([*bad, *part, lose(lost), drop])
        if number % 5 == 4:
            scripts += [Refusal(503), Refusal(429, x_rate_limit_reset=str(int(time.time()) + 10**6))]
    scripts.append([*bad, *part, send(messages - disconnects * share - (share - lost)), stay])

    async def hasten(seconds: float) -> None:
        # The documented pauses are minutes; a hundredth of a second stands for a minute.
        await asyncio.sleep(min(seconds / 6000, 0.05))

    # Ten seconds of this peer are half of all its posts; a real stream has a few hundred in them.
    recent.OVERLAP_SECONDS = 1.0
    with XPeer(*scripts, ahead_seconds=recent.SETTLE_SECONDS) as peer:
        source = XStream(peer.url, SecretStr(TOKEN), ["made up"], sleep=hasten, settle_seconds=1)
        expected = {str(number) for number in range(1, messages + 1)}
        return _prove(settings, broker, source, expected) | {"searches": len(peer.searches)}


def prove_jetstream(
    settings: Settings, broker: EmbeddedBroker, messages: int, disconnects: int
) -> dict[str, Any]:
    """The websocket is cut off without a closing handshake again and again."""
    events = [post_event(number) for number in range(messages)]
    expected = {f"at://{e['did']}/app.bsky.feed.post/{e['commit']['rkey']}" for e in events}
    with JetstreamPeer(events, breaks=(messages // (disconnects + 1),) * disconnects, pause=0.0001) as peer:
        return _prove(settings, broker, Jetstream([peer.url], ["en"]), expected)


def prove_file(
    settings: Settings, broker: EmbeddedBroker, messages: int, _disconnects: int
) -> dict[str, Any]:
    """A file has no connection: only the broker restarts."""
    path = settings.root / "labelled.csv"
    with path.open("w", encoding="latin-1") as file:
        for number in range(1, messages + 1):
            file.write(f'"4","{number}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","user","text {number}"\n')
    expected = {str(number) for number in range(1, messages + 1)}
    return _prove(settings, broker, FileReplay(path, "ISO-8859-1", rate=messages / 20), expected)


PROOFS: dict[str, Callable[[Settings, EmbeddedBroker, int, int], dict[str, Any]]] = {
    "x": prove_x,
    "jetstream": prove_jetstream,
    "file": prove_file,
}


def _prove(settings: Settings, broker: EmbeddedBroker, source: Source, expected: set[str]) -> dict[str, Any]:
    stop = threading.Event()
    results: list[IngestResult] = []
    peak = 0

    def note(figures: IngestResult) -> None:
        nonlocal peak
        peak = max(peak, figures.spooled)
        sys.stderr.write(figures.text + "\n")

    worker = threading.Thread(
        target=lambda: results.append(ingest(settings, source, stop, on_progress=note)), daemon=True
    )
    begun = time.monotonic()
    worker.start()
    with _restarts(broker) as restarts:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and worker.is_alive():
            threading.Event().wait(0.5)
            if restarts.done and _messages(settings, broker) >= len(expected):
                break
    stop.set()
    worker.join(timeout=60)
    bootstrap = broker.start().bootstrap
    keys = keys_in(str(bootstrap), settings.topic)
    (result,) = results
    wall = time.monotonic() - begun
    command(settings, "stream", "--until-drained")
    scored = DeltaTable(str(settings.table(PREDICTIONS.name))).to_pyarrow_table(columns=["tweet_id"])
    ids = scored["tweet_id"].to_pylist()
    return {
        "messages": len(keys),
        "distinct_ids": len(set(keys)),
        "rows_in_the_table": len(ids),
        "distinct_ids_in_the_table": len(set(ids)),
        "expected": len(expected),
        "sound": len(keys) == len(ids) == len(expected) and set(keys) == set(ids) == expected,
        "broker_restarts": restarts.count,
        **{k: v for k, v in vars(result).items() if k not in ("source", "state")},
        "most_memory_mb": round(psutil.Process().memory_info().rss / 2**20),
        "wall_seconds": round(wall, 1),
    }


def _messages(settings: Settings, broker: EmbeddedBroker) -> int:
    bootstrap = broker.status().bootstrap
    if bootstrap is None:
        return 0
    try:
        return sum(high for _, high in watermarks(Cluster(bootstrap), settings.topic).values())
    except BrokerError:
        return 0


class _Restarts(threading.Thread):
    """Stops and starts the broker while the source runs: in turn by SIGKILL and in good order."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.done = False
        self._broker = broker

    def run(self) -> None:
        for number in range(RESTARTS):
            threading.Event().wait(2.0)
            pid = self._broker.status().pid
            if number % 2 == 0 and pid is not None:
                os.kill(pid, signal.SIGKILL)
                psutil.Process(pid).wait(timeout=30)
            else:
                self._broker.stop()
            threading.Event().wait(1.0)
            self._broker.start()
            self.count += 1
        self.done = True


@contextmanager
def _restarts(broker: EmbeddedBroker) -> Iterator[_Restarts]:
    thread = _Restarts(broker)
    thread.start()
    yield thread
    thread.join(timeout=60)


def _breath(seconds: float) -> Step:
    def step(_peer: XPeer, _handler: object) -> None:
        time.sleep(seconds)

    return step


if __name__ == "__main__":
    sys.exit(main())
