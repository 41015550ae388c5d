"""Small state files, replaced in one step so that a reader or a crash never sees half of one."""

import os
from pathlib import Path


def replace_file(target: Path, content: str, *, durable: bool = True) -> None:
    """Write ``content`` to ``target``: a reader sees the old content or the new one, never a part.

    Parameters
    ----------
    durable
        Survive a power cut too, for one flush of the disk; false for what is written every second.

    Raises
    ------
    OSError
        When the disk is full or the folder is gone.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(target)
