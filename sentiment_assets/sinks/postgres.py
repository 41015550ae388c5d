"""The sink PostgreSQL: schema ``sentiment``, table ``predictions``, COPY and upsert.

Belongs here: its schema, its migrations, its writes. Does not belong here: what is written (``changes``).

Rows and position move in one transaction, so a crash of either side leaves them together.
"""

import io
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn, Ping
from pydantic import SecretStr

from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.sinks.base import SinkAwayError, SinkError
from sentiment_assets.sinks.changes import KEY, Batch, Position

MIGRATIONS = (
    """
    CREATE TABLE sentiment.predictions (
        topic text NOT NULL,
        "partition" integer NOT NULL,
        "offset" bigint NOT NULL,
        tweet_id text,
        author text,
        created_at timestamptz,
        sentiment text NOT NULL,
        probability double precision NOT NULL,
        model_version text NOT NULL,
        kafka_timestamp timestamptz NOT NULL,
        scored_at timestamptz NOT NULL,
        text text NOT NULL,
        PRIMARY KEY (topic, "partition", "offset")
    );
    CREATE INDEX predictions_kafka_timestamp ON sentiment.predictions (kafka_timestamp);
    CREATE INDEX predictions_tweet_id ON sentiment.predictions (tweet_id);
    CREATE TABLE sentiment.followed (
        singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        table_id text NOT NULL,
        version bigint NOT NULL,
        files integer,
        whole boolean NOT NULL,
        moved_at timestamptz NOT NULL DEFAULT now()
    );
    """,
    # An id is text of a stranger, and an entry of a B-tree must not be longer than 2,704 bytes.
    """
    DROP INDEX IF EXISTS sentiment.predictions_tweet_id;
    CREATE INDEX predictions_tweet_id ON sentiment.predictions USING hash (tweet_id);
    """,
)
"""Statements that lead from one version of the schema to the next; never edited, only added to."""

# While connecting, psycopg knows no SQLSTATE. What a server reports is known by libpq's form, "FATAL:  text", with the
# severity and the text in any language; too many connections (53300) only by English words.
_REPORT = re.compile(r": \w+:  ")
_TOO_MANY = re.compile("too many (clients|connections)|connection slots")
# A statement may take longer; then it is asked whether the server still answers. A lock is not waited for longer.
_SILENCE_SECONDS = 60.0
# Any number; it keeps two followers of one database apart.
_LOCK = 7_367_616
_COLUMNS = [column.name for column in PREDICTIONS.columns]
_STRINGS = [column.name for column in PREDICTIONS.columns if column.type == "STRING"]
_IDENTIFIERS = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
_KEY = sql.SQL(", ").join(map(sql.Identifier, KEY))
_INCOMING = sql.SQL(
    "CREATE TEMPORARY TABLE incoming (LIKE sentiment.predictions,"
    " arrival bigint GENERATED ALWAYS AS IDENTITY) ON COMMIT DELETE ROWS"
)
_COPY = sql.SQL("COPY incoming ({}) FROM STDIN (FORMAT csv)").format(_IDENTIFIERS)
# A key that comes twice in a batch would be an error; the later row is the newer one.
_UPSERT = sql.SQL(
    "INSERT INTO sentiment.predictions ({columns})"
    " SELECT DISTINCT ON ({key}) {columns} FROM incoming ORDER BY {key}, arrival DESC"
    " ON CONFLICT ({key}) DO UPDATE SET {assignments}"
).format(
    columns=_IDENTIFIERS,
    key=_KEY,
    assignments=sql.SQL(", ").join(
        sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in _COLUMNS if name not in KEY
    ),
)
_DELETE = 'DELETE FROM sentiment.predictions WHERE topic = %s AND "partition" = %s AND "offset" = ANY(%s)'
_FOLLOWED = (
    "INSERT INTO sentiment.followed (table_id, version, files, whole) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT (singleton) DO UPDATE SET table_id = EXCLUDED.table_id, version = EXCLUDED.version,"
    " files = EXCLUDED.files, whole = EXCLUDED.whole, moved_at = now()"
)


