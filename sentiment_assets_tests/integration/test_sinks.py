"""PostgreSQL and MongoDB follow the table: the same rows after kills of either side, without a word to the stream."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import SecretStr
from pymongo import MongoClient

from sentiment_assets.failures import TableError
from sentiment_assets.lake.log import trim
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.schemas import FIRST_MOMENT, LAST_MOMENT, PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.sinks import postgres
from sentiment_assets.sinks.base import Sink, SinkAwayError, SinkError
from sentiment_assets.sinks.changes import TableChanges
from sentiment_assets.sinks.configured import make_sink
from sentiment_assets.sinks.follow import Followed, count_rows, follow, read_followed
from sentiment_assets.sinks.mongodb import MongoSink
from sentiment_assets.sinks.postgres import PostgresSink
from sentiment_assets_tests.peers.databases import PASSWORD, MongoServer, PostgresServer
from sentiment_assets_tests.peers.names import CLUSTER, NameServer
from sentiment_assets_tests.peers.predictions import (
    YEAR_0,
    YEAR_10000,
    append,
    checksum,
    rescore,
    rows,
    table_rows,
    with_times,
)

Server = PostgresServer | MongoServer


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def mongo_server(session_settings: Settings) -> Iterator[MongoServer]:
    with MongoServer(session_settings) as server:
        yield server


@pytest.fixture(params=["postgres", "mongodb"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(name: str, request: pytest.FixtureRequest) -> Server:
    fixture = {"postgres": "postgres_server", "mongodb": "mongo_server"}[name]
    found: Server = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def configured(settings: Settings, name: str, server: Server) -> Settings:
    """Settings with the sink switched on, and empty databases."""
    update: dict[str, Any] = (
        {"sink_postgres_dsn": server.dsn}
        if isinstance(server, PostgresServer)
        else {"sink_mongodb_uri": server.uri}
    )
    found = settings.model_copy(update=update)
    sink = make_sink(found, name)
    sink.open()
    sink.clear()
    sink.close()
    return found


@pytest.fixture
def sink(configured: Settings, name: str) -> Sink:
    return make_sink(configured, name)


@pytest.fixture
def table(configured: Settings) -> Path:
    return configured.table(PREDICTIONS.name)


def catch_up(sink: Sink, table: Path, **options: Any) -> Followed:
    return follow(sink, table, threading.Event(), once=True, **options)


def test_the_sink_holds_what_the_table_holds_after_appends_rescore_deletion_and_compaction(
    sink: Sink, table: Path, server: Server
) -> None:
    assert catch_up(sink, table).table_version is None, "no table yet is no fault"
    append(table, 0, 499)
    append(table, 500, 999)
    assert catch_up(sink, table, rows=600).batches == 2
    assert checksum(server.rows()) == checksum(table_rows(table))
    append(table, 1000, 1199)
    rescore(table, 0, 1199, "model-2")
    DeltaTable(str(table)).delete("offset = 7")
    append(table, 1200, 1249)
    DeltaTable(str(table)).optimize.compact()
    append(table, 1250, 1299)
    followed = catch_up(sink, table, rows=600)
    assert (followed.version, followed.lag_versions) == (7, 0)
    assert checksum(server.rows()) == checksum(table_rows(table))
    assert catch_up(sink, table).batches == 0, "nothing new, nothing written"


def test_a_batch_that_is_repeated_after_a_crash_changes_nothing(
    sink: Sink, table: Path, server: Server
) -> None:
    append(table, 0, 299)
    changes = TableChanges.open(table)
    assert changes is not None
    (batch,) = changes.batches(None)
    sink.open()
    for _ in range(2):
        sink.write(batch)
    sink.close()
    assert checksum(server.rows()) == checksum(table_rows(table))


def test_rows_deleted_before_a_trim_do_not_stay_of_a_first_copy_that_it_cut_off(
    sink: Sink, table: Path, server: Server
) -> None:
    for number in range(4):
        append(table, number * 10, number * 10 + 9)
    stop = threading.Event()
    assert follow(sink, table, stop, rows=10, on_progress=lambda _state: stop.set()).batches == 1
    DeltaTable(str(table)).delete("offset < 3")
    DeltaTable(str(table)).create_checkpoint()
    assert trim(table, keep=0, least=1) == 4
    catch_up(sink, table, rows=10)
    assert checksum(server.rows()) == checksum(table_rows(table))


def test_an_id_of_any_length_and_a_date_of_any_year_are_taken(
    sink: Sink, table: Path, server: Server
) -> None:
    made = rows(0, 99)
    long = pa.array(["made up " + secrets.token_urlsafe(9_000)] * 100, pa.string())
    made = made.set_column(made.schema.get_field_index("tweet_id"), made.schema.field("tweet_id"), long)
    # From the year 10000 on, and what microseconds give that are taken for milliseconds; and before the year 1.
    late = with_times(made, created_at=YEAR_10000, kafka_timestamp=1_700_000_000_000_000_000)
    write_deltalake(str(table), late)
    early = with_times(rows(100, 199), created_at=YEAR_0, kafka_timestamp=-(10**17))
    write_deltalake(str(table), early, mode="append")
    assert catch_up(sink, table).lag_versions == 0
    assert count_rows(sink) == 200
    held = {row["kafka_timestamp"].replace(tzinfo=UTC) for row in server.rows()}
    assert held == {datetime.fromisoformat(moment) for moment in (FIRST_MOMENT, LAST_MOMENT)}
    assert {row["created_at"] for row in server.rows()} == {None}


def test_what_a_killed_resync_left_in_mongodb_is_cleared_away(
    mongo_server: MongoServer, settings: Settings
) -> None:
    configured = settings.model_copy(update={"sink_mongodb_uri": mongo_server.uri})
    sink, table = make_sink(configured, "mongodb"), configured.table(PREDICTIONS.name)
    append(table, 0, 99)
    catch_up(sink, table, resync=True)
    with MongoClient[dict[str, Any]](mongo_server.uri.get_secret_value()) as client:
        client.get_default_database()["followed"].delete_one({"_id": "position"})
    DeltaTable(str(table)).delete("offset >= 40")
    catch_up(sink, table)
    assert checksum(mongo_server.rows()) == checksum(table_rows(table))


def test_a_collection_that_is_not_ours_is_left_alone(mongo_server: MongoServer, tmp_path: Path) -> None:
    home = Settings(home=tmp_path / "home").prepare()
    table = home.table(PREDICTIONS.name)
    append(table, 0, 9)
    uri = mongo_server.uri.get_secret_value().replace("/follow_test", "/of_somebody_else")
    with MongoClient[dict[str, Any]](uri) as client:
        theirs = client.get_default_database()["predictions"]
        assert theirs.database.name == "of_somebody_else"
        theirs.insert_one({"_id": 1, "weather": "fair"})
        with pytest.raises(SinkError, match="did not make"):
            catch_up(MongoSink(SecretStr(uri)), table)
        assert [found["weather"] for found in theirs.find()] == ["fair"]
        theirs.drop()
    assert catch_up(MongoSink(SecretStr(uri)), table).rows == 10


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:12/secret@127.0.0.1:1/x",
        "mongodb://user:12/a.secret@127.0.0.1:1",
        "mongodb+srv://user:very/secret@127.0.0.1/x",
        "mongodb://user:very/secret@127.0.0.1/x",
    ],
)
def test_a_password_of_mongodb_that_is_not_escaped_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(SinkError, match="is no MongoDB address") as failure:
        MongoSink(SecretStr(uri)).open()
    assert "secret" not in str(failure.value)


def test_a_name_service_that_fails_is_waited_for_and_a_name_that_it_never_knew_is_an_error(
    mongo_server: MongoServer,
) -> None:
    port = int(mongo_server.uri.get_secret_value().rpartition(":")[2].partition("/")[0])
    sink = MongoSink(SecretStr(f"mongodb+srv://{CLUSTER}/by_name?tls=false"))
    assert sink.where == f"{CLUSTER}, database by_name"
    with NameServer(port) as names:
        names.silent = True
        with pytest.raises(SinkAwayError, match="cannot be looked up"):
            sink.open()
        names.silent = names.known = False
        with pytest.raises(SinkError, match="does not exist"):
            sink.open()
        names.known = True
        sink.open()
        assert sink.count() == 0
        names.known = False
        with pytest.raises(SinkAwayError, match="cannot be looked up"):
            sink.open()


def test_texts_are_the_same_whatever_encoding_the_environment_says(
    postgres_server: PostgresServer, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(table, 0, 99)
    with monkeypatch.context() as patch:
        patch.setenv("PGCLIENTENCODING", "LATIN1")
        catch_up(PostgresSink(postgres_server.dsn), table, resync=True)
    assert checksum(postgres_server.rows()) == checksum(table_rows(table))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:very@secret@127.0.0.1:1/x",
        "postgresql://user:very/secret@127.0.0.1:1/x",
        "postgresql://user:very:secret/x@127.0.0.1/x",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(SinkError, match="cannot be taken apart") as failure:
        PostgresSink(SecretStr(dsn))
    assert "secret" not in str(failure.value)


def test_a_killed_follower_goes_on_where_it_was(
    configured: Settings, table: Path, server: Server, name: str
) -> None:
    # Several transactions for PostgreSQL; the stand-in for MongoDB is slow (700 documents/s).
    rows = 5000 if name == "postgres" else 300
    for number in range(12):
        append(table, number * rows, number * rows + rows - 1)
    environment = os.environ | {
        "SENTIMENT_HOME": str(configured.root),
        **{
            f"SENTIMENT_{field.upper()}": value.get_secret_value()
            for field in ("sink_postgres_dsn", "sink_mongodb_uri")
            if (value := getattr(configured, field)) is not None
        },
    }
    command = [sys.executable, "-m", "sentiment_assets", "sink", "run", "--once", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        sink = make_sink(configured, name)
        while process.poll() is None and _count(server) == 0:
            threading.Event().wait(0.01)
        process.kill()
    after = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert after.returncode == 0, after.stderr
    assert PASSWORD not in after.stderr + after.stdout
    assert checksum(server.rows()) == checksum(table_rows(table))
    assert read_followed(sink, table).lag_versions == 0
    assert count_rows(sink) == 12 * rows


def test_a_sink_that_refuses_does_not_end_the_other(
    postgres_server: PostgresServer, settings: Settings
) -> None:
    table = settings.table(PREDICTIONS.name)
    append(table, 0, 9)
    sinks = {
        "SENTIMENT_SINK_POSTGRES_DSN": postgres_server.dsn.get_secret_value(),
        "SENTIMENT_SINK_MONGODB_URI": "this is no address",
    }
    environment = os.environ | {"SENTIMENT_HOME": str(settings.root)} | sinks
    command = [sys.executable, "-m", "sentiment_assets", "sink", "run", "--resync", "--json"]
    once = subprocess.run(
        [*command, "--once"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert once.returncode == 1
    assert "is no MongoDB address" in once.stderr
    assert json.loads(once.stdout)["postgres"]["rows"] == 10
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "The sink mongodb has ended: SENTIMENT_SINK_MONGODB_URI is no" in process.stderr.readline()
        append(table, 10, 19)
        for _ in range(600):
            if _count(postgres_server) == 20 or process.poll() is not None:
                break
            threading.Event().wait(0.1)
        process.terminate()
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, json.loads(output)["postgres"]["lag_versions"]) == (1, 0)
    assert "is no MongoDB address" in errors
    assert checksum(postgres_server.rows()) == checksum(table_rows(table))


def test_a_database_that_goes_away_is_waited_for_and_gets_everything(
    sink: Sink, table: Path, server: Server
) -> None:
    """By SIGKILL, but for the stand-in for MongoDB, which ends in order."""
    append(table, 0, 999)
    stop = threading.Event()
    written = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(follow, sink, table, stop, rows=200, on_progress=lambda _state: written.set())
        assert written.wait(30)
        server.stop()
        for number in range(1, 6):
            append(table, number * 1000, number * 1000 + 199)
        written.clear()
        server.start()
        deadline = threading.Event()
        for _ in range(600):
            if _count(server) == 2000:
                break
            assert not under_way.done(), under_way.exception()
            deadline.wait(0.1)
        stop.set()
        followed = under_way.result(timeout=30)
    assert followed.lag_versions == 0
    assert checksum(server.rows()) == checksum(table_rows(table))


def test_a_database_that_falls_silent_is_noticed(
    sink: Sink, table: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its system takes connections and bytes as ever: only the process has stopped."""
    monkeypatch.setattr(postgres, "_SILENCE_SECONDS", 0.5)
    append(table, 0, 99)
    catch_up(sink, table)
    sink.open()
    with ThreadPoolExecutor(1) as pool, server.silent():
        under_way = pool.submit(sink.count)
        with pytest.raises(SinkAwayError):
            under_way.result(timeout=60)
    assert count_rows(sink) == 100


