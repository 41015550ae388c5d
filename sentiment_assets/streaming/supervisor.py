"""What the supervisor of the stream does next: one pure decision from what is known.

The truth is in the run records and their tags, in the heartbeat, in the model store and in the topic; nothing
is remembered between two decisions, so a restarted supervisor decides the same.
Does not belong here: reading those facts or carrying out the decision (``defs``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from typing import Self

from sentiment_assets.settings import Settings
from sentiment_assets.streaming.heartbeat import Heartbeat, Phase


class RunStatus(StrEnum):
    """Status of a run, spelt as Dagster spells it."""

    QUEUED = "QUEUED"
    NOT_STARTED = "NOT_STARTED"
    MANAGED = "MANAGED"
    STARTING = "STARTING"
    STARTED = "STARTED"
    CANCELING = "CANCELING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELED = "CANCELED"

    @property
    def is_finished(self) -> bool:
        """Whether the run will not change any more."""
        return self in (RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.CANCELED)


@dataclass(frozen=True)
class RunRecord:
    """One run of the stream; times in seconds since the epoch.

    Parameters
    ----------
    lease, attempt
        From the run's tags; ``None`` for a run that a person started.
    model_version
        The model it scores with, where the run has told.
    stood_down
        It was launched as a successor and not needed, or ended with the main job: that says nothing about the stream.
    succeeds
        Whether it was launched to follow a run that goes on until it is ready.
    progressed
        Whether it committed at least one batch: a failure after that begins a new row of failures.
    """

    run_id: str
    status: RunStatus
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    lease: int | None = None
    attempt: int | None = None
    model_version: str | None = None
    progressed: bool = False
    stood_down: bool = False
    succeeds: bool = False

    @property
    def name(self) -> str:
        """How messages name the run: its id as the UI shortens it, and its status."""
        return f"Run {self.run_id[:8]} ({self.status})"

    @property
    def last_change(self) -> float:
        """When it ended, or else started, or else was created."""
        return self.ended_at or self.started_at or self.created_at


@dataclass(frozen=True)
class SupervisorPolicy:
    """How patient the supervisor is; all times in seconds.

    Parameters
    ----------
    heartbeat_timeout
        A stream whose heartbeat is older is taken for dead.
    startup_timeout
        A run may take so long from its start to its first heartbeat (Spark's JVM, a busy machine).
    ending_timeout
        A run whose stream has ended may take so long for its checks of the tables; it writes nothing any more.
    backoff_base, backoff_factor, backoff_max
        Wait after the n-th failure in a row: ``base * factor ** (n - 1)``, at most ``max``.
    handover
        A successor is launched so long before the end of a lease: what starting took when measured, twice.
    always_standby
        Have a successor ready during the whole lease: a killed stream is replaced within seconds, for the memory of
        a second JVM.
    failures_to_open
        After so many failures in a row nothing is launched any more.
    sensor_started_at
        When a person last switched the sensor on. Failures and cancellations before that are forgiven.
    """

    heartbeat_timeout: float = 90.0
    startup_timeout: float = 180.0
    backoff_base: float = 2.0
    backoff_factor: float = 4.0
    backoff_max: float = 300.0
    ending_timeout: float = 600.0
    handover: float = 60.0
    always_standby: bool = False
    failures_to_open: int = 5
    sensor_started_at: float | None = None

    @classmethod
    def from_settings(cls, settings: Settings, sensor_started_at: float | None) -> Self:
        """The policy of an installation."""
        return cls(
            heartbeat_timeout=settings.heartbeat_timeout_seconds,
            always_standby=settings.standby == "always",
            sensor_started_at=sensor_started_at,
        )

    def backoff(self, failures: int) -> float:
        """Seconds to wait after ``failures`` failures in a row."""
        return float(min(self.backoff_max, self.backoff_base * self.backoff_factor ** (failures - 1)))

    def forgives(self, ended_at: float) -> bool:
        """Whether the sensor was switched on after ``ended_at``."""
        return self.sensor_started_at is not None and self.sensor_started_at > ended_at


class Situation(StrEnum):
    """Why nothing is launched, as a word that the UI and metrics can count."""

    RUNNING = "running"
    STARTING = "starting"
    ENDING = "ending"
    FOREGROUND = "foreground"
    CANCELED = "canceled"
    CIRCUIT_OPEN = "circuit open"
    NO_MODEL = "no model"
    NO_BROKER = "no broker"
    IDLE = "idle"
    BACKOFF = "backoff"


@dataclass(frozen=True)
class Launch:
    """Start a run with these tags; ``run_key`` is unique for ever, so two supervisors launch it once."""

    reason: str
    lease: int
    attempt: int
    after: str
    """The newest run that was known: leases are numbered from the runs that have a number, which may be none."""
    succeeds: str | None = None
    """Run that goes on until this one is ready; ``None``: nothing runs."""

    @property
    def run_key(self) -> str:
        """Dagster never launches a run key twice, failed runs included."""
        return f"stream-lease-{self.lease}-attempt-{self.attempt}-after-{self.after[:8] or 'none'}"


@dataclass(frozen=True)
class Skip:
    """Do nothing, for a reason that a person can read."""

    reason: str
    situation: Situation

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, because there is nothing to do or it is not known what."""
        return self.situation in (Situation.NO_MODEL, Situation.NO_BROKER, Situation.IDLE)


@dataclass(frozen=True)
class Reap:
    """Declare a run dead.

    Parameters
    ----------
    canceled
        Record it as cancelled, not as failed: a person had asked for its end.
    heartbeat
        Of the run's silent process, which has to be ended before another one may write; ``None``: no process.
    """

    run_id: str
    reason: str
    canceled: bool = False
    heartbeat: Heartbeat | None = None


Decision = Launch | Skip | Reap


def decide(
    now: float,
    runs: Sequence[RunRecord],
    heartbeat: Heartbeat | None,
    model: str | None,
    lag: int | None,
    policy: SupervisorPolicy,
    standby: Heartbeat | None = None,
) -> Decision:
    """Decide what to do about the stream.

    Parameters
    ----------
    now
        Seconds since the epoch.
    runs
        The latest runs of the stream, newest first; enough of them to count ``failures_to_open`` failures.
    heartbeat
        Of whichever stream wrote last.
    model
        Version of the chosen model, ``None`` when none is chosen.
    lag
        Messages not yet scored, over all partitions; ``None`` when the broker does not answer.
    policy
        How patient to be.
    standby
        Heartbeat of a run that was launched as a successor and waits.

    Returns
    -------
    Launch, Skip or Reap
        Each with its reason.
    """
    active = [run for run in reversed(runs) if not run.status.is_finished]
    skips: list[Skip] = []
    for run in active:
        verdict = _judge_active(now, run, _own(run, heartbeat, standby) or heartbeat, model, policy)
        if isinstance(verdict, Reap):
            return verdict
        skips.append(verdict)
    if skips:
        own = _own(active[0], heartbeat)
        if len(active) == 1 and own is not None and skips[0].situation is Situation.RUNNING:
            return _consider_successor(now, active[0], own, runs, model, lag, policy) or skips[0]
        if len(active) == 1 and own is not None and _has_ended(active[0], own):
            # Its checks of the tables may take minutes; its locks are free.
            over = replace(active[0], status=RunStatus.SUCCESS, ended_at=own.at)
            known = [over if run is active[0] else run for run in runs]
            following = _consider_launch(now, known, model, lag, policy)
            return following if isinstance(following, Launch) else skips[0]
        return skips[0]
    if heartbeat is not None and _is_fresh(now, heartbeat, policy):
        return Skip(_describe_writer(heartbeat), Situation.FOREGROUND)
    return _consider_launch(now, runs, model, lag, policy)


def _has_ended(run: RunRecord, own: Heartbeat) -> bool:
    """Whether the stream of a run is over and may be followed, in a way that :func:`_took_over_from` knows later."""
    follows = own.phase is Phase.STOPPED and own.hands_over and run.status is not RunStatus.CANCELING
    return follows and run.lease is not None and run.progressed


def _took_over_from(run: RunRecord, heartbeat: Heartbeat) -> bool:
    """Whether the stream of a later lease goes on where the run, which had begun, has stopped."""
    later = run.lease is not None and heartbeat.lease is not None and heartbeat.lease > run.lease
    return later and heartbeat.running and run.progressed


def _own(run: RunRecord, *heartbeats: Heartbeat | None) -> Heartbeat | None:
    """The heartbeat that the run wrote, if one of these is."""
    return next((beat for beat in heartbeats if beat is not None and beat.run_id == run.run_id), None)


def _consider_successor(
    now: float,
    run: RunRecord,
    own: Heartbeat,
    runs: Sequence[RunRecord],
    model: str | None,
    lag: int | None,
    policy: SupervisorPolicy,
) -> Launch | None:
    """Launch the run that follows a healthy one, in time for it to be ready when the lease ends."""
    if not own.ready or run.lease is None or model is None or lag is None:
        return None
    if own.idle_seconds >= policy.handover and lag <= 0:
        return None
    left = None if own.lease_left_seconds is None else own.lease_left_seconds - max(0.0, now - own.at)
    if own.model_version is not None and own.model_version != model:
        why = f"{run.name} scores with {own.model_version}, and {model} is chosen now"
    elif left is not None and left <= policy.handover:
        why = f"the lease of {run.name} ends in {max(0.0, left):.0f} s"
    elif policy.always_standby:
        why = f"{run.name} is to be replaced within seconds if it dies"
    else:
        return None
    tried = [other for other in runs if (other.lease or 0) > run.lease and not other.stood_down]
    if any(other.status is RunStatus.CANCELED for other in tried):
        return None
    failures = _failures_in_a_row(tried, policy)
    if failures >= policy.failures_to_open:
        return None
    if failures and 0 <= now - tried[0].last_change < policy.backoff(failures):
        return None
    lease = max(other.lease or 0 for other in runs) + 1
    return Launch(
        f"Its successor prepares itself: {why}.", lease, failures + 1, runs[0].run_id, succeeds=run.run_id
    )


def _judge_active(
    now: float, run: RunRecord, heartbeat: Heartbeat | None, model: str | None, policy: SupervisorPolicy
) -> Skip | Reap:
    """What a run that is not finished calls for."""
    if run.status is RunStatus.QUEUED:
        return Skip(f"{run.name} waits for the run queue.", Situation.STARTING)
    own = heartbeat if heartbeat is not None and heartbeat.run_id == run.run_id else None
    canceling = run.status is RunStatus.CANCELING
    if own is None:
        begun = run.started_at or run.created_at
        waited = now - begun
        # A start in the future means that the clock was set back: its age is unknown, and a living run
        # would have a heartbeat within seconds.
        if -policy.startup_timeout <= waited <= policy.startup_timeout:
            return Skip(
                f"{run.name} has {max(0.0, waited):.0f} s of {policy.startup_timeout:.0f} s "
                "to give its first heartbeat.",
                Situation.ENDING if canceling else Situation.STARTING,
            )
        if heartbeat is not None and _took_over_from(run, heartbeat):
            since = now - (heartbeat.took_over_at or heartbeat.started_at or now)
            if abs(since) <= policy.ending_timeout:
                return Skip(f"{run.name} has handed over and ends.", Situation.ENDING)
            return Reap(
                run.run_id, f"{run.name} handed over {since:.0f} s ago but never finished.", canceling
            )
        other = f"; the last heartbeat is of {_owner(heartbeat)}" if heartbeat else ""
        return Reap(run.run_id, f"{run.name} never gave a heartbeat{other}.", canceled=canceling)
    age = now - own.at
    if own.phase is Phase.STOPPED:
        # Its checks of the tables may take minutes; a stream that failed has none.
        checks = own.hands_over and own.alive is not False
        if abs(age) <= (policy.ending_timeout if checks else policy.heartbeat_timeout):
            return Skip(f"{run.name} is ending ({own.state}).", Situation.ENDING)
        return Reap(
            run.run_id, f"{run.name} reported its end {age:.0f} s ago but never finished.", canceling, own
        )
    if own.alive is False:
        return Reap(run.run_id, f"{run.name}: its process {own.pid} is gone.", canceled=canceling)
    if not _is_fresh(now, own, policy):
        return Reap(
            run.run_id,
            f"{run.name} gave its last heartbeat {age:.0f} s ago (limit {policy.heartbeat_timeout:.0f} s).",
            canceling,
            own,
        )
    if canceling:
        return Skip(f"{run.name} is being cancelled.", Situation.ENDING)
    if model is not None and own.model_version is not None and own.model_version != model:
        return Skip(
            f"{run.name} scores with model {own.model_version}; {model} is chosen now: "
            "the lease ends by itself at a batch boundary.",
            Situation.RUNNING,
        )
    return Skip(f"{run.name} is healthy: {own.state}, lag {_number(own.lag)}.", Situation.RUNNING)


def _consider_launch(
    now: float, runs: Sequence[RunRecord], model: str | None, lag: int | None, policy: SupervisorPolicy
) -> Launch | Skip:
    """Nothing runs: say why it stays so, or launch."""
    lease = max((run.lease or 0 for run in runs), default=0) + 1
    after = runs[0].run_id if runs else ""
    # What became of a run that only stood by is no word about the stream: who cancels it wants no spare one, and where
    # two did not fit beside each other one may.
    in_vain = (RunStatus.CANCELED, RunStatus.FAILURE)
    spare = [run for run in runs if run.status in in_vain and run.succeeds and not run.progressed]
    runs = [run for run in runs if run not in spare and not (run.stood_down and not run.progressed)]
    last = runs[0] if runs else None
    if last is not None and last.status is RunStatus.CANCELED and not policy.forgives(last.last_change):
        return Skip(
            f"{last.name} was cancelled by a person: the stream stays down until this sensor is switched "
            "off and on again.",
            Situation.CANCELED,
        )
    failures = _failures_in_a_row(runs, policy)
    if last is not None and failures >= policy.failures_to_open:
        return Skip(
            f"The circuit is open: {failures} runs failed in a row, the last was {last.name}. "
            "Mend the cause that its page shows, then switch this sensor off and on again.",
            Situation.CIRCUIT_OPEN,
        )
    if model is None:
        return Skip("No model is chosen: materialize chosen_model first.", Situation.NO_MODEL)
    if lag is None:
        return Skip("The Kafka broker does not answer: see `sentiment-assets status`.", Situation.NO_BROKER)
    if lag <= 0:
        return Skip("Nothing to do: every message is scored.", Situation.IDLE)
    if last is not None and failures:
        since = now - last.last_change
        # A stream that had scored does not fail because it cannot start: the first time nothing is waited for.
        wait = 0.0 if failures == 1 and last.progressed else policy.backoff(failures)
        # A failure in the future means that the clock was set back: waiting for it could take for ever.
        if 0 <= since < wait:
            return Skip(
                f"{last.name} failed; attempt {failures + 1} in {wait - since:.0f} s.", Situation.BACKOFF
            )
        return Launch(
            f"{last.name} failed; attempt {failures + 1}, {lag:,} messages wait.", lease, failures + 1, after
        )
    if last is None:
        return Launch(f"First lease: {lag:,} messages wait.", lease, 1, after)
    return Launch(f"{last.name} is over; {lag:,} messages wait.", lease, 1, after)


def _failures_in_a_row(runs: Sequence[RunRecord], policy: SupervisorPolicy) -> int:
    """Failures since the last success, cancellation, orderly end of the main job, or switching on of the sensor.

    A run that failed after it had made progress counts as the first of its row: ten crashes of a
    stream that recovers each time are not a stream that cannot start.
    """
    failed = takewhile(
        lambda run: (
            run.status is RunStatus.FAILURE and not run.stood_down and not policy.forgives(run.last_change)
        ),
        runs,
    )
    count = 0
    for run in failed:
        count += 1
        if run.progressed:
            break
    return count


def _is_fresh(now: float, heartbeat: Heartbeat, policy: SupervisorPolicy) -> bool:
    """Whether a stream stands behind the heartbeat and is not silent.

    A heartbeat far in the future proves nothing by its age (a clock was set back): its process must exist.
    """
    if not heartbeat.running:
        return False
    age = now - heartbeat.at
    if age < -policy.heartbeat_timeout:
        return heartbeat.alive is True
    return age <= policy.heartbeat_timeout


def _owner(heartbeat: Heartbeat) -> str:
    if heartbeat.run_id is None:
        return f"a stream in the foreground (process {heartbeat.pid})"
    return f"run {heartbeat.run_id[:8]} (process {heartbeat.pid})"


def _describe_writer(heartbeat: Heartbeat) -> str:
    if heartbeat.run_id is None:
        return f"A stream runs in the foreground (process {heartbeat.pid}, {heartbeat.state})."
    return f"Run {heartbeat.run_id[:8]} is over, but process {heartbeat.pid} writes ({heartbeat.state})."


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
