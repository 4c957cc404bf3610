"""The measuring client, a process of its own with raw sockets, so that its own cost is small and not the server's.

    python client.py replay PORT REQUEST TIMES        one connection, one request after the other
    python client.py live PORT REQUEST STREAMS        so many connections at once, the request's `{}` is their number

`REQUEST` is `METHOD PATH [name:value ...]`. One JSON line comes back: `seconds` of each replay, or of all streams from the
first request to the last end; `bytes` and `events` of all bodies, every one of which came whole.
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
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_END_OF_CHUNKS = b"0\r\n\r\n"


def encode(request: str, number: int = 0) -> bytes:
    method, path, *headers = request.split()
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "content-length: 0" if method == "POST" else "", *headers]
    return "".join(f"{line}\r\n" for line in lines if line).replace("{}", str(number)).encode() + b"\r\n"


def replay(port: int, request: str, times: int) -> dict[str, object]:
    sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    asked, buffer = encode(request), memoryview(bytearray(MOST_BYTES))
    seconds, size, events = list[float](), 0, 0
    for _ in range(times):
        started = time.perf_counter()
        sock.sendall(asked)
        held, head, end = 0, b"", 0
        while not head or (held < end if end else buffer[held - 5 : held] != _END_OF_CHUNKS):
            got = sock.recv_into(buffer[held:])
            held += got
            if not got or buffer[: len(_OK)] != _OK:
                raise SystemExit(f"not a whole answer: {bytes(buffer[:held])[:400]!r}")
            if not head and _HEAD_END in (begun := bytes(buffer[: min(held, 8192)])):
                head = begun[: begun.index(_HEAD_END) + 4]
                length = _LENGTH.search(head)
                end = len(head) + int(length[1]) if length else 0
        seconds.append(time.perf_counter() - started)
        body = bytes(buffer[len(head) : held])
        body = body if end else unchunked(body)
        size += len(body)
        events += body.count(b"\n\n")
    return {"seconds": seconds, "bytes": size, "events": events}


def live(port: int, request: str, streams: int) -> dict[str, object]:
    unended = selectors.DefaultSelector()
    answers: dict[socket.socket, bytearray] = {}
    started = time.perf_counter()
    for number in range(streams):
        sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        sock.sendall(encode(request, number))
        unended.register(sock, selectors.EVENT_READ, sock)
        answers[sock] = bytearray()
    while unended.get_map():
        if not (ready := unended.select(DEADLINE_S)):
            raise SystemExit(f"{len(unended.get_map())} of {streams} streams stand still")
        for key, _ in ready:
            sock = key.data
            data, answer = sock.recv(1 << 20), answers[sock]
            answer += data
            if not data or not answer.startswith(_OK):
                raise SystemExit(f"not a whole answer: {bytes(answer)[:400]!r}")
            if answer.endswith(_END_OF_CHUNKS):
                unended.unregister(sock)
                sock.close()
    seconds = time.perf_counter() - started
    bodies = [unchunked(bytes(answer).partition(_HEAD_END)[2]) for answer in answers.values()]
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
