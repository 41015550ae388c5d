"""Requests to the X API: the token, time-outs, and what each answer means.

Belongs here: HTTP. Does not belong here: what is asked for (``rules``, ``recent``, ``stream``).
"""

import json
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from sentiment_assets.failures import SourceError
from sentiment_assets.sources.live import Interrupted

NETWORK, SERVER, LIMIT = "network", "server", "limit"
"""Kinds of fault, each with a pause of its own."""

_ANSWER_SECONDS = 30.0
# The service sends a newline every 20 s; it is often a moment late (tweepy 4.12.1 adds a second too).
SILENCE_SECONDS = 21.0
_MOST_LINE_BYTES = 2**20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class PlanError(SourceError):
    """The access level of the token does not include an endpoint."""


class RequestError(SourceError):
    """X finds a request wrong in itself: its query or its times (HTTP 400, 422)."""


class RulesCapError(SourceError):
    """The access level of the token has no room for so many rules."""


class XClient:
    """One HTTP connection pool with the bearer token.

    Parameters
    ----------
    base_url
        ``https://api.x.com``, or a local peer.
    token
        Sent in the header ``Authorization`` and nowhere else.

    Raises
    ------
    SourceError
        When the token would be sent unencrypted to another machine, or cannot be a token.
    """

    def __init__(self, base_url: str, token: SecretStr) -> None:
        address = urlsplit(base_url)
        if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
            raise SourceError(
                f"The address {base_url} of the X API is not an https:// address.",
                "Set SENTIMENT_X_API_URL to one, or unset it: the token must not travel in the clear.",
            )
        secret = token.get_secret_value().strip()
        if not secret.isascii() or not secret.isprintable():
            raise SourceError(
                "The bearer token has characters that no token has.",
                "Set SENTIMENT_X_BEARER_TOKEN to the token as the X developer portal shows it.",
            )
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {secret}", "User-Agent": "sentiment-assets"},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=10.0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        """The JSON object that a GET gives.

        Raises
        ------
        Interrupted
            When it may be tried again.
        PlanError, SourceError
            When it may not.
        """
        return await self._ask("GET", path, params=params)

    async def post(
        self, path: str, body: dict[str, Any], params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that a POST gives; raises as :meth:`get`."""
        return await self._ask("POST", path, json=body, params=params)

    async def lines(self, path: str, params: dict[str, str]) -> AsyncGenerator[bytes, None]:
        """The lines of a streaming endpoint; an empty one is a heartbeat.

        Raises
        ------
        Interrupted
            When the connection cannot be made, ends, or is silent for 21 s; never returns by itself.
        """
        try:
            timeout = httpx.Timeout(SILENCE_SECONDS, connect=10.0)
            async with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    _check(response)
                rest = b""
                # Not `aiter_lines`: it also breaks lines at U+2028 and its like, which a text may contain.
                async for chunk in response.aiter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield line.rstrip(b"\r")
                    if len(rest) > _MOST_LINE_BYTES:
                        raise Interrupted(NETWORK, "a line without end")
        except httpx.ReadTimeout:
            raise Interrupted(NETWORK, f"nothing came for {SILENCE_SECONDS:.0f} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Interrupted(NETWORK, _reason(error)) from None
        raise Interrupted(NETWORK, "the connection was closed")

    async def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = await self._http.request(method, path, **request)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Interrupted(NETWORK, _reason(error)) from None
        _check(response)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Interrupted(SERVER, f"the answer of {path} is not a JSON object")
        return body


def pause_seconds(fault: Interrupted, row: int, now: float | None = None) -> float:
    """Seconds to wait as X documents it: linear for the network, exponential for HTTP errors and limits.

    Parameters
    ----------
    row
        0: a working connection has ended (try again at once); 1: the first failure; 2: the second in a row.
    now
        Seconds since the epoch; the clock's by default.

    Examples
    --------
    >>> [pause_seconds(Interrupted(NETWORK, ""), row) for row in (0, 1, 2, 64, 100)]
    [0.0, 0.25, 0.5, 16.0, 16.0]
    >>> [pause_seconds(Interrupted(SERVER, ""), row) for row in (1, 2, 7, 100)]
    [5.0, 10.0, 320.0, 320.0]
    >>> [pause_seconds(Interrupted(LIMIT, ""), row) for row in (1, 2, 3)]
    [60.0, 120.0, 240.0]
    """
    step = max(0, row - 1)
    if fault.kind == NETWORK:
        return min(0.25 * row, 16.0)
    if fault.kind == SERVER:
        return min(5.0 * 2.0 ** min(step, 10), 320.0)
    # X names no upper limit; its longest rate-limit window is 15 minutes for these endpoints.
    exponential = min(60.0 * 2.0 ** min(step, 10), 960.0)
    until_reset = (fault.reset_at or 0.0) - (time.time() if now is None else now)
    if until_reset <= 0:
        return exponential
    # The first time the header is believed; a limit that lasts beyond its own reset is waited out longer.
    return until_reset if row <= 1 else max(until_reset, exponential)


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    said = _said(response)
    if status in (420, 429):
        raise Interrupted(LIMIT, f"rate limit ({status}{said})", reset_at=_reset_at(response))
    if status >= 500 or status == httpx.codes.REQUEST_TIMEOUT:
        raise Interrupted(SERVER, f"HTTP {status}{said}")
    if status == httpx.codes.UNAUTHORIZED:
        raise SourceError(
            "X does not accept the bearer token (401).",
            "Set SENTIMENT_X_BEARER_TOKEN to a valid token from the X developer portal.",
        )
    if '"RulesCapExceeded"' in response.text:
        raise RulesCapError(
            f"X has no room for so many rules ({status}{said}).",
            "Give fewer rules, or check the plan of your X project.",
        )
    if status in (402, 403):
        raise PlanError(
            f"X refuses {response.request.url.path} to this token ({status}{said}).",
            "The filtered stream needs an access level that includes it: check the plan of your X project.",
        )
    kind = RequestError if status in (400, 422) else SourceError
    raise kind(
        f"X does not accept the request {response.request.url.path} ({status}{said}).",
        "Check the rules against X's documentation of operators, and SENTIMENT_X_API_URL.",
    )


def _said(response: httpx.Response) -> str:
    """What the body says in words, shortened; it comes from outside."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    for part in (first, body):
        for name in ("message", "detail", "title"):
            if isinstance(part.get(name), str):
                return f": {part[name][:200]}"
    return ""


def _reset_at(response: httpx.Response) -> float | None:
    text = response.headers.get("x-rate-limit-reset", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _reason(error: Exception) -> str:
    return f"no connection ({str(error)[:200] or type(error).__name__})"


def parsed(line: bytes) -> dict[str, Any] | None:
    """A line as a JSON object; None for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
