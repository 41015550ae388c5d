"""A guarded cluster: TLS and logins from a message to the table, and a password that is written nowhere.

The broker is real, with the listeners and the access lists of a cluster that others run.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]  # exported at run time only
from pydantic import SecretStr

from sentiment_assets import keys
from sentiment_assets.build import build_definitions
from sentiment_assets.failures import BrokerError, NotAllowedError, StreamError
from sentiment_assets.ingest import ingest
from sentiment_assets.ingest.recovery import already_there
from sentiment_assets.ingest.spool import Spool, Waiting
from sentiment_assets.kafka.client import ensure_topic, watermarks
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.kafka.replay import Message
from sentiment_assets.local.instance import open_instance, prepare_instance
from sentiment_assets.models.store import ModelStore
from sentiment_assets.runtime.doctor import run_checks
from sentiment_assets.settings import Settings
from sentiment_assets.sources import generated
from sentiment_assets.streaming.causes import explained
from sentiment_assets.streaming.query import kafka_options, read_topic
from sentiment_assets.streaming.status import read_status
from sentiment_assets_tests.integration.stream_helpers import save_tiny_model, send, tweet
from sentiment_assets_tests.peers.secured_kafka import SecuredBroker
from sentiment_assets_tests.peers.steady import Steady

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.broker]

NEEDLE = uuid.uuid4().hex
# Every character that JAAS, JSON, a properties file or a shell could stumble on, before and behind what is looked for.
PASSWORD = f"a\"b\\c;d='e {NEEDLE} #$%{{ö}}"
USER = "alice"
RIGHTS = (AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    home = tmp_path_factory.mktemp("secured") / "home"
    broker = SecuredBroker(Settings(home=home, topic="of-the-broker").prepare(), {USER: PASSWORD})
    broker.start()
    broker.add_scram(USER)
    yield broker
    broker.stop()


def variables(home: Path, broker: SecuredBroker, **others: str) -> dict[str, str]:
    """The environment of an installation that uses the guarded cluster."""
    return {
        "SENTIMENT_HOME": str(home),
        "SENTIMENT_TOPIC": f"guarded-{home.parent.name}",
        "SENTIMENT_KAFKA_BOOTSTRAP": broker.address("SASL_SSL"),
        "SENTIMENT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "SENTIMENT_KAFKA_SASL_MECHANISM": "PLAIN",
        "SENTIMENT_KAFKA_SASL_USERNAME": USER,
        "SENTIMENT_KAFKA_SASL_PASSWORD": PASSWORD,
        "SENTIMENT_KAFKA_SSL_CA_LOCATION": str(broker.authority),
    } | {f"SENTIMENT_KAFKA_{name}": value for name, value in others.items()}


@pytest.fixture
def environment(tmp_path: Path, secured: SecuredBroker, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set for this process; the user may do with the topic what the product needs and nothing else."""
    found = variables(tmp_path / "home", secured)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    secured.grant(USER, found["SENTIMENT_TOPIC"], *RIGHTS)
    return found


