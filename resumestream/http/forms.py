"""How payload pages become body bytes, one class a form. Nothing a form adds is payload: it has no offset."""

from __future__ import annotations

import json

from ..endings import DELETED, ERROR_UNENDED, OWN_FAILURES, SEGMENT_ENDED
from ..framing import Splitter, has_data, with_id
from ..model import Head, Page, StreamInfo
from ..offsets import Position, format_offset
from ..ports import Dialect, Mark
from .problems import consent

RETRY_MS = 1000
"""When an EventSource comes back after the server went down."""


def ends_clean(info: StreamInfo) -> bool:
    """Whether the payload alone tells the truth about its end."""
    return info.seal is not None and (info.completed or info.seal.detail in OWN_FAILURES - {ERROR_UNENDED})


def untellable(info: StreamInfo, head: Head) -> bool:
    """Whether a late caller of this failed stream must get a status that says so: its payload has no way to."""
    return info.sealed and not ends_clean(info) and (not head.is_sse or not info.tail)


class Payload:
    """The payload as it is. What was cut short ends cut."""

    keepalive: bytes | None = None

    def body(self, page: Page) -> bytes:
        return page.data

    def end(self, info: StreamInfo) -> bytes | None:
        return b"" if ends_clean(info) else None

    def leave(self) -> bytes | None:
        return None


class CatchUp(Payload):
    """The payload up to where the tail was: `Stream-Closed` and `Stream-Outcome` say what that means."""

    def end(self, info: StreamInfo) -> bytes | None:
        return b""


class Provider(Payload):
    """The provider's own wire, with what its SDK needs: keep-alives it ignores, and a failure it raises."""

    def __init__(self, dialect: Dialect, *, exact: bool, cuttable: bool = True) -> None:
        self._dialect, self._exact, self._cuttable = dialect, exact, cuttable
        self.keepalive = None if exact else dialect.keepalive
        self._doubt = (Splitter(), dialect.scanner()) if dialect.guessed and self.keepalive else None
        """Whether the keep-alive fits is in what this reader gets: without an offset, all of the answer."""

    def body(self, page: Page) -> bytes:
        if self._doubt:
            splitter, scanner = self._doubt
            marks = [scanner.scan(block) for block in splitter.feed(page.data)]
            self.keepalive = None if scanner.foreign else self._dialect.keepalive
            if not scanner.foreign and any(mark is not Mark.BLANK for mark in marks):
                self._doubt = None
        return page.data

    def end(self, info: StreamInfo) -> bytes | None:
        if ends_clean(info):
            return b""
        if self._exact or info.seal is None or (info.seal.foreign and self._cuttable):
            return None
        said, detail = info.seal.message, info.seal.detail
        if detail == ERROR_UNENDED:
            return b"\n\n"  # which has the client read what the provider said
        if detail == SEGMENT_ENDED:
            message = f"{said}. Another call goes on: ask again with the key for its answer."
            return self._dialect.error_frame(SEGMENT_ENDED, message)
        is_kept = info.tail and detail != DELETED
        kept = f"Stream {info.id} keeps what came" if is_kept else f"It was stream {info.id}"
        message = f"{said}. {kept}.{consent(info)}"
        return self._dialect.error_frame(info.seal.outcome.value, message)

    def leave(self) -> bytes | None:
        if self._cuttable or self._exact:
            return None
        return self._dialect.error_frame("draining", "the server is going down; ask again with the key and read on")


class Events:
    """For EventSource: each event as sent plus `id: <offset>`, so that a reconnect goes on behind it."""

    keepalive: bytes | None = b": keep-alive\n\n"

    def __init__(self, start: Position) -> None:
        self._splitter, self._segment = Splitter(), start.segment
        self._at = self._given = start.at
        """`_given`: the last offset that the reader has as an id: what it comes back with."""

    def body(self, page: Page) -> bytes:
        return b"".join(map(self._with_id, self._splitter.feed(page.data)))

    def _with_id(self, block: bytes) -> bytes:
        self._at += len(block)
        if has_data(block):
            self._given = self._at
        return with_id(block, format_offset(self._at, self._segment).encode())

    def end(self, info: StreamInfo) -> bytes | None:
        """The last event even where its blank line never came, then, unless all went well, how the stream ended.

        The `.end` id makes the next reconnect a 204, which stops an EventSource; an id alone dispatches nothing.
        """
        rest = self._splitter.rest()
        done = f"id: {format_offset(info.tail, self._segment)}.end\n\n".encode()
        last = rest.rstrip(b"\r\n") + b"\n" + done if has_data(rest) else b""
        if info.completed:
            return last or (done if self._given < info.tail else b"")
        said = json.dumps({"outcome": info.seal and info.seal.outcome, "detail": info.seal and info.seal.detail})
        return last + f"event: resumestream.end\ndata: {said}\n".encode() + done

    def leave(self) -> bytes | None:
        return f"retry: {RETRY_MS}\n\n".encode()
