"""The sink MongoDB: collections ``predictions`` and ``followed``.

Belongs here: its indexes, its migrations, its writes. Does not belong here: what is written (``changes``).

A single server has no transactions, so none is needed: the rows are written first, acknowledged from disk, and
the position after them. A crash in between repeats a batch, and a document replaced by itself is the same
document: the effect is exactly once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

# Both come with pymongo.
from bson import decode, encode
from dns.exception import DNSException
from dns.resolver import NXDOMAIN, NoAnswer
from pydantic import SecretStr
from pymongo import ASCENDING, DeleteMany, MongoClient, ReadPreference, ReplaceOne, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.uri_parser import parse_uri

from sentiment_assets.sinks.base import SinkAwayError, SinkError
from sentiment_assets.sinks.changes import KEY, Batch, Position

VERSION = 1
DATABASE = "sentiment"
"""Where the URI names none."""

_SRV = "mongodb+srv://"
_DOCUMENTS_AT_ONCE = 5_000
_ANSWER_MILLISECONDS = 3_000
_DUPLICATE = 11000
"""MongoDB's error code of a key that is there already."""
_NO_ADDRESS = "SENTIMENT_SINK_MONGODB_URI is no MongoDB address."
_ESCAPE = "Escape what is not a letter or a digit in user and password: '/' as %2F, '@' as %40."
_NEXT_STEP = "Set SENTIMENT_SINK_MONGODB_URI to mongodb://USER:PASSWORD@HOST:PORT/DATABASE."

Document = dict[str, Any]


