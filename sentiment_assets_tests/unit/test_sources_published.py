"""The published zip over a real HTTP server that interrupts, refuses and lies."""

import hashlib
import logging
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sentiment_assets.failures import SetupError, SourceError
from sentiment_assets.runtime.ports import free_port
from sentiment_assets.settings import Settings
from sentiment_assets.sources import resolve
from sentiment_assets.sources.generated import tweets
from sentiment_assets.sources.sentiment140 import download, transfer
from sentiment_assets.sources.sentiment140.published import Publication, UnreachableError
from sentiment_assets.sources.sentiment140.rows import TRAINING_MEMBER


class Server(ThreadingHTTPServer):
    """Serves one body with byte ranges; breaks off ``interruptions`` times after ``break_after`` bytes."""

    body = b""
    status = 200
    interruptions = 0
    break_after = 0
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/trainingandtestdata.zip"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range") if server.ranges else None
        server.asked.append(self.headers.get("Range"))
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if server.status != 200:
            self.send_error(server.status)
            return
        if start >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.body[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.interruptions:
            server.interruptions -= 1
            body = body[: server.break_after]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "published.zip"
    lines = "".join(",".join(f'"{field}"' for field in row) + "\n" for row in tweets(2000, seed=5))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(TRAINING_MEMBER, lines)
    return path.read_bytes()


@pytest.fixture
def server(archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Server()
    served.body = archive
    threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def expected(archive: bytes) -> Publication:
    return Publication(md5=hashlib.md5(archive, usedforsecurity=False).hexdigest(), rows=2000)


def at(settings: Settings, server: Server) -> Settings:
    return settings.model_copy(update={"source_url": server.url})


def test_it_is_fetched_once_and_kept(settings, server, expected, archive):
    first = download(at(settings, server), expected=expected)
    assert first.read_bytes() == archive
    assert download(at(settings, server), expected=expected) == first
    assert len(server.asked) == 1


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(settings, server, expected, archive):
    server.interruptions, server.break_after = 2, 16_384
    assert download(at(settings, server), expected=expected).read_bytes() == archive
    assert server.asked == [None, "bytes=16384-", "bytes=32768-"]


def test_an_interrupted_download_is_resumed_by_the_next_start(settings, server, expected, archive):
    part = settings.downloads / "trainingandtestdata.zip.part"
    part.parent.mkdir()
    part.write_bytes(archive[:12_345])
    assert download(at(settings, server), expected=expected).read_bytes() == archive
    assert server.asked == ["bytes=12345-"]
    assert not part.exists()


def test_a_download_that_breaks_off_for_good_is_no_reason_for_made_up_tweets(
    settings, server, expected, archive, monkeypatch
):
    monkeypatch.setattr(transfer, "_ATTEMPTS", 2)
    server.interruptions, server.break_after = 2, 16_384
    with pytest.raises(SourceError, match=r"was interrupted .*Start again: it goes on from there"):
        resolve(at(settings, server), generated_rows=100)
    assert (settings.downloads / "trainingandtestdata.zip.part").stat().st_size == 2 * 16_384
    assert download(at(settings, server), expected=expected).read_bytes() == archive


def test_a_download_that_was_complete_but_not_yet_moved_is_not_fetched_again(
    settings, server, expected, archive
):
    part = settings.downloads / "trainingandtestdata.zip.part"
    part.parent.mkdir()
    part.write_bytes(archive)
    assert download(at(settings, server), expected=expected).read_bytes() == archive


def test_what_was_kept_of_another_file_is_given_up(settings, server, expected, archive):
    part = settings.downloads / "trainingandtestdata.zip.part"
    part.parent.mkdir()
    part.write_bytes(archive + b"of a larger file")
    assert download(at(settings, server), expected=expected).read_bytes() == archive


def test_a_server_without_ranges_is_asked_for_the_whole_again(settings, server, expected, archive):
    server.ranges, server.interruptions, server.break_after = False, 1, 20_000
    assert download(at(settings, server), expected=expected).read_bytes() == archive


def test_another_hash_with_the_right_shape_is_accepted_with_a_warning(settings, server, expected, caplog):
    with caplog.at_level(logging.WARNING):
        download(at(settings, server), expected=Publication(md5="0" * 32, rows=2000))
    assert "0" * 32 in caplog.text
    assert expected.md5 in caplog.text


def test_another_hash_with_another_shape_is_refused_and_not_kept(settings, server):
    with pytest.raises(SourceError, match=r"1,000 negative and 1,000 positive rows, not 800,000 of each"):
        download(at(settings, server))
    assert not list(settings.downloads.glob("*.zip"))


def test_a_page_in_place_of_the_zip_is_refused_and_not_kept(settings, server, expected):
    server.body = b"<html>Please log in to this network.</html>"
    with pytest.raises(SourceError, match="is not Sentiment140"):
        download(at(settings, server), expected=expected)
    assert not list(settings.downloads.glob("trainingandtestdata*"))


def test_a_refusal_names_the_status(settings, server, expected):
    server.status = 404
    with pytest.raises(UnreachableError, match=r"cannot be fetched \(HTTP 404\)"):
        download(at(settings, server), expected=expected)


def test_without_a_connection_the_generated_sample_is_used_and_says_so(settings, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    nowhere = settings.model_copy(update={"source_url": f"http://127.0.0.1:{free_port()}/x.zip"})
    source = resolve(nowhere, generated_rows=100)
    assert source.kind == "generated"
    assert source.note.startswith("generated sample, not real tweets: http://127.0.0.1")
    assert source.note.endswith("cannot be fetched (no connection)")


def test_a_named_file_wins_over_the_published_one(settings, tmp_path):
    source = resolve(settings.model_copy(update={"data": "of/the/settings.csv"}))
    assert (source.kind, source.path) == ("file", Path("of/the/settings.csv").absolute())
    assert resolve(settings, str(tmp_path / "mine.csv")).path == tmp_path / "mine.csv"


def test_a_downloads_folder_that_cannot_be_written_is_told(settings, server, expected):
    settings.downloads.write_text("a file where the folder should be")
    with pytest.raises(SetupError, match="cannot be kept"):
        download(at(settings, server), expected=expected)
