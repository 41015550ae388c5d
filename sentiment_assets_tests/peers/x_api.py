"""The X API v2 as far as we use it: rules, the filtered stream in chunked lines, recent search in pages.

Each connection to the stream follows a script of steps; the last script is followed by all later connections.
Posts are published whether anybody listens or not, as in the world.
"""

import json
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

TOKEN = "AAAA-made-up-token"  # noqa: S105  (opens nothing)

Step = Callable[["XPeer", "_Handler"], None]


class DroppedError(Exception):
    """The script ends the connection."""


def send(count: int, *, long: bool = False) -> Step:
    """Publish posts and send them."""

    def step(peer: "XPeer", handler: "_Handler") -> None:
        for post in peer.publish(count, long=long):
            message = _answer([post], handler.query)
            handler.chunk(json.dumps(message | {"data": message["data"][0]}).encode() + b"\r\n")

    return step


def lose(count: int) -> Step:
    """Publish posts that this connection does not get."""

    def step(peer: "XPeer", _handler: "_Handler") -> None:
        peer.publish(count)

    return step


def raw(data: bytes) -> Step:
    """Send bytes as they are; ``b"\\r\\n"`` is a heartbeat."""

    def step(_peer: "XPeer", handler: "_Handler") -> None:
        handler.chunk(data)

    return step


HEARTBEAT = raw(b"\r\n")


def drop(_peer: "XPeer", _handler: "_Handler") -> None:
    """Close the connection in the middle of the chunked body."""
    raise DroppedError


def stay(peer: "XPeer", handler: "_Handler") -> None:
    """Heartbeats until the peer is closed."""
    while not peer.closed.wait(0.05):
        handler.chunk(b"\r\n")
    raise DroppedError


def be_silent(peer: "XPeer", _handler: "_Handler") -> None:
    """Nothing at all until the peer is closed."""
    peer.closed.wait()
    raise DroppedError


def trickle(peer: "XPeer", handler: "_Handler") -> None:
    """A post now and then until the peer is closed."""
    while not peer.closed.wait(0.05):
        send(1)(peer, handler)
    raise DroppedError


class Refusal:
    """An answer with an error status instead of a stream."""

    def __init__(self, status: int, body: dict[str, Any] | None = None, **headers: str) -> None:
        self.status = status
        self.body = body or {"title": "refused"}
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class XPeer:
    """The server, on a free port of the loopback.

    Parameters
    ----------
    scripts
        What each connection to the stream does, in order.
    search
        Refusal of recent search, if the plan has none.
    ahead_seconds
        How far its clock is before ours.
    """

    def __init__(
        self, *scripts: Sequence[Step] | Refusal, search: Refusal | None = None, ahead_seconds: float = 0.0
    ) -> None:
        self.scripts: list[Sequence[Step] | Refusal] = list(scripts) or [[stay]]
        self.search = search
        self.ahead_seconds = ahead_seconds
        self.rules: dict[str, str] = {}
        self.refuse_rules = False
        self.keep_rules = False
        self.most_rules: int | None = None
        self.posts: list[tuple[float, dict[str, Any]]] = []
        self.connections = 0
        self.searches: list[dict[str, str]] = []
        self.closed = threading.Event()
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.peer = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def publish(self, count: int, *, long: bool = False) -> list[dict[str, Any]]:
        """New posts, with ids that count from 1; a long one has its whole text in a field of its own."""
        with self.lock:
            first, now = len(self.posts) + 1, time.time()
            moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            made = [
                {
                    "id": str(number),
                    "text": f"made-up post {number} \u2028 with a line separator",
                    "created_at": moment,
                    "author_id": "7",
                    "lang": "en",
                }
                | ({"note_tweet": {"text": LONG_TEXT}} if long else {})
                for number in range(first, first + count)
            ]
            self.posts += [(now, post) for post in made]
        return made

    def next_script(self) -> Sequence[Step] | Refusal:
        """The script of a new connection."""
        with self.lock:
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
        return script

    def found(self, query: dict[str, str]) -> dict[str, Any]:
        """A page of recent search, the newest posts first."""
        start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("start_time", "end_time"))
        with self.lock:
            self.searches.append(query)
            begin, stop = (bisect_left(self.posts, at, key=lambda kept: kept[0]) for at in (start, end))
            matching = [post for _, post in reversed(self.posts[begin:stop])]
        begin, size = int(query.get("next_token", "0")), int(query["max_results"])
        meta = {"next_token": str(begin + size)} if begin + size < len(matching) else {}
        return _answer(matching[begin : begin + size], query) | {"meta": meta}

    def fault(self, query: dict[str, str]) -> str | None:
        """What X would find wrong in the times of a recent search."""
        start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("start_time", "end_time"))
        now = time.time() + self.ahead_seconds
        if end > now - 10:
            return "'end_time' must be a minimum of 10 seconds prior to the request time."
        if start < now - 7 * 86_400:
            return "'start_time' must be on or after 7 days before the request time."
        return None


