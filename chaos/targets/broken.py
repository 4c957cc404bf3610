"""The embedded target with one thing broken on purpose, `$CHAOS_FAULT`: what the suite must not let pass.

The faults are put into the running process alone, by taking parts of its insides out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import SocketAttribute
from starlette.requests import Request

from resumestream import claims, hub, live, tail, watch
from resumestream.drain import Drain
from resumestream.endings import Ending
from resumestream.errors import InvalidQuery, LeaseLost, StreamSealed
from resumestream.http import access, forms, headers, site
from resumestream.http.asks import Ask
from resumestream.http.streams import Streams, _Read
from resumestream.model import Lease, StreamId, StreamInfo
from resumestream.offsets import Edge
from resumestream.reads import Reads
from resumestream.stores import SQLiteStore
from resumestream.upstream.call import HttpAnswer
from resumestream.upstream.wire import Wire

from .embedded import app as app

patch = setattr


def called_twice() -> None:
    """Who asks again has a new call made."""
    patch(claims, "decide", lambda wanted, binding, info, now: claims.Start(binding.stream if binding else None))


def off_by_one() -> None:
    """Who comes back in the middle gets the byte before it as well."""
    right = Reads.tail

    def wrong(self: Reads, stream: StreamId, at: int, **options: Any) -> tail.Tail:
        return right(self, stream, max(0, at - 1), **options)

    patch(Reads, "tail", wrong)


def byte_dropped() -> None:
    """One byte of an answer is lost before it is logged."""
    right = HttpAnswer.receive

    async def wrong(self: HttpAnswer) -> bytes:
        return (await right(self)).replace(b"w0007", b"w007")

    patch(HttpAnswer, "receive", wrong)


def shown_too_early() -> None:
    """An append is acknowledged before it is stored; it is stored with the next one, or with the seal."""
    append, seal = SQLiteStore.append, SQLiteStore.seal
    late: dict[StreamId, tuple[Lease, int, bytes, int]] = {}

    async def wrong_append(self: SQLiteStore, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        if before := late.pop(lease.stream, None):
            await append(self, *before)
        late[lease.stream] = lease, at, data, events
        return at + len(data)

    async def wrong_seal(self: SQLiteStore, lease: Lease, how: Any) -> StreamInfo:
        if before := late.pop(lease.stream, None):
            await append(self, *before)
        return await seal(self, lease, how)

    patch(SQLiteStore, "append", wrong_append)
    patch(SQLiteStore, "seal", wrong_seal)


def ends_clean() -> None:
    """An answer that was cut short ends as if it were whole."""
    patch(forms, "ends_clean", lambda info: True)


def end_untold() -> None:
    """The last event of `live=events`, which tells the failure, is lost."""
    right = forms.Events.end

    def wrong(self: forms.Events, info: StreamInfo) -> bytes | None:
        return right(self, info) if info.completed else b""

    patch(forms.Events, "end", wrong)


def end_cut() -> None:
    """What completed is cut before its end, for every reader."""
    patch(forms, "ends_clean", lambda info: False)


def never_sealed() -> None:
    """An answer that is over is not sealed, and nobody looks after it."""

    async def nothing(*args: Any) -> None:
        pass

    patch(Drain, "_seal", nothing)
    patch(watch.Watch, "_rescue", nothing)


def stop_kept_back() -> None:
    """A stop seals the stream, and the provider's connection stays open."""
    right = Wire.dial.__func__  # type: ignore[attr-defined]

    async def wrong(cls: type[Wire], *args: Any) -> Wire:
        wire: Wire = await right(cls, *args)
        os.dup(wire._socket.extra(SocketAttribute.raw_socket).fileno())
        return wire

    patch(Wire, "dial", classmethod(wrong))


def leaving_stops() -> None:
    """The last reader who leaves takes the call with it."""

    def wrong(self: hub.Hub, live: Any) -> None:
        self._stop(live.info.id, Ending.of("nobody_listens"))

    patch(hub.Hub, "_left", wrong)


def unfenced() -> None:
    """Who lost a stream to another process takes it back when it wakes up, and writes on."""
    right = SQLiteStore.append

    async def wrong(self: SQLiteStore, lease: Lease, at: int, data: bytes, events: int = 0) -> int:
        def taken_back(info: StreamInfo) -> StreamInfo:
            attempts = tuple(replace(attempt, ended_at=None, outcome=None) for attempt in info.attempts)
            new = replace(info.new, worker=lease.worker)
            return replace(info, new=new, epoch=lease.epoch, attempts=attempts, seal=None)

        try:
            return await right(self, lease, at, data, events)
        except (LeaseLost, StreamSealed):
            await self._change(lease.stream, taken_back)
            return await right(self, lease, at, data, events)

    patch(SQLiteStore, "append", wrong)
    patch(Drain, "fence", lambda self: None)


