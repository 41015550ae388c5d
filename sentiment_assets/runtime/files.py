"""Small state files, replaced in one step so that a reader or a crash never sees half of one."""

import os
import shutil
from pathlib import Path

from fsspec.core import url_to_fs

from sentiment_assets.settings import is_local


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; nothing happens when it is not there.

    Raises
    ------
    OSError
        When something cannot be removed.
    """
    if is_local(folder):
        if folder.exists():
            shutil.rmtree(folder)
        return
    filesystem, path = url_to_fs(str(folder))
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


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
    if not is_local(target):
        # An object appears whole or not at all.
        target.write_text(content, encoding="utf-8")
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(target)