LONG_TEXT = "made up " * 100
_ALWAYS = {"id", "text"}
_USER = {"id": "7", "username": "somebody", "name": "Some Body"}


def _answer(posts: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Posts with the fields that were asked for and no others, as X gives them."""
    wanted = _ALWAYS | {
        field for name in ("tweet.fields", "expansions") for field in query.get(name, "").split(",")
    }
    shown = [{field: value for field, value in post.items() if field in wanted} for post in posts]
    expanded = "author_id" in query.get("expansions", "").split(",")
    return {"data": shown} | ({"includes": {"users": [_USER]}} if expanded else {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def peer(self) -> XPeer:
        return self.server.peer  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.query = query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401, {"title": "Unauthorized", "status": 401})
        elif address.path == "/2/tweets/search/stream/rules":
            data = [{"id": number, "value": value} for number, value in self.peer.rules.items()]
            self.answer(200, {"data": data, "meta": {}} if data else {"meta": {}})
        elif address.path == "/2/tweets/search/recent":
            refusal = self.peer.search
            if refusal is None and (fault := self.peer.fault(query)) is not None:
                refusal = Refusal(400, {"title": "Invalid Request", "errors": [{"message": fault}]})
            if refusal is None:
                self.answer(200, self.peer.found(query))
            else:
                self.peer.searches.append(query)
                self.answer(refusal.status, refusal.body, refusal.headers)
        else:
            self.stream()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        peer = self.peer
        if "delete" in body and peer.keep_rules:
            self.answer(
                200, {"errors": [{"title": "Invalid Request"}], "meta": {"summary": {"not_deleted": 1}}}
            )
            return
        if "delete" in body:
            for number in body["delete"]["ids"]:
                del peer.rules[number]
            self.answer(200, {"meta": {}})
            return
        dry = "dry_run=true" in urlsplit(self.path).query
        if peer.refuse_rules:
            value = body["add"][0]["value"]
            error = {"title": "UnprocessableEntity", "value": value, "details": ["no viable alternative"]}
            self.answer(201, {"meta": {}, "errors": [error]})
            return
        if peer.most_rules is not None and len(peer.rules) + len(body["add"]) > peer.most_rules:
            self.answer(422, {"title": "RulesCapExceeded", "detail": "Too many rules."})
            return
        for rule in [] if dry else body["add"]:
            peer.rules[str(len(peer.rules) + 100)] = rule["value"]
        self.answer(201, {"data": [], "meta": {}})

    def stream(self) -> None:
        script = self.peer.next_script()
        if isinstance(script, Refusal):
            self.answer(script.status, script.body, script.headers)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for step in script:
                step(self.peer, self)
            self.wfile.write(b"0\r\n\r\n")
        except (DroppedError, OSError):
            pass
        self.close_connection = True

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass
