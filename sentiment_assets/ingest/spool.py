"""The spool: posts on disk from the moment they come until Kafka has acknowledged them.

Belongs here: that file. Does not belong here: who fills it (``run``) and who empties it (``delivery``).

It is a transactional outbox in SQLite (stdlib): the posts, the ids seen and the position of the source are kept
in *one* transaction, so a crash at any moment loses no post and counts none twice. A queue library
(persist-queue, diskcache) keeps posts as well, but not together with the other two. Memory stays bounded
however long the broker is away; the disk is bounded by the capacity.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sentiment_assets.failures import SetupError
from sentiment_assets.sources.live import Post

IDS_REMEMBERED = 200_000
"""Ids by which duplicates are found: half an hour of 100 posts a second, far more than any overlap."""

_NOWHERE: Mapping[int, int] = {}
_SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_by_number ON seen (number);
CREATE TABLE IF NOT EXISTS ends (partition INTEGER PRIMARY KEY, following INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ends_of (only INTEGER PRIMARY KEY CHECK (only = 1), topic TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS source (only INTEGER PRIMARY KEY CHECK (only = 1), position TEXT NOT NULL);
"""


class Waiting(NamedTuple):
    """One post that Kafka has not acknowledged; ``number`` is its place in the order of arrival."""

    number: int
    key: bytes
    value: bytes

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key) + len(self.value)


class Spool:
    """The posts of one source on their way; usable by several threads of one process.

    Parameters
    ----------
    path
        SQLite file, created with its folder.
    capacity_bytes
        Size of the waiting posts above which :attr:`full` is true.

    Raises
    ------
    SetupError
        When the file cannot be used.
    """

    def __init__(self, path: Path, capacity_bytes: int) -> None:
        self._path = path
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self.arrived = threading.Event()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            # The lock orders the threads; transactions are begun by hand.
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._db.executescript(_SCHEMA)
            self._count, self._bytes = self._one(
                "SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM waiting"
            )
            (last,) = self._one(
                "SELECT max(coalesce((SELECT max(number) FROM waiting), 0),"
                " coalesce((SELECT max(number) FROM seen), 0))"
            )
        self._last = self._forgotten = int(last)

    @property
    def count(self) -> int:
        """Posts that wait."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether the source must wait."""
        return self._bytes >= self._capacity_bytes

    def position(self) -> str | None:
        """Where the source goes on, as kept with the last posts."""
        with self._lock, self._errors():
            row = self._db.execute("SELECT position FROM source").fetchone()
        return None if row is None else str(row[0])

    def add(self, posts: Sequence[Post], position: str | None, *, distinct: bool) -> int:
        """Keep posts and the source's position, in one transaction.

        Parameters
        ----------
        distinct
            Leave out posts whose id was seen before.

        Returns
        -------
        int
            Posts that were left out as duplicates.
        """
        with self._lock:
            with self._transaction():
                rows: list[Waiting] = []
                number = self._last
                for post in posts:
                    key = post.key()
                    if distinct:
                        seen = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, number + 1))
                        if seen.rowcount == 0:
                            continue
                    number += 1
                    rows.append(Waiting(number, key, post.value()))
                self._db.executemany("INSERT INTO waiting VALUES (?, ?, ?)", rows)
                if position is not None:
                    self._db.execute("INSERT OR REPLACE INTO source VALUES (1, ?)", (position,))
                forget = number - self._forgotten >= IDS_REMEMBERED // 10
                if forget:
                    self._db.execute("DELETE FROM seen WHERE number <= ?", (number - IDS_REMEMBERED,))
            self._last = number
            if forget:
                self._forgotten = number
            self._count += len(rows)
            self._bytes += sum(row.size for row in rows)
        if rows:
            self.arrived.set()
        return len(posts) - len(rows)

    def after(self, number: int, limit: int, most_bytes: int) -> list[Waiting]:
        """The waiting posts behind a place, in the order of arrival: at most so many, and none behind so many bytes."""
        found: list[Waiting] = []
        size = 0
        query = "SELECT number, key, value FROM waiting WHERE number > ? ORDER BY number LIMIT ?"
        # Closed: a statement that is not read to its end would hold its view of the file.
        with self._lock, self._errors(), closing(self._db.execute(query, (number, limit))) as rows:
            for row in rows:
                found.append(Waiting(*row))
                size += found[-1].size
                if size >= most_bytes:
                    break
        return found

    def remove(
        self, delivered: Iterable[Waiting], ends: Mapping[int, int] = _NOWHERE, *, topic: str = ""
    ) -> None:
        """Forget posts that Kafka has.

        Parameters
        ----------
        ends
            partition -> offset behind the last of them.
        topic
            Which topic these offsets are of: Kafka's id of it.
        """
        rows = list(delivered)
        with self._lock:
            with self._transaction():
                self._db.executemany("DELETE FROM waiting WHERE number = ?", ((row.number,) for row in rows))
                if ends:
                    moved = self._db.execute(
                        "INSERT INTO ends_of VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET topic = excluded.topic "
                        "WHERE topic != excluded.topic",
                        (topic,),
                    )
                    if moved.rowcount:
                        self._db.execute("DELETE FROM ends")
                    self._db.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?)", ends.items())
            self._count -= len(rows)
            self._bytes -= sum(row.size for row in rows)

    def ends(self, topic: str) -> dict[int, int]:
        """partition -> offset behind what is known to be delivered to this topic; empty if it was another one."""
        with self._lock, self._errors():
            found = self._db.execute(
                "SELECT partition, following FROM ends WHERE NOT EXISTS (SELECT 1 FROM ends_of WHERE topic != ?)",
                (topic,),
            )
            return dict(found.fetchall())

    def close(self) -> None:
        """Give disk back and close the file."""
        with self._lock, self._errors():
            self._db.execute("PRAGMA incremental_vacuum").fetchall()
            self._db.close()

    def _one(self, query: str) -> tuple[int, ...]:
        row: tuple[int, ...] = self._db.execute(query).fetchone()
        return row

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk makes SQLite roll back by itself, and a second time is an error that hides the first.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SetupError(
                f"The spool {self._path} cannot be used ({error}).",
                "Free some disk and start again: posts that were kept are still there. A damaged file can be "
                "deleted; the posts in it are then lost.",
            ) from error
