"""Settings of a guarded cluster: the two spellings of what is right, and what is said of what is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sentiment_assets.failures import SetupError
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.runtime.doctor import run_checks
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.query import kafka_options

PASSWORD = 's"e\\c;r=e\nt'  # noqa: S105  (made up)
LOGIN = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "alice",
    "kafka_sasl_password": SecretStr(PASSWORD),
}


def guarded(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update={"kafka_bootstrap": "kafka.example:9093", **fields})


def cluster(settings: Settings, **fields: Any) -> Cluster:
    found = find_cluster(guarded(settings, **fields))
    assert found is not None
    return found


def test_a_login_is_spelt_for_librdkafka_and_for_the_java_client(settings: Settings) -> None:
    found = cluster(settings, **LOGIN)
    assert found.librdkafka() == {
        "bootstrap.servers": "kafka.example:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": PASSWORD,
    }
    assert found.java() == {
        "bootstrap.servers": "kafka.example:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
        r'username="alice" password="s\"e\\c;r=e\nt";',
    }


def test_spark_gets_every_option_of_the_java_client(settings: Settings) -> None:
    found = cluster(settings, **LOGIN)
    options = kafka_options(found)
    assert {f"kafka.{name}": value for name, value in found.java().items()}.items() <= options.items()


def test_without_settings_nothing_but_the_address_and_plain_text(settings: Settings) -> None:
    plain = {"bootstrap.servers": "kafka.example:9093", "security.protocol": "PLAINTEXT"}
    assert cluster(settings).librdkafka() == cluster(settings).java() == plain


def test_neither_the_cluster_nor_the_settings_show_the_password(settings: Settings) -> None:
    found = cluster(settings, **LOGIN)
    for shown in (repr(found), str(found), found.security(), repr(guarded(settings, **LOGIN))):
        assert PASSWORD not in shown
        assert repr(PASSWORD) not in shown
    assert found.security() == "SASL_SSL, SCRAM-SHA-512 as alice"
    plain = cluster(settings, **LOGIN | {"kafka_security_protocol": "SASL_PLAINTEXT"})
    assert plain.security().endswith("not encrypted")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (LOGIN | {"kafka_sasl_password": None}, r"SASL_SSL, and SENTIMENT_KAFKA_SASL_PASSWORD is missing"),
        (
            {"kafka_security_protocol": "SASL_SSL"},
            r"_SASL_MECHANISM and SENTIMENT_KAFKA_SASL_USERNAME and SENTIMENT_KAFKA_SASL_PASSWORD are missing",
        ),
        (LOGIN | {"kafka_security_protocol": None}, r"not set \(PLAINTEXT\).*_PASSWORD would not be used"),
        (LOGIN | {"kafka_security_protocol": "SSL"}, r"is SSL, so .*_PASSWORD would not be used"),
        (
            {"kafka_ssl_ca_location": Path("/nowhere/ca.pem")},
            r"_SSL_CA_LOCATION would not be used.*Set SENTIMENT_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_ssl_ca_location": Path("/nowhere/ca.pem")},
            r"_SSL_CA_LOCATION names /nowhere/ca.pem, .*No such file",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_ssl_keystore_location": Path("/nowhere/key.pem")},
            r"_SSL_KEYSTORE_LOCATION names /nowhere/key.pem, .*No such file",
        ),
        (LOGIN | {"kafka_bootstrap": None}, r"embedded broker of this machine is plain text"),
    ],
    ids=[
        "no password", "nothing but the protocol", "no protocol", "no SASL", "no TLS", "no CA", "no key",
        "embedded broker",
    ],
)  # fmt: skip
def test_settings_that_cannot_be_followed_are_named_with_what_to_do(
    settings: Settings, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SetupError, match=message) as refusal:
        find_cluster(guarded(settings, **fields))
    assert PASSWORD not in str(refusal.value)
    check = {one.name: one for one in run_checks(guarded(settings, **fields), quick=True)}["kafka"]
    assert not check.ok
    assert check.fix


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_file_without_certificates_is_refused(settings: Settings, tmp_path: Path, content: str) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(content)
    with pytest.raises(SetupError, match=r"ca\.pem, which gives no certificates \("):
        cluster(settings, kafka_security_protocol="SSL", kafka_ssl_ca_location=file)


def test_a_key_in_a_form_that_java_cannot_read_is_refused_with_the_command_that_converts_it(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n")
    with pytest.raises(SetupError, match=r"PKCS #8.*openssl pkcs8"):
        cluster(settings, kafka_security_protocol="SSL", kafka_ssl_keystore_location=file)


@pytest.mark.parametrize("name", ["SENTIMENT_KAFKA_SASL_MECHANISM", "SENTIMENT_KAFKA_SECURITY_PROTOCOL"])
def test_an_unknown_mechanism_or_protocol_is_refused_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "GSSAPI")
    with pytest.raises(SetupError, match=rf"{name} has an unusable value \(.*'(PLAIN|PLAINTEXT)'"):
        Settings.from_env()
