"""The Kafka cluster and how to log in to it: one object, spelt once for librdkafka and once for the Java client.

Belongs here: its address, its TLS and SASL settings, and what is wrong with them before anything connects.
Does not belong here: questions to it (``client``), running one (``broker``).

Secrets come from the environment alone. They stay in a ``SecretStr`` until a client is made, so that neither a log
of this object nor a traceback shows them. Hosts are always verified: there is no option to turn that off.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.processes import read_record, recorded_process
from sentiment_assets.settings import Settings, variable

BROKER = "broker"
"""Name of the embedded broker's record, lock and log."""

_ENCRYPTED = ("SSL", "SASL_SSL")
_WITH_LOGIN = ("SASL_PLAINTEXT", "SASL_SSL")
_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
_PKCS8 = "-----BEGIN PRIVATE KEY-----"


@dataclass(frozen=True)
class Login:
    """A user as SASL knows it.

    Attributes
    ----------
    mechanism
        PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    """

    mechanism: str
    username: str
    password: SecretStr

    def jaas(self) -> str:
        """The Java client's ``sasl.jaas.config``; holds the password."""
        name, password = _quoted(self.username), _quoted(self.password.get_secret_value())
        return f"{_LOGIN_MODULES[self.mechanism]} required username={name} password={password};"


@dataclass(frozen=True)
class Cluster:
    """Where Kafka is and how to connect.

    Attributes
    ----------
    bootstrap
        ``host:port``, several by comma.
    protocol
        Kafka's ``security.protocol``.
    login
        None: no SASL.
    authorities
        PEM file of the certificate authorities that sign the brokers' certificates; None: those of the system
        (librdkafka) and of the JVM (Spark).
    keystore
        PEM file with the key and the certificate that this client shows; None: it shows none.
    """

    bootstrap: str
    protocol: str = "PLAINTEXT"
    login: Login | None = None
    authorities: Path | None = None
    keystore: Path | None = None

    def __str__(self) -> str:
        return self.bootstrap

    def security(self) -> str:
        """In words, without secrets: ``SASL_SSL, SCRAM-SHA-512 as alice``."""
        login = f", {self.login.mechanism} as {self.login.username}" if self.login else ""
        shown = ", with a client certificate" if self.keystore else ""
        open_ = ", not encrypted" if self.login and self.protocol not in _ENCRYPTED else ""
        return f"{self.protocol}{login}{shown}{open_}"

    def librdkafka(self) -> dict[str, Any]:
        """Options of confluent-kafka's clients; hold the password."""
        options: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if self.login is not None:
            options |= {
                "sasl.mechanism": self.login.mechanism,
                "sasl.username": self.login.username,
                "sasl.password": self.login.password.get_secret_value(),
            }
        if self.authorities is not None:
            options["ssl.ca.location"] = str(self.authorities)
        if self.keystore is not None:
            options |= {
                "ssl.key.location": str(self.keystore),
                "ssl.certificate.location": str(self.keystore),
            }
        return options

    def java(self) -> dict[str, str]:
        """Options of Kafka's Java client, which Spark's source takes behind ``kafka.``; hold the password."""
        options = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if self.login is not None:
            options |= {"sasl.mechanism": self.login.mechanism, "sasl.jaas.config": self.login.jaas()}
        # PEM (KIP-651): the same files as librdkafka's, no key stores to make with keytool.
        for store, file in (("truststore", self.authorities), ("keystore", self.keystore)):
            if file is not None:
                options |= {f"ssl.{store}.type": "PEM", f"ssl.{store}.location": str(file)}
        return options


def find_cluster(settings: Settings) -> Cluster | None:
    """The configured cluster, else the running embedded broker, else None.

    Raises
    ------
    SetupError
        When the settings of TLS and SASL are incomplete, contradict each other, or name a file that cannot be used.
    """
    if settings.kafka_bootstrap:
        return _configured(settings, settings.kafka_bootstrap)
    if given := _given(settings):
        raise SetupError(
            f"{' and '.join(given)} cannot be followed: the embedded broker of this machine is plain text.",
            "Name your cluster in SENTIMENT_KAFKA_BOOTSTRAP, or unset what is named here.",
        )
    record = read_record(settings, BROKER)
    if record is None or "ready" not in record.facts or recorded_process(record) is None:
        return None
    return Cluster(record.facts["bootstrap"])


def _given(settings: Settings, kind: str = "") -> list[str]:
    """Variables of TLS and SASL that are set, of one kind or of all."""
    prefixes = (f"kafka_{kind}",) if kind else ("kafka_security_", "kafka_sasl_", "kafka_ssl_")
    names = [name for name in type(settings).model_fields if name.startswith(prefixes)]
    return [variable(name) for name in names if getattr(settings, name) is not None]


def _configured(settings: Settings, bootstrap: str) -> Cluster:
    protocol = settings.kafka_security_protocol or "PLAINTEXT"
    stated = (
        f"SENTIMENT_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol or 'not set (PLAINTEXT)'}"
    )
    for kind, protocols in (("sasl_", _WITH_LOGIN), ("ssl_", _ENCRYPTED)):
        given = _given(settings, kind)
        if given and protocol not in protocols:
            raise SetupError(
                f"{stated}, so {' and '.join(given)} would not be used.",
                f"Set SENTIMENT_KAFKA_SECURITY_PROTOCOL to {' or '.join(protocols)}, or unset the rest.",
            )
    login = None
    if protocol in _WITH_LOGIN:
        mechanism, name, password = (
            settings.kafka_sasl_mechanism,
            settings.kafka_sasl_username,
            settings.kafka_sasl_password,
        )
        if mechanism is None or name is None or password is None:
            wanted = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
            lacking = [variable(field) for field in wanted if getattr(settings, field) is None]
            raise SetupError(
                f"{stated}, and {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing.",
                "Set what is missing in the environment; whoever runs the cluster knows the values.",
            )
        login = Login(mechanism, name, password)
    authorities, keystore = settings.kafka_ssl_ca_location, settings.kafka_ssl_keystore_location
    return Cluster(
        bootstrap,
        protocol,
        login,
        None if authorities is None else _authorities(authorities.expanduser().absolute()),
        None if keystore is None else _keystore(keystore.expanduser().absolute()),
    )


def _authorities(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:  # an SSLError is one
        raise SetupError(
            f"SENTIMENT_KAFKA_SSL_CA_LOCATION names {path}, which gives no certificates ({_reason(error)}).",
            "Name the PEM file of the authority that signed the brokers' certificates; "
            "unset it if that is a public one.",
        ) from error
    return path


def _keystore(path: Path) -> Path:
    try:
        pkcs8 = _PKCS8 in path.read_text(encoding="utf-8", errors="replace")
        if pkcs8:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path)
    except OSError as error:
        reason = _reason(error)
    else:
        if pkcs8:
            return path
        reason = "it has no unencrypted private key in PKCS #8, the one form that both clients read"
    raise SetupError(
        f"SENTIMENT_KAFKA_SSL_KEYSTORE_LOCATION names {path}, which cannot be used ({reason}).",
        "Name a PEM file with the key (`openssl pkcs8 -topk8 -nocrypt -in key.pem`) and the certificate behind it.",
    )


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    return error.strerror or type(error).__name__


def _quoted(text: str) -> str:
    r"""A value as Java's ``StreamTokenizer`` reads it between quotes, where a line break would end it.

    >>> print(_quoted('a"b\\c'))
    "a\"b\\c"
    """
    for character, escape in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(character, escape)
    return f'"{text}"'
