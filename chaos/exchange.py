"""One HTTP/1.1 exchange on a socket of its own, every wait under a deadline, and its end told as it was."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import h11

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends RST."""


class Cut(Exception):
    """The connection ended before the answer did."""


class Silent(Exception):
    """Nothing came within the deadline."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Exchange:
    """`with Exchange(url) as exchange: exchange.ask(...)`, then `data()`. Raises Cut, Silent; OSError on connecting."""

    def __init__(self, url: str, *, deadline_s: float) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._path, self._host = parts.path.rstrip("/"), f"{parts.hostname}:{parts.port}"
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        self.socket = socket.create_connection((parts.hostname, parts.port), deadline_s)
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def leave(self, *, reset: bool = False) -> None:
        """Have whoever waits for this answer, in another thread, get Cut: the peer gets FIN now, or RST as we close."""
        with contextlib.suppress(OSError):
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.socket.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send the request and wait for the head of its answer."""
        fields = {"host": self._host, "content-length": str(len(body)), **(headers or {})}
        request = h11.Request(method=method, target=self._path + path, headers=list(fields.items()))
        sent = [self._http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
        try:
            self.socket.sendall(b"".join(filter(None, sent)))
        except OSError as error:
            raise Cut(str(error)) from error
        while not isinstance(event := self._next(), h11.Response):
            pass
        self.status = event.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}

    def data(self) -> Iterator[bytes]:
        """The body as it comes, to the end as framed."""
        while isinstance(event := self._next(), h11.Data):
            yield bytes(event.data)

    def _next(self) -> h11.Event:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self.socket.recv(65536))
        except TimeoutError:
            raise Silent from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise Cut(str(error)) from error
        if isinstance(event, h11.ConnectionClosed):
            raise Cut("FIN before the answer")
        assert isinstance(event, h11.Event)
        return event


def ask(
    url: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    deadline_s: float = 10,
) -> Reply:
    """A whole answer. Raises Cut, Silent; OSError on connecting."""
    with Exchange(url, deadline_s=deadline_s) as exchange:
        exchange.ask(method, path, body, headers)
        return Reply(exchange.status, exchange.headers, b"".join(exchange.data()))