class PostgresSink:
    """Follows the predictions into a PostgreSQL database (version 12 or later).

    Parameters
    ----------
    dsn
        Connection string or URL; its user must be allowed to create the schema ``sentiment`` or own it.

    Raises
    ------
    SinkError
        When the string cannot be read.
    """

    name = "postgres"

    def __init__(self, dsn: SecretStr) -> None:
        try:
            parts = conninfo_to_dict(dsn.get_secret_value())
        except psycopg.ProgrammingError:
            raise SinkError(
                "SENTIMENT_SINK_POSTGRES_DSN is no connection string.",
                "Set it to postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
            ) from None
        _refuse_split_password(dsn.get_secret_value(), parts)
        self.where = f"{parts.get('host', 'the local socket')}, database {parts.get('dbname', 'by default')}"
        self._dsn = make_conninfo(
            **{
                "connect_timeout": "5",
                "application_name": "sentiment-assets",
                # A host that is gone is noticed within half a minute instead of two hours.
                "keepalives_idle": "10",
                "keepalives_interval": "5",
                "keepalives_count": "3",
                "tcp_user_timeout": "30000",
                **{name: str(value) for name, value in parts.items() if value is not None},
                # What COPY is given, whatever the database and the environment say.
                "client_encoding": "UTF8",
            }
        )
        self._connection: psycopg.Connection[Any] | None = None
        self._admitted = False

    def open(self, *, reading: bool = False) -> None:
        """Connect, take the follower's lock, create or migrate the schema."""
        self.close()
        with self._errors():
            self._connection = connection = self._connected()
            with self._watched():
                milliseconds = sql.Literal(int(_SILENCE_SECONDS * 1000))
                connection.execute(sql.SQL("SET lock_timeout = {}").format(milliseconds))
                if reading:
                    return
                self._lock(connection)
                self._migrate(connection)
                connection.execute(_INCOMING)

    def position(self) -> Position | None:
        """The row of ``sentiment.followed``."""
        row = self._one("SELECT table_id, version, files, whole FROM sentiment.followed")
        return None if row is None else Position(*row)

    def write(self, batch: Batch) -> None:
        """COPY into a temporary table, upsert from there, delete, and note the position: one transaction."""
        position = batch.position
        with self._errors(), self._watched(), self._open.transaction(), self._open.cursor() as cursor:
            if batch.files:
                with cursor.copy(_COPY) as copy:
                    for rows in batch.tables():
                        copy.write(_csv(rows))
                cursor.execute(_UPSERT)
            for topic, partition, offsets in batch.deleted_keys():
                cursor.execute(_DELETE, (topic, partition, offsets.tolist()))
            cursor.execute(_FOLLOWED, (position.table_id, position.version, position.files, position.whole))

    def clear(self) -> None:
        """Empty the tables."""
        with self._errors(), self._watched():
            self._open.execute("TRUNCATE sentiment.predictions, sentiment.followed")

    def count(self) -> int:
        """Exact number of rows."""
        row = self._one("SELECT count(*) FROM sentiment.predictions")
        return int(row[0]) if row else 0

    def close(self) -> None:
        """End the connection, whatever its state."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    @property
    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            raise SinkAwayError("not connected")
        return self._connection

    def _one(self, query: LiteralString) -> tuple[Any, ...] | None:
        """The first row; None as well before the schema is there."""
        with self._errors(), self._watched():
            try:
                return self._open.execute(query).fetchone()
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                return None

    def _connected(self) -> psycopg.Connection[Any]:
        """A new connection; a server that has let us in before may report what it likes, it is then only away.

        Raises
        ------
        SinkError
            When it refuses the first one.
        """
        try:
            connection = psycopg.connect(self._dsn, autocommit=True)
        except psycopg.OperationalError as error:
            if self._admitted or not self._refused(error):
                raise
            raise SinkError(
                f"PostgreSQL at {self.where} refuses ({_first_line(error)}).",
                "Check SENTIMENT_SINK_POSTGRES_DSN (user, password, database), and whom the server lets in.",
            ) from None
        self._admitted = True
        return connection

    def _refused(self, error: psycopg.OperationalError) -> bool:
        """Whether a server has answered that will answer the same again."""
        # The lines below the first are about other hosts of the address.
        said = str(error).partition("\n")[0]
        answered = _REPORT.search(said) or (error.pgconn and error.pgconn.needs_password)
        if not answered or _TOO_MANY.search(said):
            return False
        # While a server starts, stops or recovers, it rejects everybody.
        return PGconn.ping(make_conninfo(self._dsn, connect_timeout=5).encode()) == Ping.OK

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """End the connection when its server has fallen silent: of a process that is stopped, TCP never tells."""
        done = threading.Event()
        # A number of its own: that of the connection may be another's once it is closed.
        wire = socket.socket(fileno=os.dup(self._open.fileno()))

        def watch() -> None:
            with wire:
                while not done.wait(_SILENCE_SECONDS):
                    if self._silent():
                        with suppress(OSError):
                            wire.shutdown(socket.SHUT_RDWR)
                        return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _silent(self) -> bool:
        """Whether the server takes connections and says nothing on them."""
        try:
            psycopg.connect(self._dsn).close()
        except errors.ConnectionTimeout:
            return True
        except psycopg.Error:
            # It answers, or it is gone, which the connection itself will notice.
            return False
        return False

    def _lock(self, connection: psycopg.Connection[Any]) -> None:
        """Keep a second follower out for as long as the connection lives."""
        try:
            with connection.transaction():
                # A predecessor that has just gone may still be on its way out.
                connection.execute("SET LOCAL lock_timeout = '3s'")
                connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        except errors.LockNotAvailable:
            self.close()
            raise SinkAwayError(f"another process follows into PostgreSQL at {self.where}") from None

    def _migrate(self, connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            # IF NOT EXISTS would ask for the right to create one even where it is there.
            if connection.execute("SELECT to_regnamespace('sentiment')").fetchone() == (None,):
                connection.execute("CREATE SCHEMA sentiment")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS sentiment.schema_version"
                " (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            row = connection.execute("SELECT max(version) FROM sentiment.schema_version").fetchone()
            found = row[0] if row and row[0] is not None else 0
            if found > len(MIGRATIONS):
                raise SinkError(
                    f"The schema sentiment in PostgreSQL at {self.where} has version {found}; this release "
                    f"knows {len(MIGRATIONS)}.",
                    "Use the release that made it, or a newer one.",
                )
            for number, statements in enumerate(MIGRATIONS[found:], found + 1):
                connection.execute(statements)
                connection.execute("INSERT INTO sentiment.schema_version (version) VALUES (%s)", (number,))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (errors.InvalidPassword, errors.InvalidAuthorizationSpecification, errors.InvalidCatalogName,
                errors.InsufficientPrivilege) as error:  # fmt: skip
            raise SinkError(
                f"PostgreSQL at {self.where} refuses ({_first_line(error)}).",
                "Check SENTIMENT_SINK_POSTGRES_DSN: user, password, database, and the right to CREATE a schema.",
            ) from None
        except errors.ProgramLimitExceeded as error:
            raise SinkError(
                f"PostgreSQL at {self.where} refuses a batch ({_first_line(error)}).",
                "Drop the index that it names, if it is not one of ours; the sink then goes on.",
            ) from None
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            # A standby, as after a fail-over: the address may soon lead to the primary.
            errors.ReadOnlySqlTransaction,
        ) as error:
            raise SinkAwayError(f"PostgreSQL at {self.where}: {_first_line(error)}") from None
        except psycopg.Error as error:
            raise SinkError(
                f"PostgreSQL at {self.where} refuses a batch ({_first_line(error)}).",
                "Mend the cause, or copy the table anew with `sentiment-assets sink run --resync`.",
            ) from None


def _refuse_split_password(text: str, parts: dict[str, Any]) -> None:
    """An unescaped ``@`` or ``/`` ends the password early, and its rest would be shown as host, port or database.

    Raises
    ------
    SinkError
        When that has happened; says nothing of the parts.
    """
    host, port, database = (str(parts.get(name) or "") for name in ("host", "port", "dbname"))
    # A socket of its own kind begins with it; in the database's name it may stand escaped.
    split = "@" in host[1:] or ("@" in database and "%40" not in text)
    if split or not (port.replace(",", "") or "0").isdecimal():
        raise SinkError(
            "SENTIMENT_SINK_POSTGRES_DSN cannot be taken apart.",
            "Percent-encode special characters of user and password: @ is %40, / is %2F, : is %3A.",
        )


def _csv(rows: pa.RecordBatch) -> bytes:
    """CSV in which an empty text is quoted and a null is not, as COPY tells them apart."""
    for name in _STRINGS:
        place = rows.schema.get_field_index(name)
        # The one character that PostgreSQL's text cannot hold.
        if pc.any(pc.match_substring(rows.column(place), "\0")).as_py():
            clean = pc.replace_substring(rows.column(place), "\0", "\N{REPLACEMENT CHARACTER}")
            rows = rows.set_column(place, name, clean)
    buffer = io.BytesIO()
    pacsv.write_csv(
        rows.select(_COLUMNS), buffer, pacsv.WriteOptions(include_header=False, quoting_style="needed")
    )
    return buffer.getvalue()


def _first_line(error: psycopg.Error) -> str:
    """What the server said, without the statement's parameters (they are texts of tweets)."""
    said = error.diag.message_primary or str(error)
    return next(iter(said.splitlines()), type(error).__name__)[:200]
