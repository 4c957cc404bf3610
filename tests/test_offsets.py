"""Offset tokens: written one way, read in the forms people write, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.errors import OffsetMalformed
from resumestream.offsets import (
    MAX_OFFSET,
    NOW,
    START,
    Position,
    format_offset,
    is_token,
    parse_last_event_id,
    parse_offset,
)

OFFSETS = st.integers(0, MAX_OFFSET)
SEGMENTS = st.integers(1, 999_999)


@given(OFFSETS, SEGMENTS)
def test_what_we_write_we_read(at: int, segment: int) -> None:
    """A token means the position it was made of, also as a Last-Event-ID, also with `.end`."""
    token = format_offset(at, segment)
    assert parse_offset(token) == parse_last_event_id(token) == Position(segment, at)
    assert parse_last_event_id(token + ".end") == Position(segment, at, end=True)
    assert is_token(token)
    assert is_token(token + ".end")


@given(OFFSETS, OFFSETS, SEGMENTS)
def test_tokens_of_a_segment_sort_as_their_offsets(a: int, b: int, segment: int) -> None:
    """Comparing tokens as text is comparing offsets."""
    assert (format_offset(a, segment) < format_offset(b, segment)) is (a < b)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("0", Position(1, 0)),
        ("4096", Position(1, 4096)),
        ("0000000000004096", Position(1, 4096)),
        ("s02.0000000000000007", Position(2, 7)),
        ("s02.7", Position(2, 7)),
        ("s100.7", Position(100, 7)),
        (str(10**16 - 1), Position(1, 10**16 - 1)),
        ("-1", START),
        ("now", NOW),
    ],
)
def test_accepted_forms(text: str, meaning: object) -> None:
    """The contract's forms, spelled out."""
    assert parse_offset(text) == meaning


def test_the_written_form() -> None:
    """16 digits; the second segment is `s02`."""
    assert format_offset(4096) == "0000000000004096"
    assert format_offset(4096, 2) == "s02.0000000000004096"


MALFORMED = [
    "",
    " 1",
    "1 ",
    "1\n",
    "+1",
    "-0",
    "-2",
    "-1.end",
    "now.end",
    "NOW",
    "1.5",
    "1e3",
    "0x10",
    "1_000",
    "١٢٣",
    "00000000000000001",
    str(10**16),
    "9" * 5000,
    "s2.7",
    "s01.7",
    "s00.7",
    "s002.7",
    "s02.",
    "s02",
    "S02.7",
    ".end",
    "7.end.end",
    "1;drop",
    "\x00",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_anything_else_is_malformed(text: str) -> None:
    """The refusal shows what is accepted, and never more than a harmless piece of the input."""
    with pytest.raises(OffsetMalformed) as refusal:
        parse_last_event_id(text)
    message = str(refusal.value)
    assert "-1" in message
    assert "now" in message
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 250


def test_end_is_no_offset() -> None:
    """`.end` is something a reader has seen, not a place to read from."""
    with pytest.raises(OffsetMalformed):
        parse_offset("0000000000004096.end")


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No input makes the parser fail in another way, and what it calls ours it can read unless it is huge."""
    try:
        parse_last_event_id(text)
    except OffsetMalformed:
        assert not is_token(text)


@pytest.mark.parametrize("text", ["5", "4096", "e1", "1700000000000-0", "-1", "now", "", "0000000000004096.END"])
def test_other_servers_ids_are_not_ours(text: str) -> None:
    """Short numbers and other shapes belong to the upstream and are passed on to it."""
    assert not is_token(text)
