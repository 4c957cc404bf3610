"""Requests byte by byte, as no client library would send them, and their answers."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from .wire import Reply

DEADLINE_S = 10
CLOSED = Reply(0, {}, b"", cut=True)
"""The server hung up without an answer."""

Pairs = Iterable[tuple[str, str]]


def request(
    method: str, target: str, *headers: tuple[str, str], body: bytes = b"", host: str = "127.0.0.1", length: bool = True
) -> bytes:
    """One whole request; nothing in it is checked or escaped."""
    lines = [("Host", host), *headers, *([("Content-Length", str(len(body)))] if length and body else [])]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE_S)


def exchange(url: str, data: bytes, *, method: str = "GET") -> Reply:
    """Send, whether or not the server reads it to the end, and read the answer. `method` is what it answers to."""
    with connected(url) as sock:
        with contextlib.suppress(OSError):  # it may refuse, and hang up, in the middle
            _send_until_answered(sock, data)
        return answer(sock, method)


def answer(sock: socket.socket, method: str = "GET") -> Reply:
    """The next answer of a connection."""
    response = http.client.HTTPResponse(sock, method=method)
    try:
        response.begin()
    except (OSError, http.client.HTTPException):
        return CLOSED
    headers = {name.lower(): value for name, value in response.getheaders()}
    try:
        return Reply(response.status, headers, response.read())
    except http.client.IncompleteRead as error:
        return Reply(response.status, headers, error.partial, cut=True)
    except OSError:
        return Reply(response.status, headers, b"", cut=True)


def _send_until_answered(sock: socket.socket, data: bytes) -> None:
    """What a client does that listens while it sends: else the hang-up behind a refusal takes the refusal with it."""
    sock.setblocking(False)
    rest, until = memoryview(data), time.monotonic() + DEADLINE_S
    while rest and time.monotonic() < until:
        readable, writable, _ = select.select([sock], [sock], [], DEADLINE_S)
        if readable:
            break
        if writable:
            rest = rest[sock.send(rest[:65536]) :]
    sock.settimeout(DEADLINE_S)
