"""Bluesky's Jetstream: a websocket that sends events from a cursor on, and breaks off where it is told to."""

import json
import threading
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

FIRST_MOMENT = 1_760_000_000_000_000
STEP_MICROSECONDS = 100_000
"""Time between two events."""


def post_event(number: int, text: str | None = None, langs: list[str] | None = None) -> dict[str, Any]:
    """The creation of a post."""
    record = {
        "$type": "app.bsky.feed.post",
        "createdAt": "2026-01-02T03:04:05.678Z",
        "langs": ["en"] if langs is None else langs,
        "text": f"made-up post {number}" if text is None else text,
    }
    return {
        "did": f"did:plc:author{number % 10}",
        "time_us": FIRST_MOMENT + number * STEP_MICROSECONDS,
        "kind": "commit",
        "commit": {
            "rev": "3k",
            "operation": "create",
            "collection": "app.bsky.feed.post",
            "rkey": f"post{number}",
            "record": record,
            "cid": "bafy",
        },
    }


class JetstreamPeer:
    """The server, on a free port of the loopback.

    Parameters
    ----------
    events
        JSON values, or raw frames as str or bytes; each has its place in time by its index.
    breaks
        After how many frames each connection is cut off, in order; later connections stay.
    pause
        Seconds between two frames.
    """

    def __init__(self, events: list[Any], breaks: tuple[int, ...] = (), pause: float = 0.0) -> None:
        self._pause = pause
        self.frames = [event if isinstance(event, str | bytes) else json.dumps(event) for event in events]
        self.breaks = breaks
        self.queries: list[dict[str, list[str]]] = []
        self._closed = threading.Event()
        self._server = serve(self._serve, "127.0.0.1", 0, max_size=2**20, compression=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/subscribe"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closed.set()
        self._server.shutdown()

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        self.queries.append(query)
        number = len(self.queries) - 1
        cursor = int(query.get("cursor", ["0"])[0])
        begin = max(0, -(-(cursor - FIRST_MOMENT) // STEP_MICROSECONDS))
        end = begin + self.breaks[number] if number < len(self.breaks) else len(self.frames)
        try:
            for frame in self.frames[begin:end]:
                connection.send(frame)
                if self._pause:
                    self._closed.wait(self._pause)
            if end < len(self.frames) or number < len(self.breaks):
                connection.socket.close()  # no closing handshake: the machine is gone
                return
            while not self._closed.wait(0.05):
                pass
        except (ConnectionClosed, OSError):
            pass
