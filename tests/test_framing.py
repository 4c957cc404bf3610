"""Blocks: the same bytes out as in, cut where an EventSource dispatches, however they arrive."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resumestream.framing import Splitter, data_of, event_name, has_data, with_id

CHECKOUT = Path(__file__).parents[1]
BODIES = sorted(
    path
    for folder in (CHECKOUT / "fixtures", CHECKOUT.parent / "shared" / "recordings")
    for path in (*folder.glob("*.sse"), *folder.glob("*.bin"))
)
BOM = b"\xef\xbb\xbf"

PIECES = [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b":", b"data", b"data:", b"data: x", b"id", b" ", b"\0"]
streams = st.tuples(st.sampled_from([b"", BOM]), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)).map(
    b"".join
)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
lines = st.sampled_from(
    [b"data: x", b"data", b"data:", b": c", b"event: e", b"id: 1", b"", b"", "data: 日\u2028".encode()]
)


def chunked(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """`data` in pieces, cut at these places."""
    at = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[at:cut]
        at = cut
    yield data[at:]


def split(chunks: Iterable[bytes]) -> tuple[list[bytes], bytes]:
    """All blocks and the rest."""
    splitter = Splitter()
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)]
    assert splitter.held == len(splitter.rest())
    return blocks, splitter.rest()


def oracle(stream: bytes) -> tuple[list[bytes], bytes]:
    """The same by another way: line by line."""
    blocks, block = [], b""
    for line in stream.splitlines(keepends=True):
        block += line
        if line in (b"\r\n", b"\n", b"\r"):
            blocks.append(block)
            block = b""
    return blocks, block


def dispatched(stream: bytes) -> list[tuple[str, bytes]]:
    """Event name and data of each event that the whole blocks of `stream` make, read character by character."""
    events, line, after_cr = [], b"", False
    name, data = b"", None
    for char in stream.removeprefix(BOM):
        if char == 10 and after_cr:
            after_cr = False
            continue
        after_cr = char == 13
        if char not in (10, 13):
            line += bytes([char])
            continue
        if not line:
            if data is not None:
                events.append((name.decode("utf-8", "replace"), data))
            name, data = b"", None
        elif not line.startswith(b":"):
            field, value = [*line.split(b":", 1), b""][:2]
            value = value[1:] if value[:1] == b" " else value
            if field == b"event":
                name = value
            if field == b"data":
                data = value if data is None else data + b"\n" + value
        line = b""
    return events


def events(blocks: list[bytes]) -> list[tuple[str, bytes]]:
    """The same from blocks."""
    return [(event_name(block), data_of(block)) for block in blocks if has_data(block)]


@given(streams, st.lists(st.integers(0, 400), max_size=20))
@example(b"data: x\r\n\r\n", [9, 10])
@example(b"data: x\r\r\ndata: y\r\r", [9])
def test_nothing_is_lost_or_moved(stream: bytes, cuts: list[int]) -> None:
    """The blocks and the rest, joined, are the input, for any bytes in any pieces."""
    blocks, rest = split(chunked(stream, cuts))
    assert b"".join(blocks) + rest == stream


@given(streams)
def test_blocks_end_at_blank_lines(stream: bytes) -> None:
    """One feed gives what reading line by line gives; a last byte tells a CR at the very end what it is."""
    assert split([stream + b"x"]) == oracle(stream + b"x")


@given(streams, st.lists(st.integers(0, 400), max_size=20))
@example(b"data: x\r\r\ndata: y\r\r", [9])
@example(b"data: x\n\r\n", [9])
def test_events_do_not_depend_on_the_pieces(stream: bytes, cuts: list[int]) -> None:
    """Any stream in any pieces holds the events that an EventSource dispatches."""
    blocks, _ = split(chunked(stream + b"x", cuts))
    assert events(blocks) == dispatched(stream + b"x")


@given(st.lists(lines), line_ends, st.lists(st.integers(0, 400), max_size=20), st.booleans())
def test_blocks_do_not_depend_on_the_pieces(parts: list[bytes], end: bytes, cuts: list[int], bom: bool) -> None:
    """With one kind of line end the blocks are the same however the stream was cut, also byte by byte."""
    stream = (BOM if bom else b"") + b"".join(part + end for part in parts)
    whole = split([stream + b"x"])
    assert split([*chunked(stream, cuts), b"x"]) == whole
    assert split([*(stream[at : at + 1] for at in range(len(stream))), b"x"]) == whole


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_comes_out_with_its_last_byte(end: bytes) -> None:
    """Trickling byte by byte, a block is there as soon as its blank line is, and not before."""
    block = b"event: e" + end + b"data: x" + end + end
    splitter = Splitter()
    for _ in range(3):
        out = [splitter.feed(block[at : at + 1]) for at in range(len(block))]
        assert out == [[]] * (len(block) - 1) + [[block]]
        assert splitter.held == 0


def test_a_cr_waits_for_its_lf() -> None:
    """After CRLF or LF lines a last CR is held until the next byte; after a lone CR it is not."""
    for head in (b"data: x\r\n", b"data: x\n"):
        splitter = Splitter()
        assert splitter.feed(head + b"\r") == []
        assert splitter.held == len(head) + 1
        assert splitter.feed(b"data: y\n\n") == [head + b"\r", b"data: y\n\n"]
    splitter = Splitter()
    assert splitter.feed(b"data: x\r\r") == [b"data: x\r\r"]
    assert splitter.feed(b"\ndata: y\r\r") == [b"\n", b"data: y\r\r"]


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_transcripts_are_exact(path: Path) -> None:
    """Every transcript, also a binary one, comes out as it went in, at random pieces, in the same blocks."""
    body, chance = path.read_bytes(), random.Random(path.stem)
    whole = split([body])
    assert b"".join(whole[0]) + whole[1] == body
    for most in (1, 7, 300, 20_000):
        cuts = [chance.randrange(len(body) + 1) for _ in range(len(body) // most + 1)]
        blocks, rest = split(chunked(body, cuts))
        assert b"".join(blocks) + rest == body
        if path.suffix == ".sse":
            assert (blocks, rest) == whole


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_big_event_takes_linear_time(end: bytes) -> None:
    """An event of 300 kB in tiny pieces comes out whole, and twice the size takes about twice the time."""

    def seconds(size: int) -> float:
        block = b"data: " + b"x" * size + end + end
        started = perf_counter()
        blocks, rest = split(block[at : at + 3] for at in range(0, len(block), 3))
        assert blocks[0] == block
        assert not rest
        return perf_counter() - started

    small = min(seconds(75_000) for _ in range(3))
    big = min(seconds(300_000) for _ in range(3))
    assert big < 12 * small  # four times the size; rescanning would take 16 times as long


def test_what_an_event_is() -> None:
    """A line is data if its whole field name is `data`, with or without a value."""
    for block in (
        b"data\n\n",
        b"data:\n\n",
        b"data: x\n\n",
        b":c\rdata:x\r\r",
        BOM + b"data: x\n\n",
        b"id: 1\r\ndata\r\n\r\n",
    ):
        assert has_data(block), block
    for block in (
        b"\n",
        b": data\n\n",
        b"event: data\n\n",
        b"datax: 1\n\n",
        b" data: 1\n\n",
        b"mydata: 1\n\n",
        b"id: 1\n\n",
    ):
        assert not has_data(block), block


def test_fields_are_read_as_an_event_source_reads_them() -> None:
    """Data lines are joined, one space after the colon goes, the last event name wins, other separators stay."""
    block = "event: a\r\ndata:  x\r\ndata\r\ndata:y\u2028z\x0b\r\nevent:b\r\n\r\n".encode()
    assert data_of(block) == " x\n\ny\u2028z\x0b".encode()
    assert event_name(block) == "b"
    assert event_name(b"data: x\n\n") == ""
    assert event_name(b"event: \xff\n\n") == "\ufffd"
    assert data_of(BOM + b"data: x\n\n") == b"x"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_id_is_the_last_field(end: bytes) -> None:
    """The block as sent, then our id in the block's own line end; an id of its own stays and loses."""
    sent = BOM + b"id: 7" + end + b"retry: 5" + end + b"data: x" + end
    assert with_id(sent + end, b"0012") == sent + b"id: 0012" + end + end


@pytest.mark.parametrize("block", [b"\n", b": c\n\n", b"id: 1\r\n\r\n", b"data: x", b"data: x\n", b"data: x\r\n", b""])
def test_what_is_no_whole_event_gets_no_id(block: bytes) -> None:
    """Comments and half events stay as they are."""
    assert with_id(block, b"1") == block


@given(streams, st.lists(st.integers(0, 400), max_size=20))
def test_ids_change_no_event(stream: bytes, cuts: list[int]) -> None:
    """With ids in them, the blocks of any stream dispatch the same events."""
    blocks, _ = split(chunked(stream + b"x", cuts))
    assert dispatched(b"".join(with_id(block, b"1") for block in blocks)) == dispatched(stream + b"x")
