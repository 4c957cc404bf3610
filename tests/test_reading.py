"""What an answer's bytes mean, decided without I/O."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.dialects import DIALECTS, named
from resumestream.endings import DETAILS, Ending
from resumestream.lifecycle import ENDINGS
from resumestream.policy import Policy
from resumestream.reading import Reading
from resumestream.upstream.connection import LOST

CUT = Ending.of("connection_closed", where="the provider")
CHAT = (
    b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    b": comment\n\n"
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
ENDS = [index + 2 for index in range(len(CHAT)) if CHAT.startswith(b"\n\n", index)]


def reading(dialect: str = "openai-chat", *, policy: Policy | None = None) -> Reading:
    return Reading(named(dialect), policy=policy or Policy(), where="the provider")


def read(
    body: bytes, sizes: list[int], *, cut: Ending | None = None, framed: bool = True
) -> tuple[bytes, Reading, Ending]:
    """The payload and ending of a body that comes in pieces."""
    one, out, at = reading(), b"", 0
    for size in [*sizes, len(body)]:
        if piece := body[at : at + size]:
            out += one.feed(piece).data
        at += size
    portion, ending = one.finish(cut, framed=framed)
    return out + portion.data, one, ending


@given(st.lists(st.integers(1, 40)))
def test_a_whole_answer_is_its_own_payload(sizes: list[int]) -> None:
    """Byte for byte, however it is cut, and completed with all its events."""
    payload, one, ending = read(CHAT, sizes)
    assert payload == CHAT
    assert (ending.detail, ending.completed, one.events, one.tail) == ("end_seen", True, 3, len(CHAT))


@pytest.mark.parametrize("at", range(len(CHAT) + 1))
def test_a_cut_after_every_byte(at: int) -> None:
    """Whole events before the cut are kept; completed only once the terminal event is whole."""
    payload, _, ending = read(CHAT[:at], [7] * 40, cut=CUT)
    assert payload == CHAT[: max([0, *(end for end in ENDS if end <= at)])]
    assert ending.completed is (at == len(CHAT))
    assert ending.detail == ("end_seen" if ending.completed else "connection_closed")


@pytest.mark.parametrize("at", range(len(CHAT) + 1))
def test_a_clean_end_after_every_byte(at: int) -> None:
    """Without the terminal event it is a cut, unless every choice had its finish_reason, and no event was begun after
    that: nobody knows what would have been in it."""
    payload, _, ending = read(CHAT[:at], [], framed=True)
    done, whole = CHAT.index(b'"stop"}]}') + len(b'"stop"}]}'), CHAT.index(b"[DONE]") + len(b"[DONE]")
    if at >= whole:
        assert ending.detail == "end_seen"
    elif done <= at <= ENDS[2]:
        assert ending.detail == "framed_end"
    else:
        assert ending.detail == ("no_terminal_event" if at else "no_first_byte")
    assert payload == (CHAT[:at] if ending.completed else CHAT[: max([0, *(end for end in ENDS if end <= at)])])


def test_an_end_without_a_frame_is_a_cut() -> None:
    """Nothing tells a connection that was cut from one that was closed, unless the dialect does."""
    body = CHAT[: ENDS[2]]
    assert read(body, [], framed=False)[2].detail == "unframed_end"
    assert read(CHAT, [], framed=False)[2].completed
    plain = reading("plain")
    plain.feed(b"half of a JSON bo")
    assert plain.finish(None, framed=False)[1].detail == "unframed_end"


def test_what_follows_the_end_is_payload_and_changes_nothing() -> None:
    """A completed stream is what the provider sent, to the last byte, whole event or not."""
    payload, _, ending = read(CHAT + b'data: {"error":"late"}\n\ndata: hal', [], cut=CUT)
    assert payload == CHAT + b'data: {"error":"late"}\n\ndata: hal'
    assert ending.completed


@pytest.mark.parametrize(("before", "released"), [(b"", True), (b": comment\n\n", True), (CHAT[: ENDS[0]], False)])
def test_an_error_event_releases_the_key_only_as_the_first(before: bytes, released: bool) -> None:
    """Comments are no events."""
    _, _, ending = read(before + b'data: {"error":{"message":"overloaded"}}\n\n', [])
    assert (ending.detail, ending.released) == ("error_event", released)
    assert "overloaded" in ending.message


def test_a_credential_in_an_error_is_in_no_message() -> None:
    """The event is payload; what is stored and listed beside it holds stars."""
    secret = "sk-proj-0123456789abcdefABCDEF0123"
    payload, _, ending = read(f'data: {{"error":{{"message":"Incorrect API key: {secret}"}}}}\n\n'.encode(), [])
    assert secret.encode() in payload
    assert ending.message.endswith(": Incorrect API key: " + "*" * len(secret))


def test_an_error_without_its_blank_line_is_kept() -> None:
    """The provider's own error is payload even where it is no whole event."""
    for framed, cut in ((True, None), (False, CUT)):
        payload, one, ending = read(b'data: {"error":{"message":"overloaded"}}\n', [], cut=cut, framed=framed)
        assert payload.endswith(b"}\n")
        assert (ending.detail, one.events) == ("error_unended", 1)


