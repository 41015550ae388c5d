"""TCP ports of this machine: which are free, who has the others.

Belongs here: questions about ports. Does not belong here: which service wants which port.
"""

import errno
import os
import random
import socket

import psutil
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from sentiment_assets.failures import SetupError

LOOPBACK = "127.0.0.1"

_SERVERS = range(20_000, 32_768)
"""Below the ports that systems give to outgoing connections (Linux from 32768 on, others from 49152): while a server is
down, a client that connects again and again may be given the server's own port, and then it cannot come back."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server can listen on ``host:port`` now.

    Raises
    ------
    SetupError
        When ``host`` is no address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do: a port whose last connections are in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return False
        raise SetupError(
            f"No server can listen on {host} ({error.strerror}).",
            "Use an address of this machine: 127.0.0.1.",
        ) from error
    return True


def in_url(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address has brackets."""
    return f"[{host}]" if ":" in host else host


def reachable(host: str) -> str:
    """The host of a URL by which this machine reaches its own server that listens on ``host``, which may be "any"."""
    return in_url({"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host))  # noqa: S104


def spare_loopback() -> None:
    """Keep this process and its children from asking a proxy for this machine's own servers, where one is set."""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in proxies):
        return
    # Most programs read the one in lower case first, so both say the same.
    stated = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in stated.split(",") if host]
    spared = (
        stated if stated.strip() == "*" else ",".join(dict.fromkeys([*hosts, LOOPBACK, "localhost", "::1"]))
    )
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = spared


def free_port(*preferred: int, host: str = LOOPBACK) -> int:
    """The first of the preferred ports that is free, else one for servers, else one that the system chooses."""
    for port in (*preferred, *random.sample(_SERVERS, 100)):
        if is_free(port, host):
            return port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float) -> bool:
    """Wait while a port is somebody's end of a connection, with no server on it; whether it is free now.

    Parameters
    ----------
    seconds
        How long at most. A port on which another server listens is not waited for.
    """
    return bool(
        Retrying(
            retry=retry_if_result(lambda free: not free and port_owner(port) is None),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(seconds),
            retry_error_callback=lambda _: False,
        )(is_free, port)
    )


def require_free_port(port: int, *, option: str, host: str = LOOPBACK) -> None:
    """Refuse a port that is taken.

    Parameters
    ----------
    option
        How to choose another: ``"--port"``.

    Raises
    ------
    SetupError
        Names the port, and the process that has it where the system tells.
    """
    if is_free(port, host):
        return
    owner = port_owner(port)
    by = f" by {owner}" if owner else ""
    raise SetupError(f"Port {port} is in use{by}.", f"Stop what uses it, or choose another with {option}.")


def port_owner(port: int) -> str | None:
    """``name (pid N)`` of the process that listens on a port; None where the system does not tell."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # macOS shows other people's sockets to root only
    return None
