"""What follows a provider call, and what all of them come to: the tables, row by row, and the key's release."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resumestream.conclusion import Conclusion, Over
from resumestream.endings import Ending
from resumestream.model import Attempt, Head, NewStream, Outcome, StreamId, StreamInfo
from resumestream.retry_after import MAX_S
from resumestream.route import (
    BACKOFF_S,
    DECISIONS,
    FIRST,
    MAX_BACKOFF_S,
    Failure,
    Leg,
    Retry,
    Route,
    Shown,
    Step,
    of_status,
)

HEAD = Head(200, (("content-type", "text/event-stream"),))


async def unused(segment: int) -> Any:
    raise NotImplementedError


def route(*retries: int, resend: bool = False, segments: bool = False) -> Route:
    return Route([Leg("p", unused, times, resend=resend) for times in retries], segments=segments)


ROWS = [
    (Failure.UNREACHABLE, "again", "resend", "never", "segment"),
    (Failure.BUSY, "again", "resend", "never", "segment"),
    (Failure.REFUSED, "never", "never", "never", "never"),
    (Failure.UNKNOWN, "resend", "resend", "segment", "segment"),
    (Failure.CUT, "never", "never", "segment", "never"),
    (Failure.NONE, "never", "never", "never", "never"),
]


@pytest.mark.parametrize(
    ("failure", "shown", "retry"),
    [(row[0], shown, retry) for row in ROWS for shown, retry in zip(Shown, row[1:], strict=True)],
)
def test_what_may_follow(failure: Failure, shown: Shown, retry: str) -> None:
    assert DECISIONS[failure][shown] is Retry[retry.upper()]


@pytest.mark.parametrize(
    ("where", "retry", "step", "follows"),
    [
        (route(1), "again", FIRST, Step(0, 1, BACKOFF_S)),
        (route(1), "again", Step(0, 1), None),
        (route(1, 0), "again", Step(0, 1), Step(1)),
        (route(9), "again", Step(0, 8), Step(0, 9, MAX_BACKOFF_S)),
        (route(1, 0), "resend", FIRST, None),
        (route(1, 0, resend=True), "resend", FIRST, Step(0, 1, BACKOFF_S)),
        (route(1, 0, resend=True), "resend", Step(0, 1), None),
        (route(1, 0), "segment", FIRST, None),
        (route(1, 0, segments=True), "segment", FIRST, Step(1)),
        (route(1, 0, segments=True), "segment", Step(1), None),
        (route(1, 0, segments=True), "never", FIRST, None),
    ],
)
def test_where_it_goes(where: Route, retry: str, step: Step, follows: Step | None) -> None:
    """`again` goes on to the next, `resend` never does, `segment` only where the operator wants it."""
    assert where.after(step, Retry[retry.upper()], retry_after_s=None, jitter=0.0) == follows


def test_how_long_it_waits() -> None:
    """As long as the provider asks, but not for ever; else a little less than twice as long each time."""
    again = route(3, 0)
    assert again.after(FIRST, Retry.AGAIN, retry_after_s=7.0, jitter=0.0) == Step(0, 1, 7.0)
    assert again.after(FIRST, Retry.AGAIN, retry_after_s=0.0, jitter=1.0) == Step(0, 1, BACKOFF_S * 0.75)
    assert again.after(Step(0, 1), Retry.AGAIN, retry_after_s=None, jitter=0.0) == Step(0, 2, BACKOFF_S * 2)
    assert again.after(FIRST, Retry.AGAIN, retry_after_s=MAX_S + 1, jitter=0.0) == Step(1)


@pytest.mark.parametrize(
    ("status", "failure"),
    [(400, "REFUSED"), (404, "REFUSED"), (408, "BUSY"), (429, "BUSY"), (500, "BUSY"), (529, "BUSY")],
)
def test_what_a_status_means(status: int, failure: str) -> None:
    assert of_status(status) is Failure[failure]


FREE, BILLED = Attempt("a", 1.0, 503, ended_at=2.0, released=True), Attempt("a", 1.0, ended_at=2.0)


@pytest.mark.parametrize(
    ("attempts", "head", "this", "shown"),
    [
        ((), None, False, Shown.NOTHING),
        ((FREE, FREE), None, False, Shown.NOTHING),
        ((FREE, BILLED), None, False, Shown.DOUBT),
        ((BILLED, FREE), None, False, Shown.DOUBT),
        ((FREE,), HEAD, True, Shown.THIS),
        ((BILLED,), HEAD, True, Shown.THIS),
        ((BILLED,), HEAD, False, Shown.EARLIER),
    ],
)
def test_what_readers_have(attempts: tuple[Attempt, ...], head: Head | None, this: bool, shown: Shown) -> None:
    assert Conclusion(attempts).shown(head, this=this) is shown


def info(tail: int = 0, head: Head | None = None, **more: Any) -> StreamInfo:
    return StreamInfo(NewStream(StreamId("s"), "p", "u", "w", 1.0, 60.0, 60.0), head=head, tail=tail, **more)


def over(failure: Failure, ending: Ending, *, shown: bool = False, made: bool = True) -> Over:
    return Over(failure, ending, ending.seal, Attempt("u", 5.0) if made else None, shown)


BUSY = replace(Ending.of("status", where="u", status=503), released=True)
CUT, SILENT = Ending.of("connection_reset", where="u"), Ending.of("silent", where="u", limit=1)
SAID_NO = replace(Ending.of("error_event", where="u"), released=True)
STOP, DOWN = Ending.of("requested"), Ending.of("shutdown")


@pytest.mark.parametrize(
    ("before", "head", "call", "followed", "ending", "released"),
    [
        # Nobody has anything yet: as the last call ended
        ((), None, over(Failure.BUSY, BUSY), True, BUSY, True),
        ((), None, over(Failure.UNKNOWN, SILENT), False, SILENT, False),
        ((FREE,), None, over(Failure.UNKNOWN, SILENT), False, SILENT, False),
        ((BILLED,), None, over(Failure.BUSY, BUSY), False, BUSY, False),
        ((FREE,), None, over(Failure.NONE, STOP, made=False), False, STOP, True),
        ((BILLED,), None, over(Failure.NONE, STOP, made=False), False, STOP, False),
        ((), None, over(Failure.NONE, DOWN), False, DOWN, False),
        # Readers have this call's
        ((), HEAD, over(Failure.CUT, CUT, shown=True), False, CUT, False),
        ((), HEAD, over(Failure.CUT, SAID_NO, shown=True), True, SAID_NO, True),
        ((BILLED,), HEAD, over(Failure.CUT, SAID_NO, shown=True), False, SAID_NO, False),
        # Readers have an earlier one's: as that ended, unless it was stopped
        ((BILLED,), HEAD, over(Failure.BUSY, BUSY), False, CUT, False),
        ((FREE,), HEAD, over(Failure.UNKNOWN, SILENT), False, CUT, False),
        ((FREE,), HEAD, over(Failure.BUSY, BUSY), False, CUT, True),
        ((BILLED,), HEAD, over(Failure.NONE, STOP), False, STOP, False),
        ((BILLED,), HEAD, over(Failure.NONE, DOWN, made=False), False, DOWN, False),
    ],
)
def test_what_it_comes_to(
    before: tuple[Attempt, ...], head: Head | None, call: Over, followed: bool, ending: Ending, released: bool
) -> None:
    """How the stream ends if nothing more comes, and whether that releases the key: only if no call can be billed."""
    known = Conclusion(before, CUT if head else None)
    after = known.then(call, info(9, head), followed=followed, now=7.0)
    assert after.ending == ending
    assert len(after.attempts) == len(before) + (call.attempt is not None)
    assert all(attempt.ended_at is not None for attempt in after.attempts)
    assert ending.sealing(after.attempts).released is released


def test_a_call_ends_with_its_bytes() -> None:
    """Those that came since the calls before it, whose own stay."""
    first = replace(BILLED, bytes=4)
    after = Conclusion((first,)).then(over(Failure.CUT, CUT, shown=True), info(9, HEAD), followed=False, now=7.0)
    assert after.attempts == (
        first,
        Attempt("u", 5.0, ended_at=7.0, bytes=5, outcome=Outcome.TRUNCATED),
    )
    assert after.dead is None


@pytest.mark.parametrize(("ending", "detail"), [(CUT, "segment_ended"), (SAID_NO, "error_event")])
def test_what_is_followed_is_a_segment(ending: Ending, detail: str) -> None:
    """Until the answer of a further call is there, it is the last; and it stays the same while others fail."""
    known = Conclusion().then(over(Failure.CUT, ending, shown=True), info(9, HEAD, events=2), followed=True, now=7.0)
    assert known.dead is not None
    assert (known.dead.end, known.dead.events, known.dead.head) == (9, 2, HEAD)
    assert (known.dead.seal.detail, known.dead.seal.sealed_at) == (detail, 7.0)
    later = known.then(over(Failure.BUSY, BUSY), info(9, HEAD, events=2), followed=True, now=8.0)
    assert (later.dead, later.ending) == (known.dead, ending)


def test_one_that_is_gone_on_with_ends_once() -> None:
    going = Attempt("u", 1.0, 200)
    call = replace(over(Failure.NONE, Ending.of("end_seen", where="u"), shown=True), attempt=going)
    after = Conclusion((FREE, going)).then(call, info(9, HEAD), followed=False, now=7.0)
    assert after.attempts == (FREE, replace(going, ended_at=7.0, bytes=9, outcome=Outcome.COMPLETED))
    assert not STOP.sealing((FREE, going)).released


def test_whose_grammar_readers_have() -> None:
    """That of the last answer they got, whatever became of calls after it."""
    wrong = over(Failure.CUT, CUT, shown=True)
    known = Conclusion().then(
        replace(wrong, seal=replace(CUT.seal, foreign=True)), info(9, HEAD), followed=True, now=7.0
    )
    assert known.dead is not None
    assert (known.foreign, known.dead.seal.foreign) == (True, True)
    assert known.then(over(Failure.BUSY, BUSY), info(9, HEAD), followed=False, now=8.0).foreign
    assert not known.then(over(Failure.CUT, CUT, shown=True), info(9, HEAD), followed=False, now=8.0).foreign
