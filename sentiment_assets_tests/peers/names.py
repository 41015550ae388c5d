"""A name server on the loopback that knows one MongoDB, or none any more, or says nothing."""

import socket
import threading
from contextlib import suppress
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

CLUSTER = "cluster.example.test"


class NameServer:
    """Asked by this process alone while it is entered, by dnspython and for each connection.

    Parameters
    ----------
    port
        Where the database listens on 127.0.0.1.

    Attributes
    ----------
    known, silent
        Whether it knows the cluster; whether it answers at all.
    """

    def __init__(self, port: int) -> None:
        self.known, self.silent = True, False
        self._records = {"SRV": f"0 0 {port} one.example.test.", "A": "127.0.0.1"}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._before = dns.resolver.default_resolver

    def __enter__(self) -> Self:
        self._thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], self._socket.getsockname()[1]
        dns.resolver.default_resolver = resolver
        dns.resolver.override_system_resolver(resolver)
        return self

    def __exit__(self, *_exception: object) -> None:
        dns.resolver.restore_system_resolver()
        dns.resolver.default_resolver = self._before
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            asked, sender = self._socket.recvfrom(4096)
            if not asked:
                return
            if not self.silent:
                with suppress(OSError):
                    self._socket.sendto(self._answer(asked), sender)

    def _answer(self, asked: bytes) -> bytes:
        query = dns.message.from_wire(asked)
        answer = dns.message.make_response(query, recursion_available=True)
        (question,) = query.question
        kind = dns.rdatatype.to_text(question.rdtype)
        if not self.known:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif kind in self._records:
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, self._records[kind]))
        return answer.to_wire()
