"""Follow a running query: which batches it has committed since one last looked.

Does not belong here: the figures in a report (``progress``).
"""

from pyspark.sql.streaming.query import StreamingQuery

from sentiment_assets.streaming.progress import Batch, read_batch


class Reports:
    """The progress reports of one query, each seen once.

    Spark keeps the last 100. PySpark's own ``recentProgress`` would turn each into objects by dozens of calls to
    the JVM; the JSON is one call.

    Parameters
    ----------
    topic
        The Kafka topic, the query's only source.
    """

    def __init__(self, query: StreamingQuery, topic: str) -> None:
        self._query, self._topic = query, topic
        self._newest: tuple[int, str] | None = None

    def fresh(self) -> list[Batch]:
        """Batches reported since the last call, in order; an idle query reports one without messages."""
        reports = self._query._jsq.recentProgress()
        newest = self._newest
        found: list[Batch] = []
        for place in range(len(reports) - 1, -1, -1):
            report = reports[place]
            # While idle, Spark reports the coming batch again and again: only the time tells reports apart.
            key = (report.batchId(), report.timestamp())
            if key == self._newest:
                break
            if not found:
                newest = key
            found.append(read_batch(report.json(), self._topic))
        self._newest = newest
        found.reverse()
        return found
