"""X (Twitter) API v2: the filtered stream, its rules, and recent search for what a broken connection missed.

Belongs here: that protocol and nothing else of ours. A client library that fits does not exist: tweepy's
StreamingClient fixes the host, takes no position to go on from and cannot be stopped while it waits; so the
requests are httpx's, the retry loop tenacity's.
Does not belong here: delivery to Kafka (``ingest``).

Numbers and rules: https://docs.x.com/x-api/fundamentals/handling-disconnections and the pages beside it.
"""

from sentiment_assets.sources.x_api.rules import read_rules
from sentiment_assets.sources.x_api.stream import XStream

__all__ = ["XStream", "read_rules"]
