"""Every environment variable of the product, once, typed, with its default and its meaning.

Belongs here: what an installation decides (folders, addresses, limits).
Does not belong here: options of one command (``cli``) or of one run (Dagster config).
"""

import os
from pathlib import Path
from typing import Literal, Self, cast

import platformdirs
import psutil
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sentiment_assets.failures import SetupError

PUBLISHED_ZIP = "https://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip"


URI_KINDS = {"gs": "gcsfs", "s3a": "s3fs", "file": "fsspec"}
"""Kinds of URI that Spark, delta-rs and fsspec spell alike, and the package with which Python opens them.

``abfss`` and ``hdfs`` are not among them: fsspec's paths lose the account or the name node, so that Spark would be
given another place.
"""


def _default_home() -> Path:
    """``.sentiment`` in the checkout that the package runs from, else the user's data folder."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "workspace.yaml").is_file():
        return checkout / ".sentiment"
    return Path(platformdirs.user_data_dir("sentiment-assets"))


def _default_training_memory() -> str:
    """Half of the machine's memory, between 2 and 10 GiB (1.6 M rows need 10)."""
    half = psutil.virtual_memory().total // 2 // 2**30
    return f"{max(2, min(10, half))}g"


def memory_bytes(memory: str) -> int:
    """Bytes of Spark's notation: ``2g``."""
    unit: int = {"k": 2**10, "m": 2**20, "g": 2**30}[memory[-1]]
    return int(memory[:-1]) * unit


def location(text: str) -> Path:
    """A folder or file named by a person: a path of this machine, made absolute, or a URI.

    A URI gives a ``UPath``, which has the methods of ``Path`` and whose text is the URI. It is no ``Path`` to
    ``isinstance``, which is how :func:`is_local` tells them apart.

    Raises
    ------
    SetupError
        When it is a URI of another kind than those of :data:`URI_KINDS`, or its package is not installed.
    """
    if "://" not in text:
        return Path(text).expanduser().absolute()
    kind = text.partition("://")[0]
    if kind not in URI_KINDS:
        raise SetupError(
            f"{text} is a URI of a kind that is not supported.", f"Use one of: {', '.join(URI_KINDS)}."
        )
    # Imported here: most installations have no URI, and every command imports the settings.
    from fsspec import get_filesystem_class
    from upath import UPath

    try:
        get_filesystem_class(kind)
    except ImportError as error:
        raise SetupError(
            f"{text} cannot be opened: the Python package for {kind}:// is not installed ({error}).",
            f"Install it: pip install {URI_KINDS[kind]}.",
        ) from error
    return cast(Path, UPath(text.rstrip("/")))


def variable(field: str) -> str:
    """Name of the environment variable of a setting."""
    return f"SENTIMENT_{field.upper()}"


def is_local(path: Path) -> bool:
    """Whether this is a path of this machine, which can be locked, renamed in one step and flushed; not a URI."""
    return isinstance(path, Path)


def on_this_machine(master: str) -> bool:
    """Whether a Spark master's driver and executors are on one machine and find each other on the loopback address."""
    return master.startswith(("local", "spark://127.0.0.1:", "spark://localhost:"))


