"""One Unix datagram socket a process, and what still waits to be said through it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio

from ...model import StreamId
from .messages import MAX_BYTES, Kind, Message, decode, messages

DESCRIPTORS = Path("/proc/self/fd")
"""A way to names in a directory that is short whatever the directory's path."""
SUN_PATH = 103
"""Bytes in a socket's address, the least of all platforms."""
AT_ONCE = 64
"""Datagrams taken before the loop gets its turn."""


class Mailbox:
    """Sends never wait. Without an address that is short enough there is no socket: nobody is heard, nobody is told."""

    def __init__(self, directory: Path, me: str, *, dir_fd: int) -> None:
        self._me = me
        self._place = _place(directory, dir_fd)
        self.socket: socket.socket | None = None
        if self._place is None:
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.bind(f"{self._place}/{me}.sock")
            os.chmod(f"{me}.sock", 0o600, dir_fd=dir_fd)
        except OSError:  # a file system without sockets
            sock.close()
        else:
            self.socket = sock

    def close(self) -> None:
        if self.socket:
            self.socket.close()

    def send(self, worker: str, message: Message) -> None:
        """Raises BlockingIOError where its queue is full, and OSError where nobody receives."""
        if self.socket is None:
            raise ConnectionRefusedError
        self.socket.sendto(message.encode(), f"{self._place}/{worker}.sock")

    def receive(self) -> Iterator[Message]:
        """What is there, at most AT_ONCE datagrams; garbage is dropped."""
        sock = self.socket
        with contextlib.suppress(BlockingIOError):
            for _ in range(AT_ONCE if sock else 0):
                if sock and (message := decode(sock.recv(MAX_BYTES))):
                    yield message


def _place(directory: Path, dir_fd: int) -> str | None:
    short = DESCRIPTORS / str(dir_fd)
    for place in (short, directory.absolute()):
        if len(os.fsencode(place)) + len("/123456789012.sock") <= SUN_PATH and place.is_dir():
            return str(place)
    return None


class Outbox:
    """By receiver, and a stream at most once a kind: a queue in the kernel holds ten datagrams, so what is said within
    one turn of the loop goes together, and what finds the queue full waits here."""

    def __init__(self, mailbox: Mailbox, me: str) -> None:
        self._mailbox, self._me = mailbox, me
        self._waiting: dict[str, dict[tuple[StreamId, bool], Kind]] = {}
        self.filled = anyio.Event()

    def put(self, worker: str, kind: Kind, stream: StreamId) -> None:
        """To be sent by the next `flush`. Of follow and leave the last one said counts."""
        self._waiting.setdefault(worker, {})[stream, kind is Kind.CHANGED] = kind
        self.filled.set()

    def flush(self) -> list[str]:
        """Send what can be sent; `filled` stays set where something is left. Returns who does not receive at all."""
        waiting, self._waiting = self._waiting, {}
        refused: list[str] = []
        for worker, said in waiting.items():
            try:
                self._flush(worker, said)
            except BlockingIOError:
                self._waiting[worker] = said
            except OSError:
                refused.append(worker)
        if not self._waiting:
            self.filled = anyio.Event()
        return refused

    def _flush(self, worker: str, said: dict[tuple[StreamId, bool], Kind]) -> None:
        for kind in (Kind.LEAVE, Kind.FOLLOW, Kind.CHANGED):
            for message in messages(kind, self._me, [stream for (stream, _), each in said.items() if each is kind]):
                self._mailbox.send(worker, message)
                for stream in message.streams:
                    del said[stream, kind is Kind.CHANGED]
