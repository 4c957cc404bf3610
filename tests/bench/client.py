"""The measuring client, a process of its own with raw sockets, so that its own cost is small and not the server's.

    python client.py replay PORT REQUEST TIMES        one connection, one request after the other
    python client.py live PORT REQUEST STREAMS        so many connections at once, the request's `{}` is their number

`REQUEST` is `METHOD PATH [name:value ...]`. One JSON line comes back: `seconds` of each replay, or of all streams from
the first request to the last end; `bytes` and `events` of all bodies, every one of which came whole.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time

DEADLINE_S = 30
MOST_BYTES = 4 * 1024 * 1024
_OK = b"HTTP/1.1 200"
_HEAD = re.compile(rb".*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_END_OF_CHUNKS = b"0\r\n\r\n"


def encode(request: str, number: int = 0) -> bytes:
    method, path, *headers = request.split()
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "content-length: 0" if method == "POST" else "", *headers]
    return "".join(f"{line}\r\n" for line in lines if line).replace("{}", str(number)).encode() + b"\r\n"


class Answer:
    """One answer as it comes, in memory that was there before."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(MOST_BYTES))
        self.clear()

    def clear(self) -> None:
        self._held = self._body = self._end = 0

    def receive(self, sock: socket.socket) -> bool:
        """Take what is there. True with the last byte."""
        got = sock.recv_into(self._buffer[self._held :])
        self._held += got
        if not got or self._buffer[: len(_OK)] != _OK:
            raise SystemExit(f"not a whole answer: {bytes(self._buffer[: self._held])[:400]!r}")
        if not self._body and (head := _HEAD.match(self._buffer[: self._held])):
            self._body = head.end()
            length = _LENGTH.search(head[0])
            self._end = self._body + int(length[1]) if length else 0
        if not self._body or self._end:
            return self._held == self._end
        return self._buffer[self._held - len(_END_OF_CHUNKS) : self._held] == _END_OF_CHUNKS

    def body(self) -> bytes:
        data = bytes(self._buffer[self._body : self._held])
        return data if self._end else unchunked(data)


def replay(port: int, request: str, times: int) -> dict[str, object]:
    sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    asked, answer = encode(request), Answer()
    seconds, size, events = list[float](), 0, 0
    for _ in range(times):
        answer.clear()
        started = time.perf_counter()
        sock.sendall(asked)
        while not answer.receive(sock):
            pass
        seconds.append(time.perf_counter() - started)
        size += len(answer.body())
        events += answer.body().count(b"\n\n")
    return {"seconds": seconds, "bytes": size, "events": events}


def live(port: int, request: str, streams: int) -> dict[str, object]:
    unended, answers = selectors.DefaultSelector(), [Answer() for _ in range(streams)]
    started = time.perf_counter()
    for number, answer in enumerate(answers):
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        sock.sendall(encode(request, number))
        unended.register(sock, selectors.EVENT_READ, (sock, answer))
    while unended.get_map():
        if not (ready := unended.select(DEADLINE_S)):
            raise SystemExit(f"{len(unended.get_map())} of {streams} streams stand still")
        for key, _ in ready:
            sock, answer = key.data
            if answer.receive(sock):
                unended.unregister(sock)
                sock.close()
    seconds = time.perf_counter() - started
    bodies = [answer.body() for answer in answers]
    return {"seconds": [seconds], "bytes": sum(map(len, bodies)), "events": sum(b.count(b"\n\n") for b in bodies)}


def unchunked(data: bytes) -> bytes:
    parts, at = [], 0
    while size := int(data[at : (line := data.index(b"\r\n", at))], 16):
        parts.append(data[line + 2 : line + 2 + size])
        at = line + size + 4
    return b"".join(parts)


if __name__ == "__main__":
    what, port, request, count = sys.argv[1:]
    print(json.dumps({"replay": replay, "live": live}[what](int(port), request, int(count))))