class Settings(BaseSettings):
    """Settings of one installation, read from ``SENTIMENT_*`` environment variables.

    Raises
    ------
    SetupError
        From :meth:`from_env`, when a variable has a value that cannot be used.
    """

    # An empty variable counts as unset: compose files pass on what may not be there.
    model_config = SettingsConfigDict(
        env_prefix="SENTIMENT_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    home: Path = Field(
        default_factory=_default_home, description="Folder of all state; deleting it is a full reset."
    )
    storage: str | None = Field(
        default=None,
        description="Where tables, models and checkpoints live, if not in SENTIMENT_HOME: a folder or a URI "
        "(gs://bucket/path, s3a://bucket/path, file:///path).",
    )
    data: str | None = Field(
        default=None, description="Training file (CSV or zip; a path or URI) when --data is not given."
    )
    train_rows: str | None = Field(
        default=None,
        pattern=r"^(all|[1-9][0-9]{0,9})$",
        description="Rows of the seeded sample to train on, or 'all', when --rows or a run's config says nothing.",
    )
    encoding: str = Field(
        default="ISO-8859-1",
        pattern=r"(?i)^(iso-?8859-1|utf-?8)$",
        description="Encoding of files of tweets when --encoding or a run's config says nothing: ISO-8859-1 or UTF-8.",
    )
    source_url: str = Field(
        default=PUBLISHED_ZIP, description="Where the published Sentiment140 zip is fetched."
    )

    kafka_bootstrap: str | None = Field(
        default=None, description="host:port of an existing Kafka cluster; empty: the embedded broker."
    )
    kafka_port: int = Field(
        default=9092,
        ge=1,
        le=65535,
        description="Port the embedded broker prefers; another free one if taken.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = Field(
        default=None, description="How to connect to SENTIMENT_KAFKA_BOOTSTRAP; empty: PLAINTEXT."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How the cluster checks the password."
    )
    kafka_sasl_username: str | None = Field(default=None, description="User of the cluster.")
    kafka_sasl_password: SecretStr | None = Field(
        default=None, description="Its password; never logged, stored, or part of a run's config."
    )
    kafka_ssl_ca_location: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed the brokers' certificates; empty: the known public ones.",
    )
    kafka_ssl_keystore_location: Path | None = Field(
        default=None,
        description="PEM file with the private key (PKCS #8, not encrypted) and the certificate that the clients show, "
        "where the cluster asks for one.",
    )
    topic: str = Field(
        default="tweets", pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Kafka topic of the tweets."
    )
    topic_partitions: int = Field(
        default=2, ge=1, le=512, description="Partitions of a topic that we create."
    )

    x_bearer_token: SecretStr | None = Field(
        default=None, description="Bearer token of an X app; never logged, stored, or part of a run's config."
    )
    x_api_url: str = Field(default="https://api.x.com", description="Base URL of the X API.")
    jetstream_urls: str | None = Field(
        default=None,
        description="Jetstream /subscribe addresses, by comma; empty: the public ones of Bluesky.",
    )
    spool_megabytes: int = Field(
        default=1000,
        ge=1,
        description="Most megabytes of live posts on disk while Kafka is away; then the source waits.",
    )

    sink_postgres_dsn: SecretStr | None = Field(
        default=None,
        description="PostgreSQL that follows the predictions, e.g. postgresql://USER:PASSWORD@HOST/DATABASE.",
    )
    sink_mongodb_uri: SecretStr | None = Field(
        default=None,
        description="MongoDB that follows the predictions, e.g. mongodb://USER:PASSWORD@HOST/DATABASE.",
    )

    spark_master: str = Field(default="local[*]", description="Spark master URL.")
    training_memory: str = Field(
        default_factory=_default_training_memory,
        pattern=r"^\d+[kmg]$",
        description="Heap of the training JVM.",
    )
    stream_memory: str = Field(default="2g", pattern=r"^\d+[kmg]$", description="Heap of the streaming JVM.")

    jar_cache: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("sentiment-assets")) / "jars",
        description="Shared cache of the verified jars.",
    )
    ivy_settings: Path | None = Field(
        default=None, description="An ivysettings.xml that points at a mirror of Maven Central."
    )

    lease_seconds: int = Field(
        default=900, ge=10, description="So long a streaming run scores; then its successor takes over."
    )
    idle_seconds: int = Field(
        default=300, ge=1, description="A streaming run with no new message for so long ends."
    )
    max_offsets_per_trigger: int = Field(
        default=1_000_000,
        ge=1,
        description="Most messages of one micro-batch (50,000 of a model that only its pipeline can apply).",
    )
    neutral_band: Literal["off", "model"] = Field(
        default="off",
        description="'model': tweets inside the model's own neutral band are called neutral; 'off': none is.",
    )
    heartbeat_timeout_seconds: int = Field(
        default=90, ge=10, description="A streaming run whose heartbeat is older is taken for dead."
    )
    supervisor_interval_seconds: int = Field(
        default=3,
        ge=1,
        description="Least seconds between two supervisor ticks. Dagster looks every five seconds which are due: with "
        "five here, it would often find a tick a moment too early and come back five seconds later.",
    )

    standby: Literal["handover", "always"] = Field(
        default="handover",
        description="When the next streaming run prepares itself beside the one that scores: shortly before a lease "
        "ends, or always (a killed stream is replaced within seconds, for the memory of a second JVM).",
    )

    dead_letter_warn: float = Field(
        default=0.01, ge=0, le=1, description="Share of dead letters in an hour above which the check warns."
    )
    dead_letter_fail: float = Field(
        default=0.10,
        ge=0,
        le=1,
        description="Share of dead letters in an hour above which it fails and alerts.",
    )
    alert_webhook: SecretStr | None = Field(
        default=None,
        description="Address that gets a JSON message when the circuit opens or too many messages are dead letters.",
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Serve Prometheus metrics at this port of 127.0.0.1."
    )

    minimum_gain: float = Field(
        default=0.001, ge=0, le=1, description="Accuracy a candidate must add to replace the chosen model."
    )
    leakage_ceiling: float = Field(
        default=0.90, gt=0.5, le=1, description="Accuracy above which a candidate is refused as leakage."
    )
    seed: int = Field(default=2000, description="Seed of every sample, split and shuffle.")

    ui_host: str = Field(default="127.0.0.1", description="Address the web server listens on.")
    ui_hosts: str | None = Field(
        default=None,
        description="Names that browsers reach the UI by, by comma, beside addresses, localhost and the machine's own.",
    )

    @classmethod
    def from_env(cls) -> Self:
        """Read the environment; a bad value is one clear sentence, not a traceback."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = variable("_".join(str(part) for part in first["loc"]))
            raise SetupError(
                f"The environment variable {name} has an unusable value ({first['msg']}).",
                f"Set {name} to a valid value or unset it.",
            ) from None

    @property
    def root(self) -> Path:
        """``SENTIMENT_HOME`` as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance: runs, event log, schedules (``DAGSTER_HOME``)."""
        return self.root / "dagster_home"

    @property
    def storage_root(self) -> Path:
        """Where what has to outlive the driver's machine is kept; see :func:`is_local`.

        Raises
        ------
        SetupError
            When SENTIMENT_STORAGE is a URI and the package for its kind is not installed.
        """
        return self.root if self.storage is None else location(self.storage)

    @property
    def lake(self) -> Path:
        """Delta tables, one folder each."""
        return self.storage_root / "lake"

    @property
    def models(self) -> Path:
        """The model store."""
        return self.storage_root / "models"

    @property
    def checkpoints(self) -> Path:
        """Structured Streaming checkpoints, one folder per query."""
        return self.storage_root / "checkpoints"

    @property
    def kafka(self) -> Path:
        """The embedded broker's log segments and configuration."""
        return self.root / "kafka"

    @property
    def logs(self) -> Path:
        """Log files of Spark, Kafka, Dagster and of the runs."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Short-lived state: pid files, locks, heartbeats."""
        return self.root / "run"

    @property
    def spool(self) -> Path:
        """Live posts that Kafka has not acknowledged yet, one file a source."""
        return self.root / "spool"

    @property
    def downloads(self) -> Path:
        """Verified downloads, kept."""
        return self.root / "downloads"

    @property
    def reports(self) -> Path:
        """Pages about trainings, and the studies on demand that they show."""
        return self.root / "reports"

    @property
    def trials(self) -> Path:
        """Every trial of every search for settings (SQLite)."""
        return self.root / "tuning" / "trials.db"

    @property
    def kernel_cache(self) -> Path:
        """Machine code of the scoring kernel, beside the jars: compiled once on a machine."""
        return self.jar_cache.expanduser().absolute().parent / "numba"

    def table(self, name: str) -> Path:
        """Folder of the Delta table ``name``."""
        return self.lake / name

    def rows_to_train(self, otherwise: int | None = None) -> int | None:
        """Size of the sample that SENTIMENT_TRAIN_ROWS asks for, None: all rows; ``otherwise`` when it is not set."""
        if self.train_rows is None:
            return otherwise
        return None if self.train_rows == "all" else int(self.train_rows)

    def prepare(self) -> Self:
        """Create the folders.

        Raises
        ------
        SetupError
            When SENTIMENT_HOME cannot be created or written.
        """
        try:
            for folder in (self.dagster_home, self.lake, self.models, self.checkpoints, self.logs, self.run):
                if is_local(folder):
                    folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.run, os.W_OK):
                raise PermissionError(13, "Permission denied", str(self.run))
        except OSError as error:
            raise SetupError(
                f"The state folder {self.root} cannot be written ({error.strerror}).",
                "Make it writable, free some disk, or point SENTIMENT_HOME at another folder.",
            ) from error
        return self
