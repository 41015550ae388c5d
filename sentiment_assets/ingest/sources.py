"""The sources by name, made from the settings: what ``ingest`` and ``up --source`` offer.

Belongs here: which settings a source needs. Does not belong here: options of one command.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from sentiment_assets.failures import SourceError
from sentiment_assets.settings import Settings
from sentiment_assets.sources.jetstream import PUBLIC_URLS, Jetstream
from sentiment_assets.sources.live import Counters, Post
from sentiment_assets.sources.x_api import XStream, read_rules

SOURCES = ("x", "jetstream", "file")


class Nothing:
    """A source that gives nothing new, so that a run delivers what another of this name left on disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters = Counters()

    def position(self) -> str | None:
        """The one that was kept stays."""
        return None

    async def run(self, put: Callable[[Post], Awaitable[None]], position: str | None) -> None:
        """Ends at once."""


def x_source(settings: Settings, rules: Sequence[str] = (), rules_file: Path | None = None) -> XStream:
    """X's filtered stream.

    Raises
    ------
    SourceError
        When there is no token in the environment, or the rule file cannot be read.
    """
    if settings.x_bearer_token is None or not settings.x_bearer_token.get_secret_value().strip():
        raise SourceError(
            "The source x needs a bearer token.",
            "Set SENTIMENT_X_BEARER_TOKEN to that of your app in the X developer portal, or use the source "
            "jetstream, which needs no key.",
        )
    return XStream(settings.x_api_url, settings.x_bearer_token, read_rules(list(rules), rules_file))


def jetstream_source(settings: Settings, languages: Sequence[str] = ()) -> Jetstream:
    """Bluesky's Jetstream; with no language, all posts.

    Raises
    ------
    SourceError
        When SENTIMENT_JETSTREAM_URLS has no usable address.
    """
    given = settings.jetstream_urls
    urls = PUBLIC_URLS if given is None else tuple(url.strip() for url in given.split(",") if url.strip())
    if not urls or not all(url.startswith(("wss://", "ws://")) for url in urls):
        raise SourceError(
            f"SENTIMENT_JETSTREAM_URLS is {given!r}, which is no list of websocket addresses.",
            "Set it to wss:// addresses that end in /subscribe, by comma, or unset it.",
        )
    return Jetstream(urls, languages)
