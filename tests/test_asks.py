"""Our request headers: what is accepted, what is refused and how clearly."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from resumestream.errors import InvalidHeader, NothingToResume, OffsetMalformed
from resumestream.http.asks import MAX_LABELS, Ask
from resumestream.offsets import NOW, START, Position
from resumestream.upstream import forwarded

Lines = list[tuple[str, str]]
KEY = ("Idempotency-Key", "k-1")


def parse(*lines: tuple[str, str]) -> Ask:
    return Ask.parse(Headers(raw=[(name.lower().encode(), value.encode("latin-1")) for name, value in lines]))


class Watched(Headers):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__({})
        self.names: list[str] = []

    def getlist(self, key: str) -> list[str]:
        self.names.append(key.lower())
        return super().getlist(key)


def looked_at() -> list[str]:
    headers = Watched()
    Ask.parse(headers)
    return headers.names


def test_what_is_meant_for_us_goes_no_further() -> None:
    """`Prefer` and `Last-Event-ID` are ours only where they say so; every other header that is read here stays here."""
    ours = [(name.encode(), b"x") for name in looked_at()]
    assert [name for name, _ in forwarded(ours)] == [b"last-event-id", b"prefer", b"accept-encoding"]
    assert (b"idempotency-key", b"x") in ours


def test_nothing_asked() -> None:
    """No header of ours: a plain call, findable by nobody's key."""
    ask = parse(("content-type", "application/json"), ("last-event-id", "41"), ("prefer", "return=minimal"))
    assert ask == Ask()
    assert not ask.keyed
    assert ask.start is None


def test_everything_asked() -> None:
    """Each header lands in its own field."""
    ask = parse(
        ("Stream-Scope", "turn-42"),
        ("Stream-Occurrence", "2"),
        ("Stream-Retry", "st_AbC-1"),
        ("Stream-Retain", "3600.5"),
        ("Stream-Label", "a"),
        ("Stream-Label", "b:c"),
        ("Stream-On-Disconnect", "grace:30"),
        ("Stream-Offset", "4096"),
        ("Stream-Exact", "true"),
        ("Prefer", "respond-async, wait=10"),
        ("Last-Event-ID", "s02.0000000000000007"),
    )
    assert ask == Ask(
        scope="turn-42",
        occurrence="2",
        retry_of="st_AbC-1",
        retain_s=3600.5,
        labels=("a", "b:c"),
        on_disconnect="grace:30",
        offset=Position(1, 4096),
        last_event_id=Position(2, 7),
        exact=True,
        respond_async=True,
    )
    assert ask.keyed
    assert ask.start == Position(2, 7)


@pytest.mark.parametrize(
    "lines",
    [
        [("Idempotency-Key", "k-1")],
        [("X-Idempotency-Key", "k-1")],
        [("Idempotency-Key", '"k-1"')],
        [("Idempotency-Key", '"k-1"'), ("X-Idempotency-Key", "k-1")],
        [("idempotency-key", " k-1 ")],
    ],
)
def test_a_key_in_every_spelling(lines: Lines) -> None:
    """Our header, its alias, and the IETF draft's quoted string are one key."""
    assert parse(*lines).key == "k-1"


@pytest.mark.parametrize("key", ["a", "A.z_9~:-", "x" * 255])
def test_keys_at_the_bounds(key: str) -> None:
    """1 to 255 characters of the alphabet."""
    assert parse(("Idempotency-Key", key)).key == key


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (("Stream-Offset", "-1"), START),
        (("Stream-Offset", "now"), NOW),
        (("Stream-Offset", "0"), Position(1, 0)),
        (("Last-Event-ID", "0000000000000009"), Position(1, 9)),
        (("Last-Event-ID", "0000000000000009.end"), Position(1, 9, end=True)),
    ],
)
def test_where_to_resume(line: tuple[str, str], start: object) -> None:
    """Every form of an offset, offset 0 included."""
    assert parse(KEY, line).start == start


def test_labels_joined_as_fetch_joins_them() -> None:
    """A browser makes one line of repeated headers; a label twice is once."""
    assert parse(("Stream-Label", "a, b,a")).labels == ("a", "b")
    eight = [("Stream-Label", f"l{n}") for n in range(MAX_LABELS)]
    assert len(parse(*eight).labels) == MAX_LABELS


@pytest.mark.parametrize(
    "agent",
    [
        "OpenAI/Python 3.52.0",
        "AsyncOpenAI/Python 3.52.0",
        "AzureOpenAI/Python 3.52.0",
        "OpenAI/JS 6.0.0",
        "Anthropic/Python 2.11.0",
        "AsyncAnthropicBedrock/Python 2.11.0",
        "google-genai-sdk/3.4.0 gl-python/3.11.7",
    ],
)
def test_sdks_never_get_a_202(agent: str) -> None:
    """They would take it for an empty answer."""
    prefer = ("Prefer", "Respond-Async")
    assert not parse(KEY, prefer, ("User-Agent", agent)).respond_async
    assert parse(KEY, prefer, ("User-Agent", "curl/8.5 (like OpenAI/Python)")).respond_async
    assert parse(KEY, prefer).respond_async