def test_a_lock_of_somebody_else_is_not_waited_for_without_end(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_SILENCE_SECONDS", 0.5)
    sink = PostgresSink(postgres_server.dsn)
    sink.open()
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(postgres_server.dsn.get_secret_value()) as other,
    ):
        other.execute("LOCK TABLE sentiment.followed")
        under_way = pool.submit(sink.clear)
        with pytest.raises(SinkAwayError, match="lock timeout"):
            under_way.result(timeout=60)
    sink.clear()
    sink.close()


def test_a_table_that_was_made_anew_is_refused_until_a_resync(
    sink: Sink, table: Path, server: Server, tmp_path: Path
) -> None:
    append(table, 0, 99)
    catch_up(sink, table)
    table.rename(tmp_path / "old")
    append(table, 0, 49)
    for look in (catch_up, read_followed):
        with pytest.raises(TableError, match="--resync"):
            look(sink, table)
    assert catch_up(sink, table, resync=True).rows == 50
    assert checksum(server.rows()) == checksum(table_rows(table))


def test_a_database_that_does_not_answer_is_said_with_its_place_and_without_its_password() -> None:
    for sink in (
        PostgresSink(SecretStr("postgresql://u:very-secret@127.0.0.1:1/x")),
        make_sink(Settings(sink_mongodb_uri=SecretStr("mongodb://u:very-secret@127.0.0.1:1/x")), "mongodb"),
    ):
        with pytest.raises(SinkAwayError, match=r"127\.0\.0\.1") as failure:
            sink.open()
        assert "very-secret" not in str(failure.value)


