"""The embedded broker with the listeners of a guarded cluster: passwords, TLS, certificates, access lists.

Beside its plain listener, which serves the test itself: SASL_SSL (PLAIN and SCRAM-SHA-512), and SSL that asks the
client for a certificate. Certificates are made with the JDK's ``keytool``. Nobody but the test may do what no list
grants.
"""

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported at run time only
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import quiet
from sentiment_assets.kafka.cluster import Cluster
from sentiment_assets.runtime.java import find_java
from sentiment_assets.runtime.ports import LOOPBACK, free_port
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.jvm import jvm

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STORE_PASSWORD = "of-a-test"  # noqa: S105  (of key stores that live for a test)
_MODULES = "org.apache.kafka.common.security"


class SecuredBroker(EmbeddedBroker):
    """A broker that lets in the users it is given.

    Parameters
    ----------
    settings
        Of a home of its own: its configuration holds the passwords.
    users
        User -> password, for PLAIN; :meth:`add_scram` makes them known to SCRAM.
    """

    def __init__(self, settings: Settings, users: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._home, self._users = settings, users
        self._ports = {"SASL_SSL": free_port(), "SSL": free_port()}
        self._stores = settings.root / "certificates"
        self._stores.mkdir()
        for name in ("broker", "client"):
            self._make_certificate(name)

    def address(self, protocol: str) -> str:
        """``host:port`` of one of the guarded listeners."""
        return f"{LOOPBACK}:{self._ports[protocol]}"

    @property
    def authority(self) -> Path:
        """PEM file of whoever signed the broker's certificate: itself."""
        return self._pem("broker")

    @property
    def stranger(self) -> Path:
        """PEM file of an authority that did not sign it."""
        return self._pem("client")

    def client_keystore(self, spark: "SparkSession") -> Path:
        """PEM file with the key and the certificate of ``CN=client``; keytool cannot write keys, the JVM can."""
        java = jvm(spark).java
        password = spark.sparkContext._gateway.new_array(jvm(spark).char, len(STORE_PASSWORD))
        for place, character in enumerate(STORE_PASSWORD):
            password[place] = character
        store = java.security.KeyStore.getInstance(java.io.File(str(self._stores / "client.p12")), password)
        factory = java.security.KeyFactory.getInstance("EC")
        form = java.lang.Class.forName("java.security.spec.PKCS8EncodedKeySpec")
        encoded = factory.getKeySpec(store.getKey("client", password), form).getEncoded()
        key = base64.encodebytes(bytes(encoded)).decode()
        path = self._stores / "client-keystore.pem"
        path.write_text(
            f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n{self._pem('client').read_text()}"
        )
        return path

    def add_scram(self, user: str) -> None:
        """Make a user's password known to SCRAM-SHA-512 as well."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, how, self._users[user].encode())
        with self._admin() as admin:
            admin.alter_user_scram_credentials([change])[user].result(timeout=30)

    def grant(self, user: str, topic: str, *operations: AclOperation) -> None:
        """Allow a user to do something with a topic."""
        rights = [
            AclBinding(
                ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{user}", "*",
                operation, AclPermissionType.ALLOW,
            )
            for operation in operations
        ]  # fmt: skip
        with self._admin() as admin:
            for granted in admin.create_acls(rights).values():
                granted.result(timeout=30)

    def _properties(self, data: Path, client_port: int, controller_port: int) -> dict[str, object]:
        values = super()._properties(data, client_port, controller_port)
        added = "".join(f",{name}://{LOOPBACK}:{port}" for name, port in self._ports.items())
        users = " ".join(f"user_{name}={_quoted(password)}" for name, password in self._users.items())
        sasl = "listener.name.sasl_ssl"
        return values | {
            "listeners": f"{values['listeners']}{added}",
            "advertised.listeners": f"{values['advertised.listeners']}{added}",
            "listener.security.protocol.map": f"{values['listener.security.protocol.map']},SASL_SSL:SASL_SSL,SSL:SSL",
            f"{sasl}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            f"{sasl}.plain.sasl.jaas.config": _property(
                f"{_MODULES}.plain.PlainLoginModule required {users};"
            ),
            f"{sasl}.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.keystore.location": self._stores / "broker.p12",
            "ssl.keystore.password": STORE_PASSWORD,
            "ssl.key.password": STORE_PASSWORD,
            "ssl.keystore.type": "PKCS12",
            "ssl.truststore.location": self._pem("client"),
            "ssl.truststore.type": "PEM",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The plain listener and the controller: the broker itself and the test.
            "super.users": "User:ANONYMOUS",
        }

    def _admin(self) -> AdminClient:
        return AdminClient(quiet(Cluster(str(self.status().bootstrap))))

    def _make_certificate(self, name: str) -> None:
        self._keytool(
            f"{name}.p12", "-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", f"CN={name}",
            "-validity", "2", "-ext", f"san=ip:{LOOPBACK}", "-ext", "bc:c",
        )  # fmt: skip
        self._keytool(f"{name}.p12", "-exportcert", "-alias", name, "-rfc", "-file", self._pem(name))

    def _pem(self, name: str) -> Path:
        return self._stores / f"{name}.pem"

    def _keytool(self, store: str, *arguments: str | Path) -> None:
        program = find_java().executable.with_name("keytool")
        options = ("-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore", self._stores / store)
        subprocess.run(
            [program, *arguments, *options], check=True, capture_output=True, text=True, timeout=60
        )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def _property(text: str) -> str:
    """A value as Java's properties files read it: Latin-1, where a backslash starts an escape."""
    escaped = text.replace("\\", "\\\\")
    return "".join(character if character.isascii() else f"\\u{ord(character):04x}" for character in escaped)
