"""Every environment variable of the product, once, typed, with its default and its meaning.

Belongs here: what an installation decides (folders, addresses, limits).
Does not belong here: options of one command (``cli``) or of one run (Dagster config).
"""

import os
from pathlib import Path
from typing import Literal, Self

import platformdirs
import psutil
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sentiment_assets.failures import SetupError

PUBLISHED_ZIP = "https://cs.stanford.edu/people/alecmgo/trainingandtestdata.zip"


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
    data: Path | None = Field(
        default=None, description="Training file (CSV or zip) when --data is not given."
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

    lease_seconds: int = Field(default=900, ge=10, description="Longest life of one streaming run.")
    idle_seconds: int = Field(
        default=300, ge=1, description="A streaming run with no new message for so long ends."
    )
    max_offsets_per_trigger: int = Field(
        default=100_000, ge=1, description="Most messages of one micro-batch."
    )
    heartbeat_timeout_seconds: int = Field(
        default=90, ge=10, description="A streaming run whose heartbeat is older is taken for dead."
    )
    supervisor_interval_seconds: int = Field(
        default=5, ge=1, description="Seconds between two supervisor ticks."
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

    @classmethod
    def from_env(cls) -> Self:
        """Read the environment; a bad value is one clear sentence, not a traceback."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "SENTIMENT_" + "_".join(str(part) for part in first["loc"]).upper()
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
    def lake(self) -> Path:
        """Delta tables, one folder each."""
        return self.root / "lake"

    @property
    def models(self) -> Path:
        """The model store."""
        return self.root / "models"

    @property
    def checkpoints(self) -> Path:
        """Structured Streaming checkpoints, one folder per query."""
        return self.root / "checkpoints"

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

    def table(self, name: str) -> Path:
        """Folder of the Delta table ``name``."""
        return self.lake / name

    def prepare(self) -> Self:
        """Create the folders.

        Raises
        ------
        SetupError
            When SENTIMENT_HOME cannot be created or written.
        """
        try:
            for folder in (self.dagster_home, self.lake, self.models, self.checkpoints, self.logs, self.run):
                folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.run, os.W_OK):
                raise PermissionError(13, "Permission denied", str(self.run))
        except OSError as error:
            raise SetupError(
                f"The state folder {self.root} cannot be written ({error.strerror}).",
                "Make it writable, free some disk, or point SENTIMENT_HOME at another folder.",
            ) from error
        return self
