"""Lines and binary messages: whole ones out, the same bytes, however they arrive."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from struct import pack
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.framing import LINES, MESSAGES, Framing
from resumestream.framing.messages import headers_of, message_of, payload_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
MESSAGE_FILES = sorted(FIXTURES.glob("bedrock*.bin"))
KIND = {":event-type": "messageStart", ":message-type": "event"}

cuts = st.lists(st.integers(0, 400), max_size=20)
texts = st.text(max_size=20)
messages = st.lists(
    st.builds(message_of, st.dictionaries(texts, texts, max_size=3), st.binary(max_size=50)), max_size=5
)


def split(framing: Framing, stream: bytes, at: list[int]) -> tuple[list[bytes], bytes]:
    """All blocks and the rest."""
    assert framing.splitter is not None
    splitter, blocks = framing.splitter(), []
    places = sorted(place % (len(stream) + 1) for place in at)
    for begin, end in pairwise((0, *places, len(stream))):
        blocks += splitter.feed(stream[begin:end])
        assert splitter.held == len(splitter.rest())
    return blocks, splitter.rest()


@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"{}", b" ", b"\0"])).map(b"".join), cuts)
def test_lines_end_with_lf(stream: bytes, at: list[int]) -> None:
    """Whatever the pieces; a CR is a byte of its line."""
    *lines, rest = stream.split(b"\n")
    assert split(LINES, stream, at) == ([line + b"\n" for line in lines], rest)


@given(messages, st.binary(max_size=40), cuts)
def test_messages_come_out_as_they_went_in(sent: list[bytes], more: bytes, at: list[int]) -> None:
    """Whatever the pieces, and whatever follows."""
    stream = b"".join(sent) + more
    blocks, rest = split(MESSAGES, stream, at)
    assert b"".join(blocks) + rest == stream
    assert blocks[: len(sent)] == sent
    assert (blocks, rest) == split(MESSAGES, stream, [])


@pytest.mark.parametrize("path", MESSAGE_FILES, ids=lambda path: path.stem)
def test_recorded_messages_are_whole(path: Path) -> None:
    """Byte by byte and in random pieces each comes out with its last byte, its headers can be read, and its checksums
    are right."""
    body, chance = path.read_bytes(), random.Random(path.stem)
    blocks, rest = split(MESSAGES, body, [])
    assert b"".join(blocks) == body
    assert not rest
    for at in ([*range(len(body))], [chance.randrange(len(body)) for _ in range(30)]):
        assert split(MESSAGES, body, at) == (blocks, b"")
    for block in blocks:
        assert headers_of(block)[":message-type"] in ("event", "exception")
        assert payload_of(block).startswith(b"{")
        assert block[-4:] == pack(">I", crc32(block[:-4]))


@given(st.dictionaries(texts, texts, max_size=3), st.binary(max_size=50))
def test_what_is_written_is_read(headers: dict[str, str], payload: bytes) -> None:
    """Headers and payload, any text and any bytes."""
    message = message_of(headers, payload)
    assert (headers_of(message), payload_of(message)) == (headers, payload)
    assert (headers_of(message[:-1]), payload_of(message[:-1])) == ({}, b"")


def test_other_headers_are_skipped() -> None:
    """Every type of the format is passed over; what has none of them ends the reading."""
    values = [b"\0", b"\1", b"\2x", b"\3xx", b"\4xxxx", b"\5" + bytes(8), b"\6\0\3abc", b"\x08" + bytes(8)]
    values += [b"\x09" + bytes(16), b"\x07\0\2ok"]
    block = b"".join(bytes([1]) + b"abcdefghij"[number : number + 1] + value for number, value in enumerate(values))
    assert headers_of(_raw(block)) == {"j": "ok"}
    for damaged in (block + b"\1k\x0a", block + b"\1k\x07\0\xff", block + b"\xff", block + b"\1k"):
        assert headers_of(_raw(damaged)).get("j", "ok") == "ok"


def _raw(headers: bytes) -> bytes:
    lengths = pack(">II", 16 + len(headers), len(headers))
    body = lengths + pack(">I", crc32(lengths)) + headers
    return body + pack(">I", crc32(body))


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>502 Bad Gateway</html>",
        bytes(40),
        pack(">II", 15, 0) + pack(">I", crc32(pack(">II", 15, 0))) + bytes(3),
        pack(">II", 20, 5) + pack(">I", crc32(pack(">II", 20, 5))) + bytes(8),
        pack(">II", 2**32 - 1, 0) + pack(">I", crc32(pack(">II", 2**32 - 1, 0))),
        message_of(KIND, b"{}")[:7] + b"\xff" + message_of(KIND, b"{}")[8:],
        message_of(KIND, b"{}")[:8] + b"\xff" + message_of(KIND, b"{}")[9:],
    ],
)
def test_after_what_is_no_message_there_is_none(garbage: bytes) -> None:
    """A length that fits no message, or not its checksum, tells nothing about what comes then: all of it is held."""
    good = message_of(KIND, b"{}")
    assert split(MESSAGES, good + garbage + good, [3, 50]) == ([good], garbage + good)


@given(st.binary(max_size=80))
def test_reading_any_bytes_never_raises(block: bytes) -> None:
    """Neither headers nor payload."""
    headers_of(block)
    payload_of(block)


@pytest.mark.parametrize("framing", [LINES, MESSAGES], ids=["lines", "messages"])
def test_many_pieces_take_linear_time(framing: Framing) -> None:
    """A record of a megabyte in pieces of 50 bytes; looking at all of it each time would take minutes."""
    record = b"x" * 1_000_000 + b"\n" if framing is LINES else message_of(KIND, bytes(1_000_000))
    assert split(framing, record, list(range(0, len(record), 50))) == ([record], b"")
