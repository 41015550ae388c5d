"""A webhook on the loopback address that keeps what it gets."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from sentiment_assets.settings import Settings


class Webhook(HTTPServer):
    """A webhook that keeps what it gets and answers with ``status``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keep)
        self.got: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret-path"


class _Keep(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def listening() -> Iterator[Webhook]:
    """A webhook that answers meanwhile."""
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def with_webhook(settings: Settings, url: str) -> Settings:
    """The same settings, with alerts to ``url``."""
    fields = settings.model_dump() | {"home": settings.home, "alert_webhook": url}
    return Settings(**fields)
