"""Somebody who reads an answer in a thread, and what that somebody got."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .dialects import BLOCK, error_in
from .exchange import Cut, Exchange, Silent
from .history import End, Piece, Read
from .process import Failed

ENDED = b"event: resumestream.end\n"
_ASKED = re.compile(r"[?&]offset=(?:s\d\d\.)?(\d+)(?:&|$)")
LAST = 65536
"""In so many bytes lies the last event."""
_TOLD = re.compile(rb'event: resumestream.end\ndata: .*?"outcome": ?"(\w+)"')
_ID = re.compile(rb"id: (?:s(\d\d)\.)?(\d{16})(\r?\n)\r?\n\Z")
_OFFSET = re.compile(r"(?:s(\d\d)\.)?(\d+)")

CREDENTIALS = ("authorization", "x-goog-api-key")

Form = Literal["bytes", "events"]
"""`bytes`: the payload as it was sent. `events`: for EventSource, each event with its offset as id."""
LIVE: Mapping[Form, str] = {"bytes": "tail", "events": "events"}
"""How each is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a reader asks. A POST with a key is a caller, a GET of a stream is a reader."""

    turn: str
    path: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Form = "bytes"
    live: bool = True
    undisturbed: bool = False
    """No fault is there any more."""

    @property
    def asked(self) -> int | None:
        """The byte to begin at, however that is said; None: it is not."""
        named = self.headers.get("last-event-id") or self.headers.get("stream-offset")
        found = _OFFSET.fullmatch(named) if named else _ASKED.search(self.path)
        return int(found.groups()[-1]) if found else None

    @property
    def credential(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name in CREDENTIALS}


class Reader:
    """Begins at once. All that it got is a `Read`, also while it goes on."""

    def __init__(self, name: str, url: str, request: Request, *, deadline_s: float = 30, slow_s: float = 0) -> None:
        """`slow_s`: how long it waits after each piece. `deadline_s`: the longest silence; then it ends as cut."""
        self.name, self.request = name, request
        self._url, self._deadline_s, self._slow_s = url, deadline_s, slow_s
        self._changed = threading.Condition()
        self._may_read = threading.Event()
        self._may_read.set()
        self._exchange: Exchange | None = None
        self._left = False
        self._body = bytearray()  # it may be very long
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.end: End | None = None
        self._began_s = self._heard_s = time.monotonic()
        self._ended_s = self._silence_s = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # --- what it does --------------------------------------------------------------------------------------------

    def until(self, size: int, *, within_s: float = 20) -> Reader:
        """Wait for its head and so many bytes of its body, or its end. Raises Failed."""
        with self._changed:
            met = self._changed.wait_for(
                lambda: self.end is not None or (self.status and len(self._body) >= size), within_s
            )
        if not met:
            raise Failed(f"{self.name} has status {self.status} and {len(self._body)} of {size} bytes")
        return self

    def join(self, *, within_s: float = 30) -> Reader:
        """Wait for its end. Raises Failed."""
        self._thread.join(within_s)
        if self.end is None:
            raise Failed(f"{self.name} has not ended after {within_s:g} s; it has {len(self._body)} bytes")
        return self

    def leave(self, *, reset: bool = False) -> None:
        """Go away: with FIN, or with RST."""
        self._left = True
        self._may_read.set()
        if self._exchange is not None:
            self._exchange.leave(reset=reset)

    def pause(self) -> None:
        """Read nothing more for now; buffers fill."""
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    # --- its thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asked = self.request
        end = End.CUT
        try:
            with Exchange(self._url, deadline_s=self._deadline_s) as exchange:
                self._exchange = exchange
                exchange.ask(asked.method, asked.path, asked.body, asked.headers)
                self._show(exchange, b"")
                for data in exchange.data():
                    self._show(exchange, data)
                    time.sleep(self._slow_s)
                    self._may_read.wait()
                end = _end_told(self.body)
        except (Cut, Silent, OSError):
            pass
        with self._changed:
            self._hear()
            self.end, self._ended_s = (End.LEFT if self._left else end), self._heard_s
            self._changed.notify_all()

    def _show(self, exchange: Exchange, data: bytes) -> None:
        with self._changed:
            self._hear()
            self.status, self.headers = exchange.status, exchange.headers
            self._body += data
            self._changed.notify_all()

    def _hear(self) -> None:
        now = time.monotonic()
        self._silence_s = max(self._silence_s, now - self._heard_s)
        self._heard_s = now

    # --- what it got ---------------------------------------------------------------------------------------------

    @property
    def body(self) -> bytes:
        """So far."""
        return bytes(self._body)

    @property
    def not_payload(self) -> bytes:
        """What the server itself said: the head, and a refusal."""
        head = "".join(f"{name}: {value}\n" for name, value in self.headers.items()).encode()
        return head + (self.body if self.status >= 300 else b"")

    @property
    def stream(self) -> str:
        return self.headers.get("stream-id", "")

    def read(self) -> Read:
        """So far."""
        with self._changed:
            segment, start = _position(self.headers.get("stream-offset", "0"))
            ok = self.status == 200
            events = self.request.form == "events"
            pieces = () if not ok else _events(self.body) if events else _whole(start, self.body)
            return Read(
                reader=self.name,
                turn=self.request.turn,
                stream=self.stream,
                status=self.status,
                segment=segment,
                asked=self.request.asked if ok else None,
                at=start if "stream-offset" in self.headers else None,
                pieces=pieces,
                events=events,
                end=self.end or End.OPEN,
                outcome=self.headers.get("stream-outcome", ""),
                told=told[1].decode() if events and (told := _TOLD.search(self.body)) else "",
                live=self.request.live and ok,
                began_s=self._began_s,
                ended_s=self._ended_s or time.monotonic(),
                silence_s=self._silence_s,
                undisturbed=self.request.undisturbed,
            )


def _position(token: str) -> tuple[int, int]:
    """Segment and byte of an offset token."""
    match = _OFFSET.fullmatch(token)
    return (int(match[1] or 1), int(match[2])) if match else (1, 0)


def _whole(start: int, body: bytes) -> tuple[Piece, ...]:
    return (Piece(start, body),) if body else ()


def _events(body: bytes) -> tuple[Piece, ...]:
    """The events with an id, as they were before it was added. What has none is no payload, or not whole."""
    pieces = []
    for block in BLOCK.findall(body.partition(ENDED)[0]):
        if match := _ID.search(block):
            data = block[: match.start()] + match[3]
            pieces.append(Piece(int(match[2]) - len(data), data))
    return tuple(pieces)


def _end_told(body: bytes) -> End:
    """How a body ended that ended as framed: its last event may say that the answer failed, or to come back."""
    *_, last = BLOCK.findall(body[-LAST:]) or [b""]
    if ENDED in body or error_in(last):
        return End.TOLD
    return End.CUT if last.startswith(b"retry:") else End.CLEAN
