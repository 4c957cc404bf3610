"""One HTTP/1.1 exchange on a connection of its own, with every byte of its answer as it comes and its end as it was.

It blocks, and every wait is under the deadline of the check. The answers of several exchanges can be read in turn: what
nobody has read yet waits in the socket.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import h11

from .verdicts import Failed

Headers = Sequence[tuple[str, str]]

_PORTS = {"http": 80, "https": 443}
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends RST."""
_MAX_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and what its paths begin with."""

    scheme: str
    host: str
    port: int
    root: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a server, such as http://127.0.0.1:8787/llm")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def connect(self, within_s: float, window: int | None) -> socket.socket:
        """Raises OSError."""
        connection = socket.create_connection((self.host, self.port), within_s)
        if window:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.scheme == "https":
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=self.host)
        return connection


class Exchange:
    """A request that was sent, and its answer as far as it has been read. Raises Failed where nothing comes in time."""

    def __init__(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        until: float,
        *,
        wire: bytes | None = None,
        window: int | None = None,
    ) -> None:
        """`wire`: what goes over the connection instead of the request that the rest describes. `window`: bytes that
        may come before they are read. `until`: the deadline of every wait, on the monotonic clock. Raises Failed where
        the server takes no connection."""
        self.request = f"{method} {path}"
        self.body = b""
        self.ended: Literal["", "framed", "cut"] = ""
        """Empty: not yet. `framed`: as its framing says. `cut`: the connection ended before that."""
        self._status, self._headers = 0, list[tuple[str, str]]()
        self._until = until
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        fields = [("host", address.authority), *headers]
        if not any(name in ("content-length", "transfer-encoding") for name, _ in fields):
            fields.append(("content-length", str(len(body))))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        request = h11.Request(method=method, target=address.root + path, headers=raw)
        sent = [self._http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
        self.began_s = time.monotonic()
        try:
            self._socket = address.connect(self._left_s(), window)
        except OSError as error:
            raise Failed("a connection", f"{error}", self.request) from None
        # A server may refuse, and close, before it has read everything: its answer still counts.
        with contextlib.suppress(OSError):
            self._socket.sendall(b"".join(filter(None, sent)) if wire is None else wire)

    # --- reading -------------------------------------------------------------------------------------------------

    def read_head(self) -> None:
        """Wait for the status line and the headers."""
        while not self._status and not self.ended:
            self._step("an answer")
        if not self._status:
            raise Failed("an answer", "a connection that ended without one", self.request)

    def read_until(self, met: Callable[[], bool], what: str) -> None:
        """Wait until it is so, or the answer has ended."""
        self.read_head()
        while not met() and not self.ended:
            self._step(what)

    def read_for(self, seconds: float) -> None:
        """Read what comes in that time, or until the answer has ended."""
        self.read_head()
        until = min(self._until, time.monotonic() + seconds)
        while not self.ended and time.monotonic() < until:
            self._step("", until)

    def read_close(self) -> None:
        """Wait until the server ends the connection."""
        try:
            while self._http.their_state is not h11.CLOSED:
                self._socket.settimeout(self._left_s())
                if not self._socket.recv(65536):
                    return
        except TimeoutError:
            raise Failed("the end of the connection", "a connection that stays", self.request) from None
        except OSError:
            return

    def _step(self, what: str, until: float | None = None) -> None:
        """Take in one event. Raises Failed at the deadline of the check; returns at `until`."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._socket.settimeout(self._left_s(until))
                self._http.receive_data(self._socket.recv(65536))
        except TimeoutError:
            if until is not None and time.monotonic() < self._until:
                return
            seen = f"{len(self.body)} bytes of it" if self._status else "nothing"
            raise Failed(what, f"{seen} within {time.monotonic() - self.began_s:.1f} s", self.request) from None
        except (OSError, h11.RemoteProtocolError):
            self.ended = "cut"
            return
        match event:
            case h11.Response():
                self._status = event.status_code
                self._headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            case h11.Data():
                self.body += bytes(event.data)
            case h11.EndOfMessage():
                self.ended = "framed"
            case h11.ConnectionClosed():
                self.ended = "cut"

    def _left_s(self, until: float | None = None) -> float:
        """Raises TimeoutError where nothing is: an answer without end never waits."""
        left_s = min(self._until, until or self._until) - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no time is left")
        return left_s

    @property
    def answered(self) -> bool:
        """Whether its head has been read."""
        return self._status != 0

    @property
    def status(self) -> int:
        self.read_head()
        return self._status

    @property
    def headers(self) -> Headers:
        self.read_head()
        return self._headers

    # --- leaving -------------------------------------------------------------------------------------------------

    def leave(self, *, reset: bool = False) -> None:
        """End the connection, with FIN or with RST. Harmless when it has ended."""
        with contextlib.suppress(OSError):
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            else:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
