"""The Spark session as a Dagster resource, started only when an asset first needs it."""

from typing import TYPE_CHECKING

from dagster import DagsterInstance
from dagster_pyspark import LazyPySparkResource
from filelock import FileLock, Timeout

from sentiment_assets.failures import TrainingError
from sentiment_assets.resources.orphans import note_process
from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import Role, output_to, spark_conf

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_PATIENCE_SECONDS = 30.0


class SparkResource:
    """A lazily started Spark session for one role, through dagster-pyspark's ``LazyPySparkResource``.

    The configuration is computed at the first use, not at definition time: it looks for Java and the jars.

    Parameters
    ----------
    settings
        Installation settings.
    role
        ``training`` or ``stream``, see :func:`sentiment_assets.spark.session.spark_conf`.
    """

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role: Role = role
        self._lazy: LazyPySparkResource | None = None

    def session(self, instance: DagsterInstance | None = None, run_id: str | None = None) -> "SparkSession":
        """The session; the first call starts the JVM and notes on the run which process executes it.

        Raises
        ------
        SetupError
            When Java or the jars are missing.
        TrainingError
            When another process trains: both would write the training tables.
        """
        if instance is not None and run_id is not None:
            note_process(instance, run_id)
        if self._lazy is None:
            if self._role == "training":
                self._be_the_only_training()
            conf = spark_conf(self._settings, role=self._role, app_name=f"sentiment-assets {self._role}")
            self._lazy = LazyPySparkResource(spark_config=conf)
        with output_to(self._settings.logs / f"spark-{self._role}-console.log"):
            session: SparkSession = self._lazy.spark_session
        return session

    def _be_the_only_training(self) -> None:
        """Dagster's queue keeps the jobs apart, not runs from the asset graph. The lock ends with the process."""
        file = self._settings.run / "training.lock"
        self._lock = FileLock(file, thread_local=False, is_singleton=True)
        try:
            # One that has just ended still shuts its JVM down.
            self._lock.acquire(timeout=_PATIENCE_SECONDS)
        except Timeout:
            raise TrainingError(
                f"Another training is under way in {self._settings.root}.",
                "Wait for its end, or terminate its run in the UI; then run this again.",
            ) from None
