"""From a source of posts to the topic: kept on disk first, then delivered, nothing lost.

Belongs here: the spool, the delivery to Kafka, and the run that joins them with a source.
Does not belong here: protocols of services (``sources``), the topic's other clients (``kafka``).
"""

from sentiment_assets.ingest.run import IngestResult, ingest

__all__ = ["IngestResult", "ingest"]
