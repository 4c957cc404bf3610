"""Wrong at the stream resource: states, offsets, reads, events, records, lists, stops, deletes and retention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from resumestream import endings, reading
from resumestream.http import describe, forms, streams
from resumestream.http import headers as answer_headers
from resumestream.http.site import Site
from resumestream.hub import Hub
from resumestream.lifecycle import Moved
from resumestream.model import StreamId, StreamInfo
from resumestream.offsets import Edge, Position
from resumestream.policy import Policy
from resumestream.pour import Pour
from resumestream.reads import Reads
from tests.simulation.faults import truncated_completes

from . import edits
from .fault import Wrong, always, nothing, put


def one_byte_early(right: Any) -> Any:
    """Who comes back in the middle gets the byte before it as well."""
    return lambda self, stream, at, **options: right(self, stream, max(0, at - 1), **options)


def told_only_when_completed(right: Any) -> Any:
    """The last event of `live=events`, which tells the failure, is lost."""
    return lambda self, info: right(self, info) if info.completed else b""


def detail(code: str, moved: Moved) -> Any:
    """An ending with another outcome."""
    return put(endings, "DETAILS", lambda right: {**right, code: (moved, right[code][1])})


def never_foreign(right: Any) -> Any:
    """The dialect that the path suggests is believed, whatever comes."""
    return property(lambda self: False)


def zero_where_malformed(right: Any) -> Any:
    def wrong(text: str) -> Position | Edge:
        try:
            return right(text)
        except streams.OffsetMalformed:
            return Position(1, 0)

    return wrong


def to_the_tail(info: Any, start: Position | Edge) -> Position:
    """What lies beyond the tail is taken for the tail."""
    if not isinstance(start, Position):
        return Position(info.segment, 0 if start is Edge.START else info.latest.tail)
    return Position(start.segment, min(start.at, info.seen(start.segment).tail))


def from_the_start(right: Any) -> Any:
    """Who asks for the tail gets everything."""
    return lambda info, start: right(info, Edge.START if start is Edge.NOW else start)


def closed_before(right: Any) -> Any:
    """Every page says that nothing follows."""
    return lambda info, next_: (*right(info, next_), ("stream-closed", "true"))


def without_sentence(right: Any) -> Any:
    return lambda info: info.state.value


def one_more_event(right: Any) -> Any:
    return lambda info, **options: {**right(info, **options), "events": info.events + 1}


def of_all(right: Any) -> Any:
    """Lists show the streams of everybody."""

    async def wrong(self: Hub, query: Any) -> Any:
        return await right(self, replace(query, principal=None))

    return wrong


async def spared(self: Hub, stream: StreamId, *, forget: bool = False) -> StreamInfo:
    """What is to be deleted stays."""
    return await self.stat(stream)


def without_retention(right: Any) -> Any:
    """What the caller says about retention does not count."""
    return lambda self, *args, **options: right(self, *args, **{**options, "retain_s": None})


def limited(**limits: float) -> Any:
    """Calls are drained under another policy."""

    def wrong(right: Any) -> Any:
        def made(self: Pour, store: Any, live: Any, lease: Any, policy: Policy, **options: Any) -> None:
            right(self, store, live, lease, replace(policy, **limits), **options)

        return made

    return put(Pour, "__init__", wrong)


async def nothing_wrong(*args: Any, **options: Any) -> bool:
    """Every offset will do."""
    return True


WRONG = {
    "truncated-completes": Wrong(("RS-LIFE-06", "RS-RETRY-01", "RS-LIFE-03"), inside=truncated_completes),
    "framed-end-completes": Wrong(("RS-LIFE-06",), inside=detail("no_terminal_event", Moved.END_SEEN)),
    "unframed-end-completes": Wrong(("RS-LIFE-14",), inside=detail("unframed_end", Moved.END_SEEN)),
    "error-event-completes": Wrong(("RS-LIFE-10",), inside=detail("error_event", Moved.END_SEEN)),
    "refusal-is-truncated": Wrong(("RS-LIFE-11",), inside=detail("status", Moved.UPSTREAM_CUT)),
    "dialect-always-believed": Wrong(("RS-LIFE-16",), inside=put(reading.Reading, "foreign", never_foreign)),
    "waits-behind-the-end": Wrong(("RS-LIFE-09",), inside=limited(settle_s=60)),
    "stall-for-ever": Wrong(("RS-CUT-02",), inside=limited(stall_s=60)),
    "events-unbounded": Wrong(("RS-CAP-03",), inside=limited(max_event_bytes=1 << 30)),
    "offsets-unpadded": Wrong(("RS-OFF-01",), edits.unpadded(b"stream-next-offset")),
    "now-is-the-start": Wrong(("RS-OFF-03",), inside=put(streams, "bounded", from_the_start)),
    "malformed-is-the-start": Wrong(("RS-OFF-05",), inside=put(streams, "parse_offset", zero_where_malformed)),
    "beyond-is-the-tail": Wrong(("RS-OFF-06",), inside=put(streams, "bounded", lambda right: to_the_tail)),
    "comments-are-events": Wrong(("RS-OFF-08",), inside=put(reading.Reading, "_is_event", always(True))),
    "off-by-one": Wrong(("RS-OFF-07", "RS-READ-11"), inside=put(Reads, "tail", one_byte_early)),
    "next-offset-missing": Wrong(("RS-READ-03",), edits.without(b"stream-next-offset", method="GET")),
    "closed-too-early": Wrong(("RS-READ-05",), inside=put(answer_headers, "position", closed_before)),
    "keep-alives-in-a-tail": Wrong(("RS-READ-09",), inside=put(forms.Payload, "keepalive", lambda right: b":\n")),
    "cut-ends-clean": Wrong(("RS-READ-10",), inside=put(forms, "ends_clean", always(True))),
    "completed-is-cut": Wrong(("RS-READ-08",), inside=put(forms, "ends_clean", always(False))),
    "event-ids-missing": Wrong(("RS-SSE-01",), edits.replaced(b"id: 0", b"xd: 0")),
    "end-untold": Wrong(("RS-SSE-05",), inside=put(forms.Events, "end", told_only_when_completed)),
    "within-an-event": Wrong(("RS-SSE-10",), inside=put(streams.Streams, "_on_boundary", lambda right: nothing_wrong)),
    "comments-missing": Wrong(("RS-SSE-11",), inside=put(forms.Events, "keepalive", lambda right: None)),
    "state-missing": Wrong(("RS-META-01",), edits.without(b"stream-state")),
    "expiry-missing": Wrong(("RS-META-03",), edits.without(b"stream-expires-at")),
    "no-sentence": Wrong(("RS-META-06",), inside=put(describe, "sentence", without_sentence)),
    "one-event-too-many": Wrong(("RS-META-07",), inside=put(streams, "describe", one_more_event)),
    "others-are-listed": Wrong(("RS-LIST-01",), inside=put(Hub, "find", of_all)),
    "stop-ignored": Wrong(("RS-STOP-01",), inside=put(Hub, "cancel", lambda right: nothing)),
    "delete-ignored": Wrong(("RS-DEL-01",), inside=put(Hub, "delete", lambda right: spared)),
    "retention-ignored": Wrong(("RS-KEEP-03",), inside=put(Site, "new_stream", without_retention)),
}
