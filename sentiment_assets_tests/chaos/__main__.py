"""``make chaos``: faults under load, and what became of the rows.

Each fault hits a running product so and so many times; the table shows the time to recover, the longest pause
between two commits, rows missing and doubled, and what the operator saw. The JSON has the same.
"""

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.chaos.faults import FAULTS
from sentiment_assets_tests.chaos.world import World, say

_SETTLE_SECONDS = 240
_TMPFS = "size=700m"


def main() -> int:
    """Run it; 0 when no row is missing or doubled and everything came back."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    with _home(options) as home:
        world = World(home, rate=options.rate, bad_every=100)
        rows: list[dict[str, Any]] = []
        try:
            world.start()
            world.load()
            world.heartbeat()
            for name in options.fault or FAULTS:
                if name == "disk full" and not options.tmpfs:
                    say("disk full: left out, it needs root for a small tmpfs")
                    continue
                rows += [_round(world, name, number) for number in range(1, options.rounds + 1)]
            last = world.end()
        finally:
            world.stop()
            for process in world.processes():
                process.kill()
    accounted = last["predictions"] + last["dead_letters"]
    summary = {
        "sent": last["sent"],
        "in_topic": last["in_topic"],
        "predictions": last["predictions"],
        "dead_letters": last["dead_letters"],
        "missing": last["in_topic"] - accounted,
        "gaps": last["gaps"],
        "doubled": last["duplicates"],
    }
    say(json.dumps(summary))
    options.out.write_text(json.dumps({"rounds": rows, "end": summary}, indent=1))
    sound = not (
        summary["missing"] or summary["gaps"] or summary["doubled"] or summary["sent"] != summary["in_topic"]
    )
    return 0 if sound and all(row["recovered_seconds"] is not None for row in rows) else 1


def _round(world: World, name: str, number: int) -> dict[str, Any]:
    mark, begun = world.mark(), time.time()
    injected = FAULTS[name](world)
    try:
        world.wait_until(injected.is_back, _SETTLE_SECONDS, f"it is back after: {name}")
        recovered: float | None = round(time.time() - injected.at, 1)
    except TimeoutError as error:
        say(str(error))
        recovered = None
    status = read_status(world.settings)
    saw = " / ".join(text for text in (injected.told, world.said_since(mark)) if text)
    row = {
        "fault": name,
        "round": number,
        "recovered_seconds": recovered,
        "longest_pause_seconds": round(world.longest_pause(begun), 1),
        "missing": status["gaps"],
        "doubled": status["duplicates"],
        "saw": saw,
    }
    say(
        f"{name:14} {number:3} recovered {recovered!s:>6} s, longest pause {row['longest_pause_seconds']:>6} s, "
        f"missing {row['missing']}, doubled {row['doubled']} | {saw[:300]}"
    )
    return row


@contextlib.contextmanager
def _home(options: argparse.Namespace) -> Iterator[Path]:
    """A home of its own; on a small tmpfs where that may be mounted, so that a disk can be filled."""
    base = Path(tempfile.mkdtemp(prefix="chaos-"))
    mount, home = base / "disk", base / "disk" / "home"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", _TMPFS, "tmpfs", str(mount)]
    wanted = not options.fault or "disk full" in options.fault
    options.tmpfs = wanted and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        home.mkdir()
        if options.models:
            shutil.copytree(options.models, home / "models")
        yield home
    finally:
        kept = options.out.with_suffix(".logs")
        for place in ("logs", "dagster_home/storage"):
            # A home that was moved has another name.
            for folder in mount.glob(f"*/{place}"):
                shutil.copytree(folder, kept / folder.name, dirs_exist_ok=True)
        if options.tmpfs:
            subprocess.run(["umount", "-l", str(mount)], check=False)  # noqa: S607
        shutil.rmtree(base, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each fault")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second")
    parser.add_argument(
        "--fault", action="append", choices=list(FAULTS), help="only this one; may be repeated"
    )
    parser.add_argument(
        "--models", type=Path, help="a models folder with a chosen model; else a small one is trained"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("chaos.json"), help="where the JSON goes, logs beside it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
