"""Running the calls, or printing them as a person could type them.

Does not belong here: what the calls are (``calls``).
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sentiment_assets.failures import SetupError
from sentiment_assets.submit.calls import Call
from sentiment_assets.submit.relay import relay


def find_spark_submit() -> str:
    """``spark-submit`` of ``SPARK_HOME``, else the one that pyspark ships.

    Raises
    ------
    SetupError
        When there is neither.
    """
    spec = find_spec("pyspark")
    homes = [os.environ.get("SPARK_HOME"), *((spec.submodule_search_locations or []) if spec else [])]
    for home in homes:
        program = Path(home, "bin", "spark-submit") if home else None
        if program is not None and program.is_file():
            return str(program)
    raise SetupError("There is no spark-submit.", "Set SPARK_HOME, or run `make setup`.")


def as_text(calls: Sequence[Call]) -> str:
    """The calls as shell commands, one option a line."""
    return "\n\n".join(_as_lines(call) for call in calls)


def execute(calls: Sequence[Call], *, relayed: bool = False) -> None:
    """Run one call after the other; their output is the person's.

    Parameters
    ----------
    relayed
        Read the output on its way, so that the error names the cause; the programs then write to no terminal.

    Raises
    ------
    SetupError
        When a program is missing or fails.
    """
    for call in calls:
        if shutil.which(call[0]) is None:
            raise SetupError(
                f"The program {call[0]} is not installed.", "Install it, or see the calls with --dry-run."
            )
        status, cause = relay(call) if relayed else (subprocess.run(call, check=False).returncode, None)
        if status != 0:
            ended = f"`{shlex.join(call[:3])} …` ended with status {status}"
            raise SetupError(
                f"{ended}: {cause.rstrip('.')}." if cause else f"{ended}.",
                "Its whole output is above; see the calls with --dry-run.",
            )


def _as_lines(call: Call) -> str:
    """A new line before each option and after ``--``; everything quoted as a shell needs it."""
    lines: list[list[str]] = [[]]
    command_follows = False
    for word in call:
        if word.startswith("-") and not command_follows and lines[0]:
            lines.append([])
        command_follows = command_follows or word == "--"
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)