def test_a_wrong_password_is_an_error_and_not_waited_for(
    postgres_server: PostgresServer, table: Path
) -> None:
    append(table, 0, 9)
    wrong = postgres_server.dsn.get_secret_value().replace("tester:", "tester:not-")
    with pytest.raises(SinkError, match="authentication failed") as failure:
        catch_up(PostgresSink(SecretStr(wrong)), table)
    assert "made%20up" not in str(failure.value)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["ALTER ROLE {} NOLOGIN"], "is not permitted to log in"),
        (
            ["CREATE DATABASE of_{}", "REVOKE CONNECT ON DATABASE of_{} FROM PUBLIC"],
            "permission denied for database",
        ),
        ([], "database .* does not exist"),
    ],
)
def test_a_server_that_lets_the_sink_in_nowhere_is_an_error_at_its_first_connection(
    postgres_server: PostgresServer, statements: list[str], said: str
) -> None:
    user = f"refused_{secrets.token_hex(4)}"
    dsn = postgres_server.user(user).get_secret_value()
    for statement in statements:
        postgres_server.execute(statement.format(user))
    with pytest.raises(SinkError, match=said):
        PostgresSink(SecretStr(dsn.replace("/postgres", f"/of_{user}"))).open()


def test_a_server_without_a_free_connection_is_waited_for(postgres_server: PostgresServer) -> None:
    dsn = postgres_server.user("one_too_many")
    postgres_server.execute("ALTER ROLE one_too_many CONNECTION LIMIT 0")
    with pytest.raises(SinkAwayError, match="too many connections"):
        PostgresSink(dsn).open()


