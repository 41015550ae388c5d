"""``make soak``: an hour of operation with bad messages, a model swap and two lease changes.

Prints the memory of each process at a sixth, the half and the end of the time, that of each streaming JVM as it got
older, the growth of Dagster's event log, and the longest times without a commit.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets_tests.chaos.world import World, say


def main() -> int:
    """Run it; 0 when no row is missing or doubled."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    home = Path(tempfile.mkdtemp(prefix="soak-")) / "home"
    home.mkdir()
    if options.models:
        shutil.copytree(options.models, home / "models")
    seconds = options.minutes * 60
    world = World(
        home, rate=options.rate, bad_every=100, environment={"SENTIMENT_LEASE_SECONDS": str(int(seconds / 3))}
    )
    samples: list[dict[str, Any]] = []
    ages = _Ages()
    try:
        world.start()
        world.load()
        world.heartbeat()
        begun = time.time()
        log_before = _event_log_bytes(world.settings)
        for at, act in ((1 / 6, None), (0.45, _swap_model), (0.5, None), (0.98, None)):
            ages.watch(world, begun + at * seconds)
            if act is not None:
                say(f"model swap: {act(world.settings)}")
            else:
                samples.append({"minutes": round((time.time() - begun) / 60, 1), "memory_mb": _memory(world)})
                say(json.dumps(samples[-1]))
        ages.watch(world, begun + seconds)
        longest = sorted(world.pauses(begun + 5), reverse=True)[:5]
        growth = (_event_log_bytes(world.settings) - log_before) * 3600 / seconds
        last = world.end()
    finally:
        world.stop()
        for process in world.processes():
            process.kill()
    result = {
        "minutes": options.minutes,
        "rate": options.rate,
        "samples": samples,
        "streaming_jvms": ages.table(),
        "event_log_bytes_per_hour": round(growth),
        "longest_pauses": [
            {"seconds": round(pause, 1), "at_minute": round((at - begun) / 60, 1)} for pause, at in longest
        ],
        "missing": last["in_topic"] - last["predictions"] - last["dead_letters"],
        "doubled": last["duplicates"],
        "predictions": last["predictions"],
        "dead_letters": last["dead_letters"],
    }
    say(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1))
    shutil.rmtree(home.parent, ignore_errors=True)
    return 1 if result["missing"] or result["doubled"] else 0


def _swap_model(settings: Settings) -> str:
    """Choose another candidate where there is one."""
    store = ModelStore(settings.models)
    others = [m.version for m in store.versions(kind="candidate") if m.version != store.chosen()]
    if not others:
        return "left out, there is one candidate only"
    store.promote(others[0], "the soak test")
    return others[0]


class _Ages:
    """Resident memory of each streaming JVM by its age: leases change, so one time of day says little."""

    def __init__(self) -> None:
        self._seen: dict[float, list[tuple[float, float]]] = {}

    def watch(self, world: World, until: float) -> None:
        """Wait until a time (seconds since the epoch), reading the memory every minute."""
        while time.time() < until:
            world.wait_while_alive(min(time.time() + 60, until))
            for name, born, megabytes in _resident(world):
                if name == "stream JVM":
                    self._seen.setdefault(born, []).append(((time.time() - born) / 60, megabytes))

    def table(self) -> list[dict[str, float]]:
        """Megabytes of each JVM by the minutes it had lived, oldest first."""
        return [
            {f"{age:.1f}": round(megabytes, 1) for age, megabytes in self._seen[born]}
            for born in sorted(self._seen)
        ]


def _memory(world: World) -> dict[str, float]:
    """Resident megabytes by what a process is."""
    memory: dict[str, float] = {}
    for name, _, megabytes in _resident(world):
        memory[name] = round(memory.get(name, 0.0) + megabytes, 1)
    return dict(sorted(memory.items()))


def _resident(world: World) -> Iterator[tuple[str, float, float]]:
    """What each process is, when it was born (seconds since the epoch), and its resident megabytes."""
    names = {"kafka.Kafka": "broker", "org.apache.spark": "stream JVM", "dagster._daemon": "daemon",
             "web_server": "web server", "code-server": "code server", " up ": "up"}  # fmt: skip
    for process in world.processes():
        with suppress(psutil.Error):  # it may have ended since
            words = " ".join(process.cmdline())
            name = next((name for part, name in names.items() if part in words), "run worker")
            yield name, process.create_time(), process.memory_info().rss / 2**20


def _event_log_bytes(settings: Settings) -> int:
    return sum(file.stat().st_size for file in settings.dagster_home.rglob("*.db*"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=500.0, help="messages a second")
    parser.add_argument(
        "--models", type=Path, help="a models folder with a chosen model; else a small one is trained"
    )
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
