"""``make proof-stream``: hostile messages, and a rescore that is killed half-way.

100,000 messages made to break a parser: none stops the stream, each becomes a prediction or a dead letter. Then a
million predictions are scored anew by another model and back, without a kill and with one: the tables must be alike.
Prints one JSON object a proof; exits with 1 when one fails.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from deltalake import DeltaTable

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.kafka.replay import Message, produce
from sentiment_assets.models.store import ModelStore
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets_tests.chaos.adversarial import adversarial
from sentiment_assets_tests.proofs.product import DEADLINE_SECONDS, command, environment, give_model

_WORDS = ("love", "happy", "sad", "awful", "great", "sunny", "rain", "tired", "coffee", "work", "today")
_SCORES = ["partition", "offset", "sentiment", "probability", "model_version"]


def main() -> int:
    """Run both proofs; 0 when all is sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proofs", nargs="*", default=["hostile", "rescore"])
    parser.add_argument("--hostile", type=int, default=100_000, help="hostile messages")
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions to score anew")
    parser.add_argument(
        "--models", type=Path, help="a models folder with a chosen model and another candidate"
    )
    options = parser.parse_args()
    sound = True
    for name in options.proofs:
        with tempfile.TemporaryDirectory(prefix="proof-stream-") as folder:
            settings = Settings(home=Path(folder)).prepare()
            give_model(settings, options.models)
            command(settings, "kafka", "start")
            try:
                figures = (
                    _hostile(settings, options.hostile)
                    if name == "hostile"
                    else _rescore(settings, options.rows)
                )
            finally:
                command(settings, "kafka", "stop")
            sound = sound and figures["sound"]
            _say({"proof": name, **figures})
    return 0 if sound else 1


def _hostile(settings: Settings, count: int) -> dict[str, Any]:
    sent = _send(settings, adversarial(count))
    result = command(settings, "stream", "--until-drained")
    status = command(settings, "status")
    figures = {
        "sent": sent,
        "predictions": status["predictions"],
        "dead_letters": status["dead_letters"],
        "gaps": status["gaps"],
        "duplicates": status["duplicates"],
        "rows_per_second": round(sent / result["seconds"]),
        "ended": result["reason"],
    }
    whole = sent == count == status["predictions"] + status["dead_letters"]
    figures["sound"] = (
        whole and not (status["gaps"] or status["duplicates"]) and result["reason"] == "drained"
    )
    return figures


def _rescore(settings: Settings, count: int) -> dict[str, Any]:
    _send(settings, _messages(count))
    command(settings, "stream", "--until-drained")
    store = ModelStore(settings.models)
    chosen = store.chosen()
    other = next(m.version for m in store.versions(kind="candidate") if m.version != chosen)
    assert chosen is not None
    scored = _checksum(settings)
    to_other = command(settings, "rescore", "--model", other)
    expected = _checksum(settings)
    back = command(settings, "rescore", "--model", chosen)
    returned = _checksum(settings)
    staged = _kill_half_way(settings, other)
    untouched = _checksum(settings)
    again = command(settings, "rescore", "--model", other)
    found = _checksum(settings)
    status = command(settings, "status")
    sound = (returned, untouched, found) == (scored, scored, expected) and expected != scored
    return {
        "rows": again["rows"],
        "rows_per_second_by_the_chosen_model": round(back["rows"] / back["seconds"]),
        "rows_per_second_by_the_other_candidate": round(to_other["rows"] / to_other["seconds"]),
        "pieces_staged_when_killed": staged,
        "pieces_resumed": again["resumed"],
        "same_after_the_kill": untouched == scored,
        "same_in_the_end": found == expected,
        "duplicates": status["duplicates"],
        "gaps": status["gaps"],
        "sound": sound and again["resumed"] > 0 and not (status["duplicates"] or status["gaps"]),
    }


def _kill_half_way(settings: Settings, model: str) -> int:
    """SIGKILL the command and its JVM when half of the pieces are staged; returns how many were."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sentiment_assets", "rescore", "--model", model, "--json"],
        env=environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    staging, pause, deadline = (
        settings.root / "staging",
        threading.Event(),
        time.monotonic() + DEADLINE_SECONDS,
    )
    while True:
        plans = list(staging.glob("*/plan.json"))
        waiting = [plan.parent for plan in plans if not (plan.parent / "done.json").exists()]
        if waiting:
            pieces = len(json.loads((waiting[0] / "plan.json").read_text(encoding="utf-8"))["pieces"])
            done = len(list(waiting[0].glob("piece-*")))
            if 2 * done >= pieces:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return done
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("The rescore ended before it was half done.")
        pause.wait(0.05)


def _checksum(settings: Settings) -> str:
    """Of what was scored how, whatever the order of the rows."""
    rows = DeltaTable(str(settings.table(PREDICTIONS.name))).to_pyarrow_table(columns=_SCORES)
    order = pc.sort_indices(rows, sort_keys=[("partition", "ascending"), ("offset", "ascending")])
    digest = hashlib.sha256()
    for batch in rows.take(order).combine_chunks().to_batches():
        for column in batch.columns:
            digest.update(str(column.to_pylist()).encode())
    return digest.hexdigest()


def _messages(count: int) -> Iterator[Message]:
    for number in range(count):
        text = " ".join(_WORDS[number * step % len(_WORDS)] for step in range(1, 12))
        value = {"id": str(number), "text": f"{text} {number}", "author": f"a{number % 97}"}
        yield Message(str(number).encode(), json.dumps(value).encode())


def _send(settings: Settings, messages: Iterator[Message]) -> int:
    bootstrap = EmbeddedBroker(settings).status().bootstrap
    assert bootstrap is not None
    return produce(messages, Cluster(bootstrap), settings.topic).sent


def _say(figures: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