REFUSED: list[tuple[Lines, str, str]] = [
    ([("Idempotency-Key", "")], "Idempotency-Key", "1 to 255"),
    ([("Idempotency-Key", '""')], "Idempotency-Key", "1 to 255"),
    ([("Idempotency-Key", '"')], "Idempotency-Key", "1 to 255"),
    ([("Idempotency-Key", "x" * 256)], "Idempotency-Key", "256 characters"),
    ([("Idempotency-Key", "a b")], "Idempotency-Key", "1 to 255"),
    ([("Idempotency-Key", "a, b")], "Idempotency-Key", "1 to 255"),
    ([("Idempotency-Key", "clé")], "Idempotency-Key", "1 to 255"),
    ([("X-Idempotency-Key", "a/b")], "X-Idempotency-Key", "1 to 255"),
    ([KEY, KEY], "Idempotency-Key", "once"),
    ([KEY, ("X-Idempotency-Key", "k-2")], "X-Idempotency-Key", "differ"),
    ([KEY, ("Stream-Scope", "s")], "Stream-Scope", "one of them"),
    ([("Stream-Scope", "")], "Stream-Scope", "1 to 255"),
    ([("Stream-Scope", "s"), ("Stream-Occurrence", "#1")], "Stream-Occurrence", "1 to 255"),
    ([KEY, ("Stream-Occurrence", "1")], "Stream-Occurrence", "Stream-Scope"),
    ([KEY, ("Stream-Match", "body")], "Stream-Match", "must be key"),
    ([("Stream-Scope", "s"), ("Stream-Match", "key")], "Stream-Match", "Idempotency-Key"),
    ([("Stream-Retry", "st_1")], "Stream-Retry", "Idempotency-Key"),
    ([KEY, ("Stream-Retry", "../etc")], "Stream-Retry", "1 to 255"),
    ([("Stream-Retain", "-1")], "Stream-Retain", "0 or more"),
    ([("Stream-Retain", "nan")], "Stream-Retain", "0 or more"),
    ([("Stream-Retain", "1e9")], "Stream-Retain", "0 or more"),
    ([("Stream-Retain", "٣")], "Stream-Retain", "0 or more"),
    ([("Stream-Retain", "9" * 13)], "Stream-Retain", "0 or more"),
    ([("Stream-Label", "a b")], "Stream-Label", "1 to 255"),
    ([("Stream-Label", "a,,b")], "Stream-Label", "1 to 255"),
    ([("Stream-Label", f"l{n}") for n in range(MAX_LABELS + 1)], "Stream-Label", "9 labels"),
    ([("Stream-On-Disconnect", "grace")], "Stream-On-Disconnect", "grace:N"),
    ([("Stream-Exact", "yes")], "Stream-Exact", "true or false"),
    ([KEY, ("Stream-Offset", "1"), ("Stream-Offset", "2")], "Stream-Offset", "once"),
    ([KEY, ("Last-Event-ID", "1"), ("Last-Event-ID", "2")], "Last-Event-ID", "once"),
]


@pytest.mark.parametrize(("lines", "name", "hint"), REFUSED)
def test_refusals_name_the_header_and_what_is_allowed(lines: Lines, name: str, hint: str) -> None:
    """And show at most a harmless piece of what was sent."""
    raw = [(key.lower().encode(), value.encode("utf-8")) for key, value in lines]
    with pytest.raises(InvalidHeader) as refusal:
        Ask.parse(Headers(raw=raw))
    assert name in refusal.value.message
    assert hint in refusal.value.message
    assert refusal.value.message.isascii()
    assert len(refusal.value.message) < 200


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Idempotency-Key", "Stream-Scope"])
def test_keys_are_never_echoed(name: str) -> None:
    """They may be somebody's secret."""
    with pytest.raises(InvalidHeader) as refusal:
        parse((name, "customer 4711 secret"))
    assert "4711" not in refusal.value.message


def test_a_malformed_offset_is_told_as_such() -> None:
    """With its own code."""
    with pytest.raises(OffsetMalformed):
        parse(KEY, ("Stream-Offset", "-5"))


@pytest.mark.parametrize("line", [("Stream-Offset", "7"), ("Last-Event-ID", "0000000000000007")])
def test_resuming_without_a_key_never_starts(line: tuple[str, str]) -> None:
    """412, as with an unknown key."""
    with pytest.raises(NothingToResume):
        parse(line)


@given(st.lists(st.tuples(st.sampled_from(looked_at()), st.text(max_size=20)), max_size=4))
def test_any_value_is_read_or_refused(lines: Lines) -> None:
    """No input makes it fail in another way."""
    with contextlib.suppress(InvalidHeader, OffsetMalformed, NothingToResume):
        Ask.parse(Headers(raw=[(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in lines]))
