"""A client with nothing between the test and the bytes."""

from __future__ import annotations

import re
import socket

DEADLINE_S = 10
CHAT = "/v1/chat/completions"


class Raw:
    """One connection to a server at `url`."""

    def __init__(self, url: str, *, window: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE_S)
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        self.buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, path: str = CHAT, body: bytes = b'{"stream":true}', head: str = "", method: str = "POST") -> Raw:
        lines = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{head}\r\n"
        self.sock.sendall(lines.encode() + body)
        return self

    def until(self, marker: bytes) -> bytes:
        """Through the marker."""
        while marker not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f"the provider closed before {marker!r}: {self.buffer!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(marker)
        return found + marker

    def head(self) -> str:
        return self.until(b"\r\n\r\n").decode()

    def rest(self) -> tuple[bytes, str]:
        """Everything that follows, and how the connection ended: soon, and not because somebody gave up waiting."""
        self.sock.settimeout(1.5)
        try:
            while data := self.sock.recv(65536):
                self.buffer += data
        except ConnectionResetError:
            return self.buffer, "rst"
        return self.buffer, "fin"

    def body(self) -> bytes:
        """One chunked body, whole."""
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            while len(self.buffer) < size + 2:
                self.buffer += self.sock.recv(65536)
            body, self.buffer = body + self.buffer[:size], self.buffer[size + 2 :]
        self.until(b"\r\n")
        return body


def chunks(data: bytes) -> list[bytes]:
    """The whole chunks in a piece of a chunked body, without its end."""
    found: list[bytes] = []
    while size := re.match(rb"([0-9a-f]+)\r\n", data):
        begin, length = size.end(), int(size[1], 16)
        if len(data) < begin + length + 2 or not length:
            break
        found.append(data[begin : begin + length])
        data = data[begin + length + 2 :]
    return found