@pytest.mark.parametrize(("cut", "framed"), [(CUT, False), (None, True)])
def test_half_an_event_behind_an_error_is_dropped(cut: Ending | None, framed: bool) -> None:
    """The payload ends with what the provider said, which its readers then see."""
    error = b'data: {"error":{"message":"overloaded"}}\n\n'
    payload, _, ending = read(error + b'data: {"error":{"message":"again', [], cut=cut, framed=framed)
    assert (payload, ending.detail) == (error, "error_event")


FIRST = {
    "openai-chat": b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n',
    "openai-responses": b'event: response.created\ndata: {"type":"response.created","response":{}}\n\n',
    "anthropic": b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n',
    "gemini-interactions": b'event: interaction.created\ndata: {"event_type":"interaction.created"}\n\n',
    "langgraph": b'event: metadata\ndata: {"run_id":"1"}\n\n',
    "ollama": b'{"message":{"content":"hi"},"done":false}\n',
    "ui-message-stream": b'data: {"type":"start"}\n\n',
}
LAST = [
    ("openai-chat", b'data: {"error":{"code":"x"}}\n\n', "error"),
    ("openai-chat", b'event: error\ndata: {"error":{"code":"x"}}\n\n', "error"),
    ("openai-chat", b"data: [DONE]\n\n", "end"),
    ("openai-responses", b'event: response.failed\ndata: {"type":"response.failed","response":{}}\r\n\r\n', "error"),
    ("openai-responses", b'event: error\ndata: {"type":"error","error":{"code":"x"}}\n\n', "error"),
    ("openai-responses", b'event: response.completed\ndata: {"type":"response.completed"}\n\n', "end"),
    ("anthropic", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n', "error"),
    ("anthropic", b'event: message_stop\ndata: {"type":"message_stop"}\n\n', "end"),
    ("gemini-interactions", b'event: error\ndata: {"event_type":"error","error":{"code":"x"}}\n\n', "error"),
    (
        "gemini-interactions",
        b'event: interaction.completed\ndata: {"event_type":"interaction.completed","interaction":{}}\n\n',
        "end",
    ),
    ("langgraph", b'event: error\ndata: {"error":"X","message":"m"}\r\r', "error"),
    ("langgraph", b"event: end\ndata: null\n\n", "end"),
    ("ollama", b'{"error":"x"}\n', "error"),
    ("ollama", b'{"done":true}\n', "end"),
    ("ui-message-stream", b'data: {"type":"error","errorText":"x"}\n\n', "error"),
    ("ui-message-stream", b"data: [DONE]\n\n", "end"),
]


@pytest.mark.parametrize(("cut", "framed"), [(CUT, False), (None, True)], ids=["cut", "clean"])
@pytest.mark.parametrize(("dialect", "event", "kind"), LAST)
def test_no_part_of_the_last_event_is_taken_for_it(
    dialect: str, event: bytes, kind: str, cut: Ending | None, framed: bool
) -> None:
    """Cut at each byte: it counts once all of its data is there, and until then nothing of it is kept."""
    first, data = FIRST[dialect], len(event.rstrip(b"\r\n"))
    lacks_its_end = "error_event" if dialect == "ollama" else "error_unended"
    for at in range(len(event) + 1):
        one = reading(dialect)
        payload = one.feed(first + event[:at]).data
        last, ending = one.finish(cut, framed=framed)
        payload += last.data
        if payload.endswith(first):
            langgraph_ends = dialect == "langgraph" and framed and at == 0
            assert ending.completed is langgraph_ends, at
            assert langgraph_ends or ending.detail == ("no_terminal_event" if framed else "connection_closed"), at
            assert at < data or (kind == "end" and cut), at
        else:
            assert at >= data
            assert payload == first + event[:at]
            assert ending.completed is (kind == "end")
            if kind == "error":
                whole = len(payload) == one.tail and not last.data
                assert ending.detail == ("error_event" if whole else lacks_its_end), at


@pytest.mark.parametrize(
    "rest", [b"data: 12", b"data: nul", b"data:", b"da", b"event: end", b"data: null\nevent: end", b"data: {}\nid: 1"]
)
def test_what_may_be_the_beginning_of_more_is_not_whole(rest: bytes) -> None:
    """A number cut short is a number, too; and a run that ends within an event did not end as it should."""
    one = reading("langgraph")
    one.feed(FIRST["langgraph"] + rest)
    last, ending = one.finish(None, framed=True)
    assert (last.data, ending.detail) == (b"", "no_terminal_event")


@pytest.mark.parametrize(
    ("caps", "more"),
    [
        ({"max_stream_bytes": len(CHAT) + 20}, b": ka\n\n" * 10),
        ({"max_event_bytes": 100}, b"data: " + b"x" * 200),
        ({"max_event_bytes": 100}, b": " + b"x" * 200 + b"\n\n"),
        ({"max_stream_bytes": len(CHAT) + 20}, b": " + b"x" * 30),
    ],
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_what_goes_beyond_a_cap_behind_the_end_is_left_out(caps: dict[str, int], more: bytes, size: int) -> None:
    """The answer was complete, and stays so."""
    one, body, out, capped = reading(policy=Policy(**caps)), CHAT + more, b"", None
    for at in range(0, len(body), size):
        portion = one.feed(body[at : at + size])
        out, capped = out + portion.data, portion.capped
        if capped:
            break
    last, ending = one.finish(capped, framed=not capped)
    assert (ending.detail, ending.completed) == ("end_seen", True)
    assert (out + last.data).startswith(CHAT)
    assert len(out + last.data) <= len(CHAT) + 20


@pytest.mark.parametrize("room", range(len(CHAT) + 1))
def test_the_cap_on_bytes_keeps_whole_events(room: int) -> None:
    """The stream ends at the last event that fits; a body that fits is not capped."""
    policy = Policy(max_stream_bytes=max(1, room))
    one = reading(policy=policy)
    portion = one.feed(CHAT)
    kept = max([0, *(end for end in ENDS if end <= room)])
    assert portion.data == CHAT[:kept]
    assert (portion.capped is None) is (room == len(CHAT))
    if portion.capped:
        assert one.finish(portion.capped)[1].detail == ("max_stream_bytes" if kept < len(CHAT) else "end_seen")


def test_the_cap_on_bytes_without_events() -> None:
    """Every byte that fits is kept."""
    one = reading("plain", policy=Policy(max_stream_bytes=5))
    assert one.feed(b"abc").capped is None
    portion = one.feed(b"defg")
    assert portion.data == b"de"
    assert portion.capped is not None
    assert one.finish(portion.capped)[1].message.endswith("after 5 bytes; they are kept")


@pytest.mark.parametrize("sizes", [[1] * 60, [60], [30, 30]])
def test_the_cap_on_one_event(sizes: list[int]) -> None:
    """An event above it is never logged, whether it comes in one piece or in many."""
    body, one, out, capped, at = (
        b"data: 1\n\ndata: " + b"x" * 45,
        reading(policy=Policy(max_event_bytes=20)),
        b"",
        None,
        0,
    )
    for size in sizes:
        portion = one.feed(body[at : at + size])
        out, capped, at = out + portion.data, capped or portion.capped, at + size
    assert out == b"data: 1\n\n"
    assert capped is not None
    assert capped.detail == "max_event_bytes"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_empty_event_stream_is_a_cut(dialect: str) -> None:
    """A 2xx without a byte is no answer, whatever the frame says; unless no dialect knows better."""
    _, ending = reading(dialect).finish(None, framed=True)
    assert ending.detail == ("framed_end" if dialect in ("unknown", "plain") else "no_first_byte")


def test_every_detail_has_an_outcome_and_every_loss_a_detail() -> None:
    """The tables fit together."""
    assert {moved for moved, _ in DETAILS.values()} == ENDINGS.keys()
    assert LOST.keys() <= DETAILS.keys()


def test_a_cap_leaves_no_hole() -> None:
    """Once an event was dropped nothing follows it, not even the provider's own error or its end."""
    for rest in (b'data: {"error":{"message":"late"}}\n', b"data: [DONE]\n\n"):
        one = reading(policy=Policy(max_event_bytes=60))
        portion = one.feed(b"data: 1\n\ndata: " + b"x" * 80 + b"\n\n" + rest)
        assert portion.data == b"data: 1\n\n"
        last, ending = one.finish(portion.capped)
        assert (last.data, ending.detail) == (b"", "max_event_bytes")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (CHAT[: ENDS[2]] + b": behind the last finish reason", "framed_end"),
        (CHAT[: ENDS[2]] + b"data: [DONE]", "end_seen"),
        (CHAT[: ENDS[0]] + b'data: {"error":{"message":"overloaded"}}', "error_unended"),
    ],
)
def test_a_last_piece_that_does_not_fit_is_missing(body: bytes, detail: str) -> None:
    """What is no whole event counts as well: without it nothing is complete, and no failure is told."""
    for room, expected in ((len(body), detail), (len(body) - 1, "max_stream_bytes")):
        one = reading(policy=Policy(max_stream_bytes=room))
        fed = one.feed(body)
        last, ending = one.finish(fed.capped, framed=True)
        assert ending.detail == expected
        assert (fed.data + last.data == body) is (expected == detail)
