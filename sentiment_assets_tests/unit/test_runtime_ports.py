"""Free ports, and who has the others."""

import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from requests.utils import should_bypass_proxies

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.ports import (
    free_port,
    in_url,
    is_free,
    reachable,
    require_free_port,
    spare_loopback,
    wait_for_port,
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        yield server.getsockname()[1]


def test_a_taken_port_is_refused_with_the_process_that_has_it(taken: int) -> None:
    with pytest.raises(SetupError) as failure:
        require_free_port(taken, option="--port")
    assert f"Port {taken}" in failure.value.what
    assert f"(pid {os.getpid()})" in failure.value.what
    assert "--port" in failure.value.next_step


def test_the_preferred_port_is_taken_when_free_and_another_when_not(taken: int) -> None:
    other = free_port(taken)
    assert other != taken
    assert free_port(taken, other) == other


def test_a_free_port_is_not_refused() -> None:
    require_free_port(free_port(), option="--port")


def test_an_address_of_another_machine_is_said_to_be_unusable() -> None:
    with pytest.raises(SetupError, match=r"No server can listen on 192\.0\.2\.1"):
        is_free(9092, host="192.0.2.1")


def test_a_free_port_is_none_that_a_client_could_be_given() -> None:
    assert free_port() < 32768


def test_a_port_that_is_a_clients_near_end_is_waited_for(taken: int) -> None:
    with socket.create_connection(("127.0.0.1", taken)) as client:
        near = client.getsockname()[1]
        assert not wait_for_port(near, 0.3)
        # Whoever closes first keeps the port for a while; as a client that gives up by reset it is free at once.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        threading.Timer(0.5, client.close).start()
        assert wait_for_port(near, 30)


def test_a_port_of_another_server_is_not_waited_for(taken: int) -> None:
    assert not wait_for_port(taken, 10_000)


@pytest.mark.parametrize(
    ("listens_on", "shown", "asked"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),  # noqa: S104
        ("::", "[::]", "[::1]"),
        ("fd00::2", "[fd00::2]", "[fd00::2]"),
        ("box.example.org", "box.example.org", "box.example.org"),
    ],
)
def test_the_address_of_a_server_in_a_url(listens_on: str, shown: str, asked: str) -> None:
    assert (in_url(listens_on), reachable(listens_on)) == (shown, asked)


def test_no_proxy_is_asked_for_this_machines_own_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.setenv(name, "")
        monkeypatch.setenv(name.upper(), "")
    spare_loopback()
    assert os.environ["no_proxy"] == ""
    monkeypatch.setenv("https_proxy", "http://192.0.2.1:3128")
    monkeypatch.setenv("NO_PROXY", ".corp.example,localhost")
    spare_loopback()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ".corp.example,localhost,127.0.0.1,::1"
    assert should_bypass_proxies("http://127.0.0.1:3000/server_info", None)
    monkeypatch.setenv("no_proxy", "*")
    spare_loopback()
    assert os.environ["no_proxy"] == "*"
