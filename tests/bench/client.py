"""The measuring client, a process of its own with raw sockets, so that its own cost is small and not the server's.

    python client.py replay PORT REQUEST TIMES        one connection, one request after the other
    python client.py live PORT REQUEST STREAMS        so many connections at once, the request's `{}` is their number

`REQUEST` is `METHOD PATH [name:value ...]`. One JSON line comes back: `seconds` (of each replay, or of all streams from
the first request to the last end), `bytes` and `events` of the bodies, all of them checked to be whole.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time

DEADLINE_S = 30
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_END_OF_CHUNKS = b"0\r\n\r\n"


def encode(request: str, number: int = 0) -> bytes:
    method, path, *headers = request.split()
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "content-length: 0" if method == "POST" else "", *headers]
    return "".join(f"{line}\r\n" for line in lines if line).replace("{}", str(number)).encode() + b"\r\n"


def replay(port: int, request: str, times: int) -> dict[str, object]:
    sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    asked, buffer, seconds, total = encode(request), memoryview(bytearray(4 << 20)), [], 0
    for _ in range(times):
        started = time.perf_counter()
        sock.sendall(asked)
        held, size, head = 0, 0, b""
        while not head or (held < size if size else buffer[held - 5 : held] != _END_OF_CHUNKS):
            if not (got := sock.recv_into(buffer[held:])):
                raise SystemExit(f"the server hung up after {held} bytes: {bytes(buffer[:held])[:200]!r}")
            held += got
            if not head and (end := bytes(buffer[: min(held, 8192)]).find(b"\r\n\r\n")) >= 0:
                head = bytes(buffer[: end + 4])
                length = _LENGTH.search(head)
                size = end + 4 + int(length[1]) if length else 0
        seconds.append(time.perf_counter() - started)
        body = bytes(buffer[len(head) : held])
        total += len(body) if size else len(unchunked(body))
    events = (body if size else unchunked(body)).count(b"\n\n")
    return {"seconds": seconds, "bytes": total, "events": events * times}


def live(port: int, request: str, streams: int) -> dict[str, object]:
    open_ = selectors.DefaultSelector()
    bodies: dict[socket.socket, bytearray] = {}
    started = time.perf_counter()
    for number in range(streams):
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        sock.sendall(encode(request, number))
        open_.register(sock, selectors.EVENT_READ)
        bodies[sock] = bytearray()
    left = streams
    while left:
        ready = open_.select(DEADLINE_S)
        if not ready:
            raise SystemExit(f"{left} of {streams} streams stand still")
        for key, _ in ready:
            sock = key.fileobj
            data = sock.recv(1 << 20)
            bodies[sock] += data
            if not data:
                raise SystemExit(f"a stream was cut after {len(bodies[sock])} bytes: {bytes(bodies[sock][-300:])!r}")
            if bodies[sock].endswith(_END_OF_CHUNKS):
                open_.unregister(sock)
                sock.close()
                left -= 1
    seconds = time.perf_counter() - started
    answers = [unchunked(bytes(body).partition(b"\r\n\r\n")[2]) for body in bodies.values()]
    return {"seconds": seconds, "bytes": sum(map(len, answers)), "events": sum(a.count(b"\n\n") for a in answers)}


def unchunked(data: bytes) -> bytes:
    parts, at = [], 0
    while size := int(data[at : (line := data.index(b"\r\n", at))], 16):
        parts.append(data[line + 2 : line + 2 + size])
        at = line + size + 4
    return b"".join(parts)


if __name__ == "__main__":
    what, port, request, count = sys.argv[1:]
    print(json.dumps({"replay": replay, "live": live}[what](int(port), request, int(count))))
