"""What we add to a stream: failures and keep-alives, by each wire's own rules."""

from __future__ import annotations

import json

import pytest

from resumestream.dialects import DIALECTS
from resumestream.framing import LINES, MESSAGES, SSE, data_of, event_name
from resumestream.framing.messages import payload_of
from resumestream.ports import Dialect, Mark

from .test_dialects import blocks_of

HOSTILE = 'x"\r\n\r\ndata: [DONE]\n\nevent: y\u2028\u0085\x00\ud800\\'


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_an_error_frame_is_one_event(dialect: Dialect) -> None:
    """Whatever the texts hold, it is one block of the wire that the dialect's own scanner takes for an error."""
    frame = dialect.error_frame(HOSTILE, HOSTILE)
    if dialect.name in ("unknown", "plain"):
        assert frame is None
        assert dialect.keepalive is None
        return
    assert frame is not None
    assert blocks_of(frame, dialect.framing) == [frame]
    assert dialect.scanner().scan(frame) is Mark.ERROR
    if dialect.framing is SSE:
        end = b"\r\n" if dialect.name == "gemini" else b"\n"
        assert frame.count(b"\n") == frame.count(end) == (3 if event_name(frame) else 2)
        assert frame.count(b"\r") == (frame.count(b"\n") if end == b"\r\n" else 0)
    told = json.loads({SSE: data_of, LINES: bytes, MESSAGES: payload_of}[dialect.framing](frame))
    places = told, told.get("error")
    assert HOSTILE in [each for place in places if isinstance(place, dict) for each in place.values()]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_a_keepalive_is_no_event(dialect: Dialect) -> None:
    """It is a line end more or a comment, and only where blocks are lines."""
    if dialect.keepalive is None:
        assert dialect.name in ("ollama", "bedrock", "unknown", "plain")
        return
    scanner = dialect.scanner()
    assert dialect.framing is SSE
    assert [scanner.scan(block) for block in blocks_of(3 * dialect.keepalive + b"\n")] in (
        [Mark.BLANK] * n for n in (1, 4)
    )
    assert not scanner.ends_at_framed_end()
