"""The nouns: what they derive, and that nothing about them can be changed."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from resumestream import model
from resumestream.model import Gone, Head, NewStream, Outcome, Page, Seal, State, StreamId, StreamInfo

NEW = NewStream(StreamId("s"), "p", "openai", "w", created_at=1.0, retain_s=60, tombstone_s=600)
LIVE = StreamInfo(NEW)
SEALED = replace(LIVE, tail=3, seal=Seal(Outcome.TRUNCATED, "eof", "It broke off.", sealed_at=50.0))


@pytest.mark.parametrize(
    ("content_type", "is_sse"),
    [
        ("text/event-stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("Text/Event-Stream;charset=UTF-8", True),
        (" text/event-stream ", True),
        ("text/event-stream-x", False),
        ("application/json; profile=text/event-stream", False),
        ("", False),
    ],
)
def test_what_an_event_stream_is(content_type: str, is_sse: bool) -> None:
    """The media type decides, in any case and with any parameters."""
    assert Head(200, (("content-type", content_type),)).is_sse is is_sse


def test_head() -> None:
    """The first header of a name counts; no content type is an empty one; only 2xx is ok."""
    head = Head(200, (("a", "1"), ("b", "2"), ("a", "3")))
    assert (head.get("a"), head.get("c"), head.content_type, head.is_sse) == ("1", None, "", False)
    assert [status for status in (199, 200, 204, 299, 300, 404, 500) if Head(status).ok] == [200, 204, 299]


@pytest.mark.parametrize("tail", [0, 7])
def test_state_is_derived(tail: int) -> None:
    """From what is recorded alone: gone before sealed before bytes."""
    info = replace(LIVE, tail=tail)
    assert info.state is (State.STREAMING if tail else State.PENDING)
    for outcome in Outcome:
        sealed = replace(info, seal=Seal(outcome, "d", "m"))
        assert (sealed.state, sealed.sealed) == (State.SEALED, True)
        assert sealed.completed is (outcome is Outcome.COMPLETED)
        assert {replace(sealed, gone=gone).state for gone in Gone} == {State.EXPIRED}


def test_a_request_to_cancel_is_no_state() -> None:
    """It is an intent; the stream goes on until somebody seals it."""
    assert replace(LIVE, cancel_requested=True).state is State.PENDING


def test_windows() -> None:
    """A live stream never expires, a payload is kept from its seal, a tombstone from when the payload went."""
    assert (LIVE.expires_at, LIVE.forgets_at) == (math.inf, math.inf)
    assert (SEALED.expires_at, SEALED.forgets_at) == (110.0, math.inf)
    assert replace(SEALED, gone=Gone.EXPIRED, gone_at=0.0).forgets_at == 600.0
    assert replace(SEALED, new=replace(NEW, retain_s=0)).expires_at == 50.0


def test_pages_follow_each_other() -> None:
    """The next page starts where this one ends."""
    assert Page(5, b"abc").next == 8
    assert Page(5, b"").next == 5


def test_the_id_is_the_streams() -> None:
    """A record is known by its stream's id."""
    assert LIVE.id == NEW.id == "s"


def test_nouns_are_frozen_and_small() -> None:
    """No attribute can be set, and none be made up: what two tasks share cannot change under them."""
    for noun in vars(model).values():
        if is_dataclass(noun) and isinstance(noun, type):
            assert noun.__dataclass_params__.frozen, noun  # type: ignore[attr-defined]
            assert "__dict__" not in dir(noun), noun
    with pytest.raises(FrozenInstanceError):
        setattr(LIVE, fields(LIVE)[0].name, NEW)
