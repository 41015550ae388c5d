"""Running a program whose output is passed on as it comes, and finding in it why the program failed.

``spark-submit`` starts the driver as a child of its own and joins both outputs of the driver in its standard output,
between lines of its own: the cause is easily overlooked there.
Does not belong here: which program (``calls``), what is said to the person (``run``).
"""

import contextlib
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from threading import Thread
from typing import BinaryIO, TextIO

import psutil

from sentiment_assets.runtime.processes import end_all
from sentiment_assets.terminal import printable

_KEPT_LINES = 400
_LAST_WORDS_SECONDS = 10
_GRACE_SECONDS = 10.0
_LONGEST_CAUSE = 400

_NOISE = re.compile(r"\s|\d\d/\d\d/\d\d \d\d:\d\d:\d\d |WARNING: |Caused by: |\.\.\. \d+ more")
"""Frames of a stack trace, log lines of the JVM, Java's own warnings."""
_STATED = re.compile(r"(?:error|Error): (?P<cause>.+)")
_RAISED = re.compile(r"(?:Exception in thread \S+ )?(?P<cause>[\w.$]*(?:Error|Exception)\b.*)")


def relay(call: Sequence[str]) -> tuple[int, str | None]:
    """Run a program to its end; its output is the person's at once, and SIGTERM the program's too.

    Returns
    -------
    tuple
        Its exit status, and the line that says most about its end (:func:`cause_in`).

    Raises
    ------
    SystemExit
        When this process was told to end: the program and what it started have ended then.
    """
    said: deque[str] = deque(maxlen=_KEPT_LINES)
    with _leaving_on_sigterm():
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        pumps = [
            Thread(target=_pass_on, args=(source, target, said), daemon=True)
            for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        ]
        for pump in pumps:
            pump.start()
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # The terminal has told the program as well, and how it ends is worth seeing.
            process.wait()
            raise
        except SystemExit:
            _end(process)
            raise
        finally:
            for pump in pumps:
                # A process that the program left behind may hold its output open.
                pump.join(_LAST_WORDS_SECONDS)
    return status, cause_in(said)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With what it has started: the driver outlives the JVM of ``spark-submit`` when no call of it is under way."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.wait()
    end_all(family, _GRACE_SECONDS)


@contextlib.contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """SIGTERM is a :class:`SystemExit` meanwhile, with the status that a shell gives it."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cause_in(lines: Iterable[str]) -> str | None:
    """The line of a failed program's output that says why: an error it states, else one it raised, else its last.

    Of several the last one, since programs report what they could not recover from when they end. A line of a log or
    of a stack trace is none of them.
    """
    telling = [line.strip() for line in lines if line.strip() and not _NOISE.match(line)]
    for shape in (_STATED, _RAISED):
        for line in reversed(telling):
            if found := shape.fullmatch(line):
                return _shortened(found["cause"])
    return _shortened(telling[-1]) if telling else None


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_CAUSE else f"{line[:_LONGEST_CAUSE]}…"


def _pass_on(source: BinaryIO, target: TextIO, said: deque[str]) -> None:
    """To a terminal as text that cannot drive it, anywhere else byte for byte."""
    on_terminal = target.isatty()
    for line in source:
        text = line.decode(errors="replace")
        said.append(text)
        shown = printable(text, "\n\t").encode(target.encoding, "replace") if on_terminal else line
        # `... | head`: nobody reads any more, and the program must not block on a full pipe.
        with contextlib.suppress(BrokenPipeError):
            target.buffer.write(shown)
            target.flush()