def test_the_whole_way_over_sasl_ssl_and_the_password_is_written_nowhere(
    spark: "SparkSession", session_settings: Settings, environment: dict[str, str]
) -> None:
    settings = Settings.from_env().prepare()
    prepare_instance(settings)
    cluster = find_cluster(settings)
    assert cluster is not None
    assert ensure_topic(cluster, settings.topic, 2) == 2
    save_tiny_model(spark, ModelStore(settings.models))
    send(settings, [*(tweet(n) for n in range(20)), Message(b"bad", b"no json")])

    with open_instance(settings) as instance:
        result = (
            build_definitions(settings)
            .resolve_job_def(keys.JOB_SCORE_STREAM)
            .execute_in_process(
                instance=instance, run_config={"ops": {"stream": {"config": {"until_drained": True}}}}
            )
        )
        assert result.success
    status = read_status(settings)
    assert (status["predictions"], status["dead_letters"], status["lag"]) == (20, 1, 0)

    replayed, commands = _replayed_by_a_command(generated.write(settings, rows=400), environment)
    assert replayed["sent"] == 150
    status = read_status(settings)
    assert status["lag"] == 150
    checks = str(run_checks(settings, quick=True))
    assert "SASL_SSL, PLAIN as alice) answers" in checks
    plan = read_topic(spark, settings, cluster)
    shown = [str(status), checks, repr(cluster), str(plan), plan._jdf.queryExecution().toString()]

    everywhere = {
        "the process list": "\0".join(commands).encode(),
        "what is shown": "\0".join(shown).encode(),
        **{str(file): file.read_bytes() for file in _files(settings.root, session_settings.logs)},
    }
    for place in ("process list", "what is shown", "dagster_home", "checkpoints", "lake/predictions"):
        known = (settings.topic.encode(), result.run_id.encode(), str(settings.root).encode())
        found = [name for name, content in everywhere.items() if any(text in content for text in known)]
        assert any(place in name for name in found), f"a search of {place} must be able to find something"
    assert any("spark-stream" in name for name in everywhere)
    assert [name for name, content in everywhere.items() if NEEDLE.encode() in content] == []


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "certificate"])
def test_a_scram_login_and_a_client_certificate_reach_producer_admin_and_spark_alike(
    spark: "SparkSession", environment: dict[str, str], secured: SecuredBroker, way: str
) -> None:
    fields: dict[str, Any] = {"kafka_sasl_mechanism": "SCRAM-SHA-512"}
    if way == "certificate":
        secured.grant("CN=client", environment["SENTIMENT_TOPIC"], *RIGHTS)
        fields = dict.fromkeys(("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")) | {
            "kafka_bootstrap": secured.address("SSL"),
            "kafka_security_protocol": "SSL",
            "kafka_ssl_keystore_location": secured.client_keystore(spark),
        }
    settings = Settings.from_env().model_copy(update=fields)
    cluster = find_cluster(settings)
    assert cluster is not None
    ensure_topic(cluster, settings.topic, 1)
    assert send(settings, [tweet(1), tweet(2)]) == 2
    assert watermarks(cluster, settings.topic) == {0: (0, 2)}
    assert _read_by_spark(spark, settings, cluster) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kafka_sasl_password": SecretStr("wrong")}, r"does not let us in .*_SASL_PASSWORD"),
        ({"kafka_sasl_mechanism": "SCRAM-SHA-256"}, r"does not let us in .*_SASL_MECHANISM"),
        ({"kafka_ssl_ca_location": None}, r"does not let us in .*_SSL_CA_LOCATION"),
        (
            {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_ca_location": None},
            r"cannot be reached.*_SECURITY_PROTOCOL",
        ),
        ({"topic": "of-others"}, r"refused \(.*uthoriz.*Grant"),
    ],
    ids=["password", "mechanism", "authority", "no TLS", "rights"],
)
def test_what_keeps_us_out_is_named_with_the_variable_to_check(
    environment: dict[str, str], secured: SecuredBroker, wrong: dict[str, Any], message: str
) -> None:
    ensure_topic(Cluster(str(secured.status().bootstrap)), "of-others", 1)
    settings = Settings.from_env().model_copy(update=wrong)
    cluster = find_cluster(settings)
    assert cluster is not None
    with pytest.raises(BrokerError, match=message) as refusal:
        watermarks(cluster, settings.topic)
    assert NEEDLE not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kafka_sasl_password": SecretStr("wrong")}, "_SASL_PASSWORD"),
        ({"kafka_ssl_ca_location": None}, "_SSL_CA_LOCATION"),
        ({"topic": "nobodys"}, "Grant"),
    ],
    ids=["password", "authority", "rights"],
)
def test_an_ingest_that_is_not_let_in_ends_with_the_reason_and_keeps_its_posts(
    environment: dict[str, str], wrong: dict[str, Any], message: str
) -> None:
    settings = Settings.from_env().model_copy(update=wrong)
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()
        under_way = pool.submit(ingest, settings, Steady(0.05), stop)
        try:
            with pytest.raises(NotAllowedError, match=message) as refusal:
                under_way.result(timeout=30)
        finally:
            stop.set()
    assert NEEDLE not in str(refusal.value)
    assert Spool(settings.spool / "steady.sqlite", 10**9).count > 0


