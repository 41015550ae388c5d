"""The sinks that the settings switch on.

Belongs here: which setting makes which sink. Does not belong here: the sinks.
"""

from sentiment_assets.settings import Settings
from sentiment_assets.sinks.base import Sink

NAMES = ("postgres", "mongodb")
SETTINGS = {"postgres": "SENTIMENT_SINK_POSTGRES_DSN", "mongodb": "SENTIMENT_SINK_MONGODB_URI"}


def configured_names(settings: Settings) -> list[str]:
    """Names of the sinks that are switched on; reads nothing but the settings."""
    given = {"postgres": settings.sink_postgres_dsn, "mongodb": settings.sink_mongodb_uri}
    return [
        name for name in NAMES if (secret := given[name]) is not None and secret.get_secret_value().strip()
    ]


def make_sink(settings: Settings, name: str) -> Sink:
    """A sink by name; nothing is connected yet.

    Raises
    ------
    SinkError
        When its setting cannot be read.
    ValueError
        When there is no such sink, or no setting for it.
    """
    # Each driver is loaded only where its database is used.
    if name == "postgres" and settings.sink_postgres_dsn is not None:
        from sentiment_assets.sinks.postgres import PostgresSink

        return PostgresSink(settings.sink_postgres_dsn)
    if name == "mongodb" and settings.sink_mongodb_uri is not None:
        from sentiment_assets.sinks.mongodb import MongoSink

        return MongoSink(settings.sink_mongodb_uri)
    raise ValueError(f"The sink {name} is not switched on.")
