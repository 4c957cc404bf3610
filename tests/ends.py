"""The ways in which a provider's answer can end: what is on the wire, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from resumestream.dialects import DIALECTS
from resumestream.framing.messages import message_of
from resumestream.model import Outcome

from .speakers import SPEAKERS, Speaker

MAX_EVENT_BYTES, MAX_STREAM_BYTES = 16 * 1024, 48 * 1024


@dataclass(frozen=True)
class Play:
    """One answer on the wire, and what it comes to."""

    outcome: Outcome
    detail: str
    kept: bytes = b""
    """The payload."""
    events: int = 0
    """How many events that is."""
    before: bytes = b""
    """Sent at once, the head first."""
    seen: bytes = b""
    """The payload in it: once the caller has read that, `after` follows."""
    after: bytes = b""
    then: Literal["close", "rst", "stay"] = "close"
    status: int | None = None
    """None: no status line of the provider ever came."""
    released: bool = False
    """The key is free again: who comes later makes a new call."""
    asks_to_stop: bool = False
    mount: Literal["llm", "impatient", "nowhere"] = "llm"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


CHUNKED = "Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"


def head(speaker: Speaker, framing: str = CHUNKED) -> bytes:
    fields = f"Content-Type: {speaker.content_type}\r\n{speaker.more_headers}{framing}"
    return f"HTTP/1.1 200 OK\r\n{fields}Connection: close\r\n\r\n".encode()


def _begun(speaker: Speaker, outcome: Outcome, detail: str, after: bytes = b"", **more: object) -> Play:
    """The first events, and then `after`. What is kept are those events, unless told otherwise."""
    play = Play(
        outcome=outcome,
        detail=detail,
        kept=speaker.begun,
        events=speaker.first,
        before=head(speaker) + chunk(speaker.begun),
        seen=speaker.begun,
        after=after,
        status=200,
    )
    return replace(play, **more)  # type: ignore[arg-type]


def _all(speaker: Speaker, play: Play) -> Play:
    """All events are kept."""
    return replace(play, kept=speaker.whole, events=len(speaker.events))


def _rest(speaker: Speaker) -> bytes:
    return speaker.whole.removeprefix(speaker.begun)


def _framed(speaker: Speaker) -> str:
    return "end_seen" if speaker.terminal else "framed_end"


def complete_chunked(speaker: Speaker) -> Play:
    play = _begun(speaker, Outcome.COMPLETED, _framed(speaker), chunk(_rest(speaker)) + LAST)
    return _all(speaker, play)


def complete_sized(speaker: Speaker) -> Play:
    before = head(speaker, f"Content-Length: {len(speaker.whole)}\r\n") + speaker.begun
    return _all(speaker, _begun(speaker, Outcome.COMPLETED, _framed(speaker), _rest(speaker), before=before))


def _unframed(speaker: Speaker, detail: str) -> tuple[Outcome, str]:
    """All events came, and then no framing said that this was all."""
    return (Outcome.COMPLETED, "end_seen") if speaker.terminal else (Outcome.TRUNCATED, detail)


def fin_after_the_last_event(speaker: Speaker) -> Play:
    return _all(speaker, _begun(speaker, *_unframed(speaker, "connection_closed"), chunk(_rest(speaker))))


def rst_after_the_last_event(speaker: Speaker) -> Play:
    return replace(
        _all(speaker, _begun(speaker, *_unframed(speaker, "connection_reset"), chunk(_rest(speaker)))), then="rst"
    )


def close_delimited_whole(speaker: Speaker) -> Play:
    before = head(speaker, "") + speaker.begun
    return _all(speaker, _begun(speaker, *_unframed(speaker, "unframed_end"), _rest(speaker), before=before))


def close_delimited_cut(speaker: Speaker) -> Play:
    before = head(speaker, "") + speaker.begun
    return _begun(speaker, Outcome.TRUNCATED, "unframed_end", speaker.half, kept=speaker.cut, before=before)


def fin(speaker: Speaker) -> Play:
    return _begun(speaker, Outcome.TRUNCATED, "connection_closed", chunk(speaker.half), kept=speaker.cut)


def fin_within_a_chunk(speaker: Speaker) -> Play:
    after = chunk(_rest(speaker))[: len(speaker.half)]
    sent = after.partition(b"\r\n")[2]
    kept = speaker.begun + (sent if speaker.name == "plain" else b"")
    return _begun(speaker, Outcome.TRUNCATED, "connection_closed", after, kept=kept)


def rst(speaker: Speaker) -> Play:
    return replace(
        _begun(speaker, Outcome.TRUNCATED, "connection_reset", chunk(speaker.half), kept=speaker.cut), then="rst"
    )


def short_content_length(speaker: Speaker) -> Play:
    before = head(speaker, f"Content-Length: {len(speaker.whole)}\r\n") + speaker.begun
    return _begun(speaker, Outcome.TRUNCATED, "connection_closed", speaker.half, kept=speaker.cut, before=before)


def clean_early(speaker: Speaker) -> Play:
    if speaker.ends_anywhere:
        return _begun(speaker, Outcome.COMPLETED, "framed_end", LAST)
    return _begun(speaker, Outcome.TRUNCATED, "no_terminal_event", LAST)


def clean_within_an_event(speaker: Speaker) -> Play:
    after = chunk(speaker.half) + LAST
    if DIALECTS[speaker.name].ends_as_framed:
        return _begun(speaker, Outcome.COMPLETED, "framed_end", after, kept=speaker.begun + speaker.half)
    return _begun(speaker, Outcome.TRUNCATED, "no_terminal_event", after)


def bad_chunk_size(speaker: Speaker) -> Play:
    return _begun(speaker, Outcome.TRUNCATED, "bad_framing", b"zz\r\n" + speaker.half)


def garbage(speaker: Speaker) -> Play:
    return _begun(speaker, Outcome.TRUNCATED, "bad_framing", b"\x00\xffthis is not HTTP\r\n\r\n")


def error_first(speaker: Speaker) -> Play | None:
    if not speaker.error:
        return None
    return Play(
        outcome=Outcome.PROVIDER_ERROR,
        detail="error_event",
        kept=speaker.error,
        before=head(speaker),
        after=chunk(speaker.error) + LAST,
        status=200,
        released=True,
    )


def error_mid(speaker: Speaker) -> Play | None:
    if not speaker.error:
        return None
    kept = speaker.begun + speaker.error
    return _begun(speaker, Outcome.PROVIDER_ERROR, "error_event", chunk(speaker.error) + LAST, kept=kept)


def error_without_its_end(speaker: Speaker) -> Play | None:
    """All its lines are there, and the blank one is not."""
    if not (speaker.error and speaker.sse):
        return None
    error = speaker.error.removesuffix(b"\n").removesuffix(b"\r")
    return _begun(speaker, Outcome.PROVIDER_ERROR, "error_unended", chunk(error), kept=speaker.begun + error)


def half_an_error(speaker: Speaker) -> Play | None:
    """Its first line says already what it is, but nothing of the rest."""
    if not speaker.error:
        return None
    half = speaker.error[: len(speaker.error) * 2 // 3]
    return _begun(speaker, Outcome.TRUNCATED, "connection_closed", chunk(half))


def stall(speaker: Speaker) -> Play:
    return _begun(speaker, Outcome.STALLED, "no_bytes", then="stay", mount="impatient")


def stall_within_an_event(speaker: Speaker) -> Play:
    after = chunk(speaker.half)
    return _begun(speaker, Outcome.STALLED, "no_bytes", after, kept=speaker.cut, then="stay", mount="impatient")


def cancelled(speaker: Speaker) -> Play:
    return _begun(speaker, Outcome.CANCELLED, "requested", then="stay", asks_to_stop=True)


def shut_down(speaker: Speaker) -> Play:
    return _begun(speaker, Outcome.INTERRUPTED, "shutdown", then="stay")


def one_event_over_the_cap(speaker: Speaker) -> Play | None:
    filling = b"x" * (MAX_EVENT_BYTES + 1000)
    large = {"ollama": b'{"x":"' + filling, "bedrock": message_of({":event-type": "x"}, filling), "plain": b""}
    after = large.get(speaker.name, b"data: " + filling)
    if not after:
        return None
    return _begun(speaker, Outcome.OVERFLOW, "max_event_bytes", chunk(after), then="stay")


def stream_over_the_cap(speaker: Speaker) -> Play:
    event = speaker.events[speaker.first - 1]
    room = MAX_STREAM_BYTES - len(speaker.begun)
    fitting = room // len(event)
    kept = speaker.begun + event * fitting
    if speaker.name == "plain":
        kept += event[: room % len(event)]
    after = chunk(event * (fitting + 2))
    events = speaker.first + fitting
    return _begun(speaker, Outcome.OVERFLOW, "max_stream_bytes", after, kept=kept, events=events, then="stay")


def _answer(status: int, more: str = "") -> Callable[[Speaker], Play]:
    def answered(speaker: Speaker) -> Play:
        body = b'{"error": {"message": "scripted error", "code": %d, "status": "SCRIPTED"}}' % status
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n"
        return Play(
            outcome=Outcome.PROVIDER_ERROR,
            detail="status",
            kept=body,
            before=f"HTTP/1.1 {status} Scripted\r\n{fields}\r\n".encode() + body,
            status=status,
            released=True,
        )

    return answered


def _no_answer(detail: str, **more: object) -> Callable[[Speaker], Play]:
    outcome = Outcome.STALLED if detail == "silent" else Outcome.TRUNCATED
    play = replace(Play(outcome=outcome, detail=detail), **more)  # type: ignore[arg-type]
    return lambda speaker: play


def refused_connection(speaker: Speaker) -> Play:
    return Play(outcome=Outcome.PROVIDER_ERROR, detail="unreachable", released=True, mount="nowhere")


def _head_only(outcome: Outcome, detail: str, after: bytes = b"", **more: object) -> Callable[[Speaker], Play]:
    play = replace(Play(outcome=outcome, detail=detail, after=after, status=200), **more)  # type: ignore[arg-type]
    return lambda speaker: replace(play, before=head(speaker))


def empty_body(speaker: Speaker) -> Play:
    if speaker.name in ("unknown", "plain"):
        return _head_only(Outcome.COMPLETED, "framed_end", LAST)(speaker)
    return _head_only(Outcome.TRUNCATED, "no_first_byte", LAST)(speaker)


WAYS: dict[str, Callable[[Speaker], Play | None]] = {
    "complete, chunked": complete_chunked,
    "complete, with a length": complete_sized,
    "FIN after the last event": fin_after_the_last_event,
    "RST after the last event": rst_after_the_last_event,
    "close-delimited, whole": close_delimited_whole,
    "close-delimited, cut": close_delimited_cut,
    "FIN": fin,
    "FIN within a chunk": fin_within_a_chunk,
    "RST": rst,
    "short content-length": short_content_length,
    "clean end without the terminal event": clean_early,
    "clean end within an event": clean_within_an_event,
    "bad chunk size": bad_chunk_size,
    "garbage": garbage,
    "its own error, first": error_first,
    "its own error, later": error_mid,
    "its own error without its end": error_without_its_end,
    "half its own error": half_an_error,
    "stall": stall,
    "stall within an event": stall_within_an_event,
    "cancelled": cancelled,
    "one event over the cap": one_event_over_the_cap,
    "stream over the cap": stream_over_the_cap,
    "400": _answer(400),
    "429": _answer(429),
    "500": _answer(500),
    "503": _answer(503),
    "redirect": _answer(307, "Location: /elsewhere\r\n"),
    "connection refused": refused_connection,
    "no HTTP": _no_answer("bad_framing", before=b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "FIN before the head": _no_answer("no_answer"),
    "RST before the head": _no_answer("connection_reset", then="rst"),
    "stall before the head": _no_answer("silent", then="stay", mount="impatient"),
    "FIN before the first byte": _head_only(Outcome.TRUNCATED, "connection_closed"),
    "RST before the first byte": _head_only(Outcome.TRUNCATED, "connection_reset", then="rst"),
    "stall before the first byte": _head_only(Outcome.STALLED, "silent_body", then="stay", mount="impatient"),
    "empty body": empty_body,
}


@dataclass(frozen=True)
class Row:
    speaker: Speaker
    way: str
    play: Play

    def __str__(self) -> str:
        return f"{self.speaker.name}: {self.way}"

    @property
    def own_words(self) -> bool:
        """The payload alone tells the truth about its end."""
        return self.play.outcome is Outcome.COMPLETED or self.play.detail in ("status", "error_event")


def rows() -> Iterator[Row]:
    for speaker in SPEAKERS:
        for way, make in WAYS.items():
            if play := make(speaker):
                yield Row(speaker, way, play)