class MongoSink:
    """Follows the predictions into a MongoDB database.

    Parameters
    ----------
    uri
        Connection string; its path names the database.

    Raises
    ------
    SinkError
        When the URI cannot be read.
    """

    name = "mongodb"

    def __init__(self, uri: SecretStr) -> None:
        self._uri = uri
        try:
            text = uri.get_secret_value()
            if srv := text.startswith(_SRV):
                # Looked up only when the connection is made, and so are options that are allowed here alone.
                text = text.replace(_SRV, "mongodb://", 1).partition("?")[0]
            parts = parse_uri(text, validate=True)
        except (InvalidURI, ConfigurationError, InvalidName, ValueError):
            raise SinkError(_NO_ADDRESS, _NEXT_STEP) from None
        if "@" in f"{parts['database']}{parts['collection']}":
            # A password with a slash that was not escaped: what follows it would be shown.
            raise SinkError(_NO_ADDRESS, _ESCAPE)
        hosts = ", ".join(host if srv else f"{host}:{port}" for host, port in parts["nodelist"])
        self.where = f"{hosts}, database {parts['database'] or DATABASE}"
        self._client: MongoClient[Document] | None = None
        self._found = False

    def open(self, *, reading: bool = False) -> None:
        """Connect, and create or migrate the indexes."""
        self.close()
        with self._errors():
            self._client = self._connected()
            if not reading:
                self._migrate()
                self._found = True

    def _connected(self) -> MongoClient[Document]:
        try:
            return MongoClient(
                self._uri.get_secret_value(),
                serverSelectionTimeoutMS=_ANSWER_MILLISECONDS,
                connectTimeoutMS=_ANSWER_MILLISECONDS,
                appname="sentiment-assets",
                tz_aware=True,
                tzinfo=UTC,
            )
        except ValueError:
            # Its text may hold a part of the password.
            raise SinkError(_NO_ADDRESS, _ESCAPE) from None

    def position(self) -> Position | None:
        """The document of ``followed``."""
        with self._errors():
            found = self._followed.find_one({"_id": "position"})
        if found is None:
            return None
        return Position(str(found["table_id"]), int(found["version"]), found["files"], bool(found["whole"]))

    def write(self, batch: Batch) -> None:
        """Insert or replace the documents, delete, then note the position."""
        with self._errors():
            # Appended rows are new, unless the batch is repeated after a crash; a rescore's are all known.
            store = self._replace if batch.rewrites else self._insert
            for rows in batch.tables():
                documents = rows.to_pylist()
                for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
                    store(documents[start : start + _DOCUMENTS_AT_ONCE])
            for topic, partition, offsets in batch.deleted_keys():
                for start in range(0, len(offsets), _DOCUMENTS_AT_ONCE):
                    part = offsets[start : start + _DOCUMENTS_AT_ONCE].tolist()
                    query = {"topic": topic, "partition": partition, "offset": {"$in": part}}
                    self._predictions.bulk_write([DeleteMany(query)])
            position = vars(batch.position) | {"moved_at": datetime.now(UTC)}
            self._followed.replace_one({"_id": "position"}, position, upsert=True)

    def _insert(self, rows: list[Document]) -> None:
        """Insert rows, and replace those that are there already with other values."""
        try:
            self._predictions.insert_many([{"_id": _id(row)} | row for row in rows], ordered=False)
        except BulkWriteError as error:
            refused = error.details.get("writeErrors", [])
            if error.details.get("writeConcernErrors") or any(one["code"] != _DUPLICATE for one in refused):
                raise
            there = [rows[index] for index in sorted(one["index"] for one in refused)]
            found = self._predictions.find({"_id": {"$in": [_id(row) for row in there]}})
            stored = {document["_id"]: document for document in found}
            options = self._predictions.codec_options
            # As BSON holds them: times in milliseconds.
            wanted = [decode(encode({"_id": _id(row)} | row), options) for row in there]
            self._replace(
                [row for row, one in zip(there, wanted, strict=True) if stored.get(one["_id"]) != one]
            )

    def _replace(self, rows: list[Document]) -> None:
        """Replace or insert rows, in order: of a key that comes twice the later row is the newer one."""
        if rows:
            changes = [ReplaceOne({"_id": _id(row)}, row, upsert=True) for row in rows]
            self._predictions.bulk_write(changes, ordered=True)

    def clear(self) -> None:
        """Delete all documents; the position first, so that a crash in between begins anew."""
        with self._errors():
            self._followed.delete_one({"_id": "position"})
            # In pieces that the server answers in time; dropped, the collection would lose a person's indexes.
            while ids := [
                row["_id"] for row in self._predictions.find({}, {"_id": 1}).limit(_DOCUMENTS_AT_ONCE)
            ]:
                self._predictions.delete_many({"_id": {"$in": ids}})

    def count(self) -> int:
        """Exact number of documents."""
        with self._errors():
            return self._predictions.count_documents({})

    def close(self) -> None:
        """End the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _database(self) -> Database[Document]:
        if self._client is None:
            raise SinkAwayError("not connected")
        # Acknowledged by a majority, from the journal: what is noted as done survives a crash. Read from the primary,
        # whatever the address says: another member may not know yet what was noted.
        return self._client.get_default_database(DATABASE).with_options(
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=60_000),
        )

    @property
    def _predictions(self) -> Collection[Document]:
        return self._database["predictions"]

    @property
    def _followed(self) -> Collection[Document]:
        return self._database["followed"]

    def _migrate(self) -> None:
        found = self._followed.find_one({"_id": "schema"})
        version = int(found["version"]) if found else 0
        if version > VERSION:
            raise SinkError(
                f"The collections in MongoDB at {self.where} have version {version}; this release knows {VERSION}.",
                "Use the release that made them, or a newer one.",
            )
        if version == 0 and self._predictions.find_one({}, {"_id": 1}) is not None:
            # The first copy begins by clearing what an earlier one may have left.
            raise SinkError(
                f"MongoDB at {self.where} has a collection predictions that this product did not make.",
                "Name another database in SENTIMENT_SINK_MONGODB_URI, or remove the collection if nobody needs it.",
            )
        if version < VERSION:
            ascending = [(name, ASCENDING) for name in KEY]
            # Not unique: `_id` is that already, and a second promise could only contradict the first.
            self._predictions.create_index(ascending, name="key")
            self._predictions.create_index("kafka_timestamp", name="kafka_timestamp")
            self._predictions.create_index("tweet_id", name="tweet_id")
            self._followed.replace_one({"_id": "schema"}, {"version": VERSION}, upsert=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (AutoReconnect, ConnectionFailure, WTimeoutError) as error:
            # Behind it pymongo adds a description that differs each time.
            reason = str(error).partition(", Timeout: ")[0][:200]
            raise SinkAwayError(f"MongoDB at {self.where}: {reason}") from None
        except (InvalidURI, ConfigurationError) as error:
            if (cause := self._unresolved(error)) is not None:
                raise SinkAwayError(f"MongoDB at {self.where}: it cannot be looked up ({cause})") from None
            raise SinkError(
                f"MongoDB at {self.where} cannot be used ({str(error)[:200]}).", _NEXT_STEP
            ) from None
        except OperationFailure as error:
            if _only_waits(error):
                raise SinkAwayError(f"MongoDB at {self.where}: {_said(error)}") from None
            raise SinkError(
                f"MongoDB at {self.where} refuses ({_said(error)}).",
                "Check user, password and rights in SENTIMENT_SINK_MONGODB_URI.",
            ) from None
        except PyMongoError as error:
            raise SinkError(
                f"MongoDB at {self.where} refuses ({type(error).__name__}).",
                "Mend the cause, or copy the table anew with `sentiment-assets sink run --resync`.",
            ) from None

    def _unresolved(self, error: PyMongoError) -> str | None:
        """What ails the name service; None where the fault is the address: a name that it never knew, or another."""
        cause = error.__context__
        unknown = isinstance(cause, NXDOMAIN | NoAnswer) and not self._found
        return type(cause).__name__ if isinstance(cause, DNSException) and not unknown else None


def _only_waits(error: OperationFailure) -> bool:
    """Whether all was written and only its acknowledgement by a majority is missing; written again it does no harm."""
    details = error.details or {}
    refused = [one.get("code") for one in details.get("writeErrors") or [] if one.get("code") != _DUPLICATE]
    return bool(details.get("writeConcernErrors")) and not refused


def _said(error: OperationFailure) -> str:
    """Code and message of the server, without the documents of the request."""
    details = error.details or {}
    failures = details.get("writeErrors") or details.get("writeConcernErrors") or [details]
    said = failures[0].get("errmsg") or str(error)
    return f"code {failures[0].get('code', error.code)}: {str(said)[:200]}"


def _id(row: Document) -> str:
    return f"{row['topic']}/{row['partition']}/{row['offset']}"