def test_a_password_that_changes_while_the_broker_is_away_ends_the_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = {USER: PASSWORD}
    broker = SecuredBroker(Settings(home=tmp_path / "of-the-broker", topic="made-up").prepare(), passwords)
    for name, value in variables(tmp_path / "home", broker).items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    try:
        broker.start()
        broker.grant(USER, settings.topic, *RIGHTS)
        plain = Cluster(str(broker.status().bootstrap))
        with ThreadPoolExecutor(1) as pool:
            stop = threading.Event()
            source = Steady(0.05)
            under_way = pool.submit(ingest, settings, source, stop)
            try:
                _until(lambda: source.counters.received > 0 and _messages(plain, settings.topic) > 0)
                broker.stop()
                passwords[USER] = "another"
                broker.start()
                with pytest.raises(NotAllowedError, match="_SASL_PASSWORD"):
                    under_way.result(timeout=60)
            finally:
                stop.set()
    finally:
        broker.stop()


def test_the_lack_of_the_right_to_read_is_named_when_what_was_sent_is_looked_up(
    environment: dict[str, str], secured: SecuredBroker
) -> None:
    topic = f"write-only-{uuid.uuid4().hex[:8]}"
    secured.grant(USER, topic, AclOperation.DESCRIBE, AclOperation.WRITE)
    ensure_topic(Cluster(str(secured.status().bootstrap)), topic, 1)
    cluster = find_cluster(Settings.from_env())
    assert cluster is not None
    with pytest.raises(NotAllowedError, match=f"read {topic}.*Grant"):
        already_there(cluster, topic, {0: 0}, {0: 1}, [Waiting(1, b"1", b"made up")])


@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_a_stream_that_is_not_let_in_says_so(
    spark: "SparkSession", environment: dict[str, str], secured: SecuredBroker, wrong: str
) -> None:
    if wrong == "password":
        changed, message = {"kafka_sasl_password": SecretStr(f"not {PASSWORD}")}, "refuses the login"
    else:
        changed, message = {"kafka_ssl_ca_location": secured.stranger}, "TLS connection .* fails"
    settings = Settings.from_env().model_copy(update=changed)
    cluster = find_cluster(settings)
    assert cluster is not None
    with pytest.raises(StreamError, match=message) as failure:
        _read_by_spark(spark, settings, cluster)
    assert NEEDLE not in str(failure.value)


def _messages(cluster: Cluster, topic: str) -> int:
    return sum(high for _, high in watermarks(cluster, topic).values())


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.1)


def _read_by_spark(spark: "SparkSession", settings: Settings, cluster: Cluster) -> int:
    with explained():
        messages = spark.read.format("kafka").options(**kafka_options(cluster))
        return messages.option("subscribe", settings.topic).load().count()


def _replayed_by_a_command(file: Path, environment: dict[str, str]) -> tuple[dict[str, Any], set[str]]:
    """What the command ``replay`` reported, and every command line of the machine while it ran."""
    arguments = ["replay", str(file), "--limit", "150", "--rate", "100", "--json"]
    commands: set[str] = set()
    with subprocess.Popen(
        [sys.executable, "-m", "sentiment_assets", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        while process.poll() is None:
            commands |= {" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])}
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.read())
    return found, commands


def _files(*folders: Path) -> Iterator[Path]:
    return (path for folder in folders for path in folder.rglob("*") if path.is_file())
