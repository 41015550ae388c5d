"""Data files of a busy table that no readable version needs any more. Starts no JVM.

A stream's table gets a file twice a second and merges them later, so a million files a week are replaced. Delta
remembers each of them in every checkpoint until VACUUM may delete it: with a million remembered, a checkpoint stalled
the stream for 15 s (measured). So the table forgets them after an hour (``schemas``), and what VACUUM would need to
know stands in the commits of the last week, in the log and its archive.
Belongs here: which files may go. Does not belong here: commits (``log``), when it is done (``streaming.care``).
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from sentiment_assets.lake.log import DAYS, removals
from sentiment_assets.lake.opening import open_table

_DAY_SECONDS = 86_400


def remove_old_files(path: Path, *, now: float | None = None) -> int:
    """Delete data files that the table has not had for a week.

    A file stays when the newest version has it, when a commit of the last week took it away (a pinned version may have
    it, or a reader that began before), or when it is younger than a week (a commit under way may be about to add it).

    Parameters
    ----------
    path
        A table of this machine without partitions; only who may write it may call this.
    now
        Seconds since the epoch; for tests.

    Returns
    -------
    int
        Files that were deleted.

    Raises
    ------
    DeltaError, OSError
        When the table cannot be read, or a file not be deleted.
    """
    oldest = (time.time() if now is None else now) - DAYS * _DAY_SECONDS
    # The folder first: what is committed meanwhile is younger than anything that may go.
    old = {entry.name for entry in _data_files(path) if entry.stat().st_mtime < oldest}
    if not old:
        return 0
    old -= {unquote(file) for file in open_table(path).get_add_actions(flatten=True)["path"].to_pylist()}
    for removed in removals(path):
        if removed.get("deletionTimestamp", 0) / 1000 >= oldest:
            old.discard(unquote(removed["path"]))
    for name in old:
        (path / name).unlink(missing_ok=True)
        (path / f".{name}.crc").unlink(missing_ok=True)
    return len(old)


def _data_files(path: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.endswith(".parquet") and entry.name[0] not in "._":
                yield entry
