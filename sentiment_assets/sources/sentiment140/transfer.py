"""One file over HTTP: resumed, retried while it gets on, given up at once without a connection.

Belongs here: bytes and time-outs. Does not belong here: what the file is (``published``).
"""

from pathlib import Path

import pooch
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sentiment_assets.sources.progress import ByteProgress, OnProgress

_CONNECT_SECONDS = 6
_READ_SECONDS = 15
_ATTEMPTS = 5
# Small: the block in which a transfer breaks off is lost.
_BLOCK = 1 << 14


class TransferError(Exception):
    """The file did not arrive; the message is the cause, as a phrase."""


class BrokenOffError(TransferError):
    """The transfer broke off; what arrived is kept and the next attempt goes on from there."""


def fetch(url: str, target: Path, on_progress: OnProgress) -> None:
    """Fetch ``url`` into ``target``, which appears when it is complete.

    Raises
    ------
    TransferError
        When no connection can be made within seconds or the server refuses.
    BrokenOffError
        When the transfer began and breaks off again and again. What arrived is kept beside the target and
        the next call goes on from there.
    OSError
        When the folder cannot be written.
    """
    import requests  # opens a socket at import

    pooch.get_logger().setLevel("WARNING")
    downloader = _ResumingDownloader(target.with_name(f"{target.name}.part"), on_progress)
    try:
        pooch.retrieve(url, known_hash=None, fname=target.name, path=target.parent, downloader=downloader)
    except requests.RequestException as error:
        raise TransferError(_cause(error)) from error


class _ResumingDownloader:
    """A pooch downloader that goes on where an earlier transfer broke off, in this process or a former one.

    pooch writes to a temporary file that it deletes on failure, so what arrives is collected in ``part``.
    """

    def __init__(self, part: Path, on_progress: OnProgress) -> None:
        self._part = part
        self._on_progress = on_progress
        self._connected = False

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests

        del pooch
        for attempt in Retrying(
            retry=retry_if_exception_type(BrokenOffError),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=0.5, max=10),
            reraise=True,
        ):
            with attempt:
                try:
                    self._transfer(url)
                except requests.ConnectionError as error:
                    if not self._connected:
                        raise
                    raise BrokenOffError(f"the connection was lost ({_cause(error)})") from error
        self._part.replace(output_file)

    def _transfer(self, url: str) -> None:
        import requests

        done = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(
            url, headers=headers, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
        ) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # The part is complete, or belongs to another file: the checks tell which.
                if response.headers.get("Content-Range", "").endswith(f"/{done}"):
                    return
                self._part.unlink()
                raise BrokenOffError("what was kept of an earlier download does not fit")
            response.raise_for_status()
            self._connected = True
            resumed = response.status_code == requests.codes.partial_content
            done = done if resumed else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            progress = ByteProgress(f"downloading {self._part.stem}", total, self._on_progress)
            with self._part.open("ab" if resumed else "wb") as file:
                try:
                    for block in response.iter_content(_BLOCK):
                        file.write(block)
                        progress.at(file.tell())
                except requests.RequestException as error:
                    raise BrokenOffError(f"the transfer broke off at {file.tell():,} bytes") from error
                if total is not None and file.tell() < total:
                    raise BrokenOffError(f"the transfer broke off at {file.tell():,} of {total:,} bytes")


def _cause(error: Exception) -> str:
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {_CONNECT_SECONDS} s"
    if isinstance(error, requests.ReadTimeout):
        return f"no answer within {_READ_SECONDS} s"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)
