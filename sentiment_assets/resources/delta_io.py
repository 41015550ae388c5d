"""Delta tables as Dagster outputs: an asset returns a DataFrame, this writes it in one atomic commit."""

from typing import TYPE_CHECKING

from dagster import InputContext, IOManager, MetadataValue, OutputContext

from sentiment_assets.failures import TableError
from sentiment_assets.resources.spark import SparkResource
from sentiment_assets.schemas import TABLES, Table
from sentiment_assets.settings import Settings
from sentiment_assets.spark import delta

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PROVENANCE = "provenance"


class DeltaTableIOManager(IOManager):
    """Writes each asset to the Delta table of its name in SENTIMENT_HOME/lake, and reads it back.

    The asset's provenance travels in the commit's user metadata, so that a table tells by itself which
    data it holds, whoever reads it.

    Parameters
    ----------
    settings
        Installation settings; name the lake.
    spark
        The session for writing and reading.
    """

    def __init__(self, settings: Settings, spark: SparkResource) -> None:
        self._settings = settings
        self._spark = spark

    def handle_output(self, context: OutputContext, obj: "DataFrame | None") -> None:
        """Overwrite the table in one commit; ``None`` means the asset wrote it itself."""
        if obj is None:
            return
        table = _table(context)
        path = self._settings.table(table.name)
        metadata = context.output_metadata or {}
        stated = metadata.get(PROVENANCE)
        commit = {PROVENANCE: stated.value, "run_id": context.run_id} if stated is not None else None
        written = delta.overwrite(obj, path, table, user_metadata=commit)
        files = delta.file_stats(path)
        context.add_output_metadata(
            {
                "dagster/row_count": MetadataValue.int(delta.row_count(path)),
                "dagster/uri": MetadataValue.path(str(path)),
                "table_version": MetadataValue.int(written),
                "files": MetadataValue.int(files.files),
                "bytes": MetadataValue.int(files.bytes),
            }
        )

    def load_input(self, context: InputContext) -> "DataFrame":
        """Read the table of the upstream asset.

        Raises
        ------
        TableError
            When it was never written.
        """
        upstream = context.upstream_output
        if upstream is None:
            raise TableError("An input has no upstream asset.", "Materialize the assets from the left.")
        return delta.read(self._spark.session(), self._settings.table(_table(upstream).name))


def _table(context: OutputContext) -> Table:
    return TABLES[context.asset_key.path[-1]]
