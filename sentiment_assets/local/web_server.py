"""Dagster's web server, closed to the web pages of other sites: ``python -m sentiment_assets.local.web_server``.

Dagster takes GraphQL from whoever reaches its port, and a page of any site can make the browser of somebody on this
machine send a request there, or be reached under a name of its own that leads to 127.0.0.1 (DNS rebinding).
Belongs here: which requests are let in. Does not belong here: starting the process (``services``, ``docker/``).
"""

import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from sentiment_assets.settings import Settings

_POLICY_VIOLATION = 1008
_ANY = "*"


def reason_to_refuse(
    method: str,
    path: str,
    headers: Mapping[str, str],
    names: frozenset[str] = frozenset(),
    own: frozenset[str] = frozenset(),
) -> str | None:
    """Why a request is not let in; None for one of our own pages, or of a program.

    The rules are those of OWASP's "Cross-Site Request Forgery Prevention" (origin and Fetch Metadata headers), and of
    its advice against DNS rebinding (known host names). A program sends no ``Origin``, a browser cannot leave it out.

    Parameters
    ----------
    headers
        By lower-case name.
    names
        Host names that the server goes by, beside addresses, ``localhost`` and the machine's own; ``*``: any. Pages of
        these hosts may use it.
    own
        Further names that it goes by, without trust in other servers of the same host.
    """
    host = headers.get("host", "")
    name = _name(host)
    known = names | own | {"localhost", socket.gethostname().lower()}
    if _ANY not in names and name not in known and not _is_address(name):
        return f"This server does not go by the name {name}. If it should, add it to SENTIMENT_UI_HOSTS."
    origin = headers.get("origin")
    page = (origin or "").partition("://")[2]
    if origin is not None and page != host and _name(page) not in names:
        return (
            f"A page of {origin} may not use this server. If it should, add its host to SENTIMENT_UI_HOSTS."
        )
    followed = (
        method == "GET" and headers.get("sec-fetch-mode") == "navigate" and not path.endswith("/graphql")
    )
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and origin is None and not followed:
        return "A page of another site may link to this server, not use it."
    return None


class OwnPagesOnly:
    """ASGI middleware that answers 403 to what :func:`reason_to_refuse` names."""

    def __init__(self, inner: ASGIApp, names: frozenset[str], own: frozenset[str]) -> None:
        self._inner = inner
        self._names, self._own = names, own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            reason = reason_to_refuse(
                scope.get("method", "GET"), scope["path"], headers, self._names, self._own
            )
            if reason is not None:
                refusal = (
                    PlainTextResponse(f"{reason}\n", status_code=403)
                    if scope["type"] == "http"
                    else WebSocketClose(_POLICY_VIOLATION, reason)
                )
                await refusal(scope, receive, send)
                return
        await self._inner(scope, receive, send)


def main() -> None:
    """``dagster-webserver`` with its own options, behind :class:`OwnPagesOnly`."""
    from dagster_webserver import app, cli  # opens a socket at import
    from dagster_webserver.webserver import DagsterWebserver

    settings = Settings.from_env()
    stated = (settings.ui_hosts or "").split(",")
    names = frozenset(name.strip().lower() for name in stated if name.strip())
    own = frozenset({settings.ui_host.lower()})

    class Guarded(DagsterWebserver[Any, Any]):
        def build_middleware(self) -> list[Middleware]:
            return [Middleware(OwnPagesOnly, names=names, own=own), *super().build_middleware()]

    # The command line makes this class and offers no other way in.
    app.DagsterWebserver = Guarded  # type: ignore[attr-defined]
    cli.main()  # type: ignore[no-untyped-call]


def _name(host: str) -> str:
    """The host of ``host:port``, without brackets; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