def test_a_user_who_is_locked_out_while_the_sink_follows_is_waited_for(
    postgres_server: PostgresServer,
) -> None:
    sink = PostgresSink(postgres_server.user("soon_locked_out"))
    sink.open(reading=True)
    postgres_server.execute("ALTER ROLE soon_locked_out NOLOGIN")
    with pytest.raises(SinkAwayError, match="not permitted to log in"):
        sink.open(reading=True)


def test_a_server_that_shuts_down_is_waited_for_and_so_is_a_standby() -> None:
    with PostgresServer() as server:
        PostgresSink(server.dsn).open()
        with server.shutting_down(), pytest.raises(SinkAwayError, match="is shutting down"):
            PostgresSink(server.dsn).open()
        server.start(standby=True)
        with pytest.raises(SinkAwayError, match="read-only"):
            PostgresSink(server.dsn).open()


def test_why_a_sink_is_away_is_said_once_and_again_when_it_changes(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    table = settings.table(PREDICTIONS.name)
    append(table, 0, 9)
    port, stop, asked = free_port(), threading.Event(), threading.Semaphore(0)
    dsn = f"postgresql://u@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"
    with ThreadPoolExecutor(2) as pool, ExitStack() as closing:
        closing.callback(stop.set)
        pool.submit(follow, PostgresSink(SecretStr(dsn)), table, stop)
        for _ in range(300):
            if caplog.messages:
                break
            stop.wait(0.1)
        listener = closing.enter_context(socket.create_server(("127.0.0.1", port)))

        def hang_up() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    listener.accept()[0].close()
                    asked.release()

        pool.submit(hang_up)
        assert all(asked.acquire(timeout=30) for _ in range(3))
        listener.shutdown(socket.SHUT_RDWR)
    assert ["refused" in said for said in caplog.messages] == [True, False]
    assert "closed the connection" in caplog.messages[1]


def test_two_followers_do_not_write_at_once(postgres_server: PostgresServer) -> None:
    first, second = PostgresSink(postgres_server.dsn), PostgresSink(postgres_server.dsn)
    first.open()
    with pytest.raises(SinkAwayError, match="another process"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_a_schema_of_an_older_release_is_migrated_and_of_a_newer_one_refused(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = PostgresSink(postgres_server.dsn)
    sink.open()
    sink.close()
    newer = (*postgres.MIGRATIONS, "ALTER TABLE sentiment.predictions ADD COLUMN reviewed boolean")
    monkeypatch.setattr(postgres, "MIGRATIONS", newer)
    sink.open()
    sink.close()
    assert postgres_server.execute("SELECT reviewed FROM sentiment.predictions") is not None
    monkeypatch.undo()
    with pytest.raises(SinkError, match=rf"has version {len(newer)}"):
        sink.open()
    sink.close()
    postgres_server.execute("DROP SCHEMA sentiment CASCADE")


def test_a_user_who_owns_the_schema_needs_no_right_to_create_one(
    postgres_server: PostgresServer, settings: Settings
) -> None:
    table = settings.table(PREDICTIONS.name)
    postgres_server.execute("DROP SCHEMA IF EXISTS sentiment CASCADE")
    theirs = postgres_server.user("owner_of_the_schema")
    with pytest.raises(SinkError, match="permission denied for database"):
        PostgresSink(theirs).open()
    postgres_server.execute("CREATE SCHEMA sentiment AUTHORIZATION owner_of_the_schema")
    append(table, 0, 9)
    assert catch_up(PostgresSink(theirs), table).rows == 10
    append(table, 10, 19)
    assert catch_up(PostgresSink(theirs), table).rows == 10
    postgres_server.execute("DROP SCHEMA sentiment CASCADE")


def test_lookups_use_indexes(postgres_server: PostgresServer) -> None:
    PostgresSink(postgres_server.dsn).open()
    found = postgres_server.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'sentiment'")
    assert {"predictions_pkey", "predictions_kafka_timestamp", "predictions_tweet_id"} <= {
        row["indexname"] for row in found
    }


def _count(server: Server) -> int:
    if isinstance(server, MongoServer):
        return server.rows_now()
    return int(server.execute("SELECT count(*) AS n FROM sentiment.predictions")[0]["n"])
