"""When a sink's next run is launched: a pure decision from what is known.

Belongs here: the decision. Does not belong here: Dagster (``defs.sinks``), the following itself (``follow``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 900.0


@dataclass(frozen=True)
class PastRun:
    """One run of a sink; times are seconds since the epoch."""

    run_id: str
    finished: bool
    failed: bool = False
    canceled: bool = False
    ended_at: float | None = None


def nothing_to_do(lag_versions: int | None) -> str | None:
    """Why a run would have nothing to do; None when it would.

    Parameters
    ----------
    lag_versions
        Commits that the sink does not hold; None while there is no table.
    """
    if lag_versions is None:
        return "there is no table of predictions yet"
    return "it holds the newest version" if lag_versions <= 0 else None


def reason_to_wait(now: float, runs: Sequence[PastRun], switched_on_at: float | None) -> str | None:
    """Why no run is launched now, whatever the sink holds; None when one may be.

    Parameters
    ----------
    runs
        The latest runs of this sink, newest first.
    switched_on_at
        When the sensor was last switched on.
    """
    if not runs:
        return None
    last = runs[0]
    if not last.finished:
        return f"run {last.run_id[:8]} follows"
    if last.canceled and (switched_on_at is None or (last.ended_at or now) >= switched_on_at):
        return f"run {last.run_id[:8]} was cancelled by a person: switch the sensor off and on to resume"
    failures = 0
    for run in runs:
        if not run.failed:
            break
        failures += 1
    if failures:
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE_SECONDS)
        left = (last.ended_at or now) + pause - now
        if left > 0:
            return f"{failures} runs in a row have failed, the last was {last.run_id[:8]}: next try in {left:.0f} s"
    return None
