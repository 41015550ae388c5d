"""The Spark session as a Dagster resource, started only when an asset first needs it."""

from typing import TYPE_CHECKING

from dagster import DagsterInstance
from dagster_pyspark import LazyPySparkResource

from sentiment_assets.resources.orphans import note_process
from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import Role, output_to, spark_conf

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
        """
        if instance is not None and run_id is not None:
            note_process(instance, run_id)
        if self._lazy is None:
            conf = spark_conf(self._settings, role=self._role, app_name=f"sentiment-assets {self._role}")
            self._lazy = LazyPySparkResource(spark_config=conf)
        with output_to(self._settings.logs / f"spark-{self._role}-console.log"):
            session: SparkSession = self._lazy.spark_session
        return session
