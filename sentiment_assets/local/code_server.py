"""The code location as a service of its own, for a deployment: runs execute below it.

Belongs here: starting Dagster's code server and ending it so that the stream finishes its batch first.
Does not belong here: the same processes on one machine (``services``).
"""

import contextlib
import signal
import subprocess
import sys
import threading

import psutil

from sentiment_assets.keys import LOCATION
from sentiment_assets.local.instance import prepare_instance
from sentiment_assets.local.stopping import end_stream
from sentiment_assets.settings import Settings

_STREAM_STOP_SECONDS = 13.0
_SERVER_STOP_SECONDS = 4.0
"""Together below the 20 s after which a container is killed."""


def serve_code(settings: Settings, *, host: str, port: int) -> int:
    """Serve the code location until SIGTERM or SIGINT.

    A stream that runs is asked to end at its batch boundary first. Whatever happens, nothing is lost: the next
    lease goes on at the committed position.

    Parameters
    ----------
    settings
        Names SENTIMENT_HOME, where the tables, models and runs live.
    host, port
        Where the gRPC server listens.

    Returns
    -------
    int
        Exit code: 0 after a signal, else that of the server, which has died.
    """
    prepare_instance(settings)
    asked = threading.Event()
    before = {
        number: signal.signal(number, lambda _number, _frame: asked.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "dagster", "code-server", "start", "--module-name", "sentiment_assets.definitions",
         "--host", host, "--port", str(port), "--location-name", LOCATION,
         "--use-python-environment-entry-point"],
        start_new_session=True,  # a Ctrl-C of the terminal is ours to hand on
    )  # fmt: skip
    try:
        while not asked.wait(0.5):
            if (code := server.poll()) is not None:
                return code or 1
        end_stream(settings, "the code location ends", _STREAM_STOP_SECONDS)
        return 0
    finally:
        _end(server)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and whatever runs below it: runs outlive their server otherwise."""
    try:
        family = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_SERVER_STOP_SECONDS)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.kill()
    server.wait()