def nothing_let_go() -> None:
    """What was once in memory stays there, however long the answer."""
    patch(live.Windows, "pushed", lambda self, chunk: self._order.append(chunk))


def credential_logged() -> None:
    """A credential is in a line of the log."""
    right = access.Access.principal

    async def wrong(self: access.Access, conn: Any, *args: Any, **options: Any) -> Any:
        logging.getLogger("resumestream").warning("asked by %s", conn.headers.get("authorization"))
        return await right(self, conn, *args, **options)

    patch(access.Access, "principal", wrong)


def strangers_read() -> None:
    """Who knows a stream's id may do everything with it."""

    async def wrong(self: site.Site, conn: Any, info: StreamInfo | None, action: Any) -> bool:
        return info is not None

    patch(site.Site, "_owns", wrong)


def silent() -> None:
    """Who waits hears nothing."""
    patch(forms.Events, "keepalive", None)


def late() -> None:
    """A dead process is seen to much later."""
    right = watch.Watch.recover

    async def wrong(self: watch.Watch) -> None:
        await anyio.sleep(4)
        await right(self)

    patch(watch.Watch, "recover", wrong)


def head_lies() -> None:
    """HEAD says of every stream that it completed."""
    right = headers.record

    def wrong(info: StreamInfo) -> tuple[tuple[str, str], ...]:
        return tuple((name, "completed" if name == "stream-outcome" else value) for name, value in right(info))

    patch(headers, "record", wrong)


def end_event_lies() -> None:
    """The end event of `live=events` tells another outcome."""
    right = forms.Events.end

    def wrong(self: forms.Events, info: StreamInfo) -> bytes | None:
        said = right(self, info)
        return said and said.replace(b'"truncated"', b'"stalled"')

    patch(forms.Events, "end", wrong)


def offset_ignored() -> None:
    """Who posts again and asks for the rest gets all of it."""
    patch(Ask, "start", None)


def last_event_id_ignored() -> None:
    """An EventSource that comes back gets all of it again."""
    right = _Read.parse

    def wrong(request: Request) -> _Read:
        read = right(request)
        return replace(read, start=Edge.START) if "last-event-id" in request.headers else read

    patch(_Read, "parse", wrong)


def unnamed() -> None:
    """What is read when it is over names no stream."""
    right = headers.of_stream

    def wrong(info: StreamInfo, *args: Any, **options: Any) -> Any:
        return () if info.sealed else right(info, *args, **options)

    patch(site, "of_stream", wrong)


def strangers_list() -> None:
    """Everybody is listed everybody's streams."""
    right = Streams._query

    async def wrong(self: Streams, *args: Any) -> Any:
        return replace(await right(self, *args), principal=None)

    patch(Streams, "_query", wrong)


def credential_told() -> None:
    """What a caller is refused with has its credential in it."""
    right = access.Access.principal

    async def wrong(self: access.Access, conn: Any, *args: Any, **options: Any) -> Any:
        if conn.headers.get("stream-label"):
            raise InvalidQuery(f"{conn.headers['authorization']} may have no labels")
        return await right(self, conn, *args, **options)

    patch(access.Access, "principal", wrong)


FAULTS: dict[str, Callable[[], None]] = {
    "called-twice": called_twice,
    "off-by-one": off_by_one,
    "byte-dropped": byte_dropped,
    "shown-too-early": shown_too_early,
    "ends-clean": ends_clean,
    "end-untold": end_untold,
    "end-cut": end_cut,
    "never-sealed": never_sealed,
    "stop-kept-back": stop_kept_back,
    "leaving-stops": leaving_stops,
    "unfenced": unfenced,
    "late": late,
    "nothing-let-go": nothing_let_go,
    "credential-logged": credential_logged,
    "strangers-read": strangers_read,
    "silent": silent,
    "head-lies": head_lies,
    "end-event-lies": end_event_lies,
    "offset-ignored": offset_ignored,
    "last-event-id-ignored": last_event_id_ignored,
    "unnamed": unnamed,
    "strangers-list": strangers_list,
    "credential-told": credential_told,
}

FAULTS[os.environ["CHAOS_FAULT"]]()
