"""Child processes that outlive surprises: started in a session of their own, recorded, ended completely.

Belongs here: how a process is started, recognised again by a later process, and ended with all it started.
Does not belong here: what is started (``kafka.broker``, ``cli``).

A process is recognised by pid *and* time of creation, since pids are used again. What it started in turn is
recognised by a token in the environment that children inherit: Dagster's run workers survive their parent in
sessions of their own, so neither the process tree nor the session leads to them after a crash.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import psutil

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.identity import living_process, start_of
from sentiment_assets.settings import Settings

logger = logging.getLogger(__name__)

_TOKEN_VARIABLE = "SENTIMENT_PROCESS_TOKEN"  # noqa: S105  (a name, not a secret)
_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Record:
    """What ``run/<name>.json`` says of a process.

    Attributes
    ----------
    create_time
        Its start (see ``identity.start_of``).
    log
        File that takes its output.
    token
        Value of the environment variable that all its descendants carry.
    facts
        What the owner wants to find again, such as an address.
    """

    pid: int
    create_time: float
    command: list[str]
    log: str
    token: str
    facts: dict[str, str] = field(default_factory=dict)


def read_record(settings: Settings, name: str) -> Record | None:
    """The record of a process, alive or not; None if there is none or it is damaged."""
    try:
        return Record(**json.loads(_record_path(settings, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def recorded_process(record: Record | None) -> psutil.Process | None:
    """The very process that a record names; None if it has ended, even if its pid is in use again."""
    return None if record is None else living_process(record.pid, record.create_time)


class ManagedProcess:
    """A child process with a log and a record, in a session of its own (a Ctrl-C does not reach it).

    Use :meth:`start`, or :meth:`recorded` for one that an earlier process started.
    """

    def __init__(self, name: str, settings: Settings, record: Record, process: psutil.Process) -> None:
        self.name = name
        self.log = Path(record.log)
        self._settings = settings
        self._record = record
        self._process = process
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        settings: Settings,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        cwd: Path | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a process and record it in ``run/<name>.json``.

        Parameters
        ----------
        env
            Its whole environment; that of this process by default.
        log
            File that takes stdout and stderr, appended; ``logs/<name>.log`` by default.
        facts
            Kept in the record.

        Raises
        ------
        SetupError
            When the program cannot be started, or the home cannot be written.
        """
        # A successor takes over the token, so that what its crashed predecessor left running ends with it.
        previous = read_record(settings, name)
        inherits = previous is not None and recorded_process(previous) is None
        token = previous.token if previous is not None and inherits else uuid.uuid4().hex
        target = log or settings.logs / f"{name}.log"
        try:
            with target.open("ab") as output:
                child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env={**(os.environ if env is None else env), _TOKEN_VARIABLE: token},
                    start_new_session=True,
                )
        except OSError as error:
            raise SetupError(
                f"{name} could not be started ({error.strerror}: {error.filename}).",
                "Run `sentiment-assets doctor`.",
            ) from error
        try:
            process = psutil.Process(child.pid)
            record = Record(
                child.pid, start_of(process), list(command), str(target), token, dict(facts or {})
            )
            managed = cls(name, settings, record, process)
            managed._child = child
            managed._write_record()
        except BaseException:
            child.kill()
            child.wait()
            raise
        return managed

    @classmethod
    def recorded(cls, name: str, settings: Settings) -> Self | None:
        """The running process that ``run/<name>.json`` names, whoever started it; else None."""
        record = read_record(settings, name)
        process = recorded_process(record)
        if record is None or process is None:
            return None
        return cls(name, settings, record, process)

    @property
    def pid(self) -> int:
        """Of the process that was started, or found."""
        return self._record.pid

    @property
    def facts(self) -> Mapping[str, str]:
        """What the record keeps beside the pid."""
        return self._record.facts

    @property
    def alive(self) -> bool:
        """Whether it still runs; another process that was given its number is not it."""
        if self._child is not None:
            return self._child.poll() is None
        return recorded_process(self._record) is not None

    @property
    def returncode(self) -> int | None:
        """Exit status of an ended child; None while it runs, or when an earlier process started it."""
        return None if self._child is None else self._child.poll()

    def note(self, **facts: str) -> None:
        """Add to the facts in the record."""
        self._record.facts.update(facts)
        self._write_record()

    def ask_to_end(self) -> None:
        """Send SIGTERM and return at once; :meth:`stop` waits for the end. No-op when it has ended."""
        if self.alive and not self._asked:
            self._asked = True
            _signal([self._process], signal.SIGTERM)

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Ask the process to end; after the grace, end it and all its descendants. No-op when it has ended.

        Descendants that outlive a process that ended in time are given the rest of the grace.
        """
        deadline = time.monotonic() + grace_seconds
        family = self._family()
        if self.alive:
            self.ask_to_end()
            if not self._ended_within(grace_seconds):
                logger.warning("%s (pid %s) did not end within %s s.", self.name, self.pid, grace_seconds)
        family = _unique([*family, *self._family()])
        _, left = psutil.wait_procs(family, timeout=max(0.0, deadline - time.monotonic()))
        if self.alive:
            _signal([self._process], signal.SIGKILL)
            self._ended_within(_KILL_SECONDS)
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=_KILL_SECONDS)
        _record_path(self._settings, self.name).unlink(missing_ok=True)

    def _ended_within(self, seconds: float) -> bool:
        try:
            if self._child is not None:
                self._child.wait(timeout=seconds)  # psutil would take the exit status
            else:
                self._process.wait(timeout=seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        return True

    def _family(self) -> list[psutil.Process]:
        """Descendants: by the process tree, and by the token where the tree is broken."""
        family: list[psutil.Process] = []
        if self.alive:
            try:
                family = self._process.children(recursive=True)
            except psutil.NoSuchProcess:
                family = []
        return _unique([*family, *_processes_with_token(self._record)])

    def _write_record(self) -> None:
        path = _record_path(self._settings, self.name)
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            partial.write_text(json.dumps(asdict(self._record), indent=1), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise SetupError(
                f"The record {path} cannot be written ({error.strerror}).",
                "Free some disk, or point SENTIMENT_HOME at a folder that can be written.",
            ) from error


def reap_recorded(settings: Settings, names: Iterable[str], grace_seconds: float = 5.0) -> list[str]:
    """End what an earlier, crashed process left behind, and remove its records.

    Only processes that match pid and time of creation of a record, or carry its token, are touched.

    Returns
    -------
    list of str
        Names of the records for which something was still running.
    """
    ended: list[str] = []
    for name in names:
        record = read_record(settings, name)
        if record is None:
            continue
        managed = ManagedProcess.recorded(name, settings)
        orphans = _processes_with_token(record)
        if managed is not None:
            managed.stop(grace_seconds)
        else:
            end_all(orphans, grace_seconds)
            _record_path(settings, name).unlink(missing_ok=True)
        if managed is not None or orphans:
            ended.append(name)
    return ended


def end_all(processes: Sequence[psutil.Process], grace_seconds: float) -> None:
    """Ask processes to end, and end those that still run after the grace."""
    _signal(processes, signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=grace_seconds)
    _signal(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=_KILL_SECONDS)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _processes_with_token(record: Record) -> list[psutil.Process]:
    """Processes that inherited the token, but for the recorded one itself and this one."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid in (record.pid, os.getpid()):
            continue
        try:
            if process.environ().get(_TOKEN_VARIABLE) == record.token:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # ended meanwhile, or not ours to look at
    return found


def _unique(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return list({process.pid: process for process in processes}.values())


def _record_path(settings: Settings, name: str) -> Path:
    return settings.run / f"{name}.json"
