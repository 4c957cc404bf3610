"""One round: a transcript, perhaps damaged, cut at random. Everything follows from its seed.

However a body is cut, no byte is lost or moved, the same events come out and mean the same, and nothing raises.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random

from resumestream.dialects import DIALECTS, expected, spoken
from resumestream.dialects.guess import Guess
from resumestream.endings import Ending
from resumestream.framing import LINES, MESSAGES, SSE, data_of, event_name, has_data
from resumestream.framing.messages import message_of
from resumestream.model import Head
from resumestream.policy import Policy
from resumestream.ports import Dialect, Mark
from resumestream.reading import Reading

CHECKOUT = Path(__file__).parents[2]
FIXTURES, RECORDINGS = CHECKOUT / "fixtures", CHECKOUT.parent / "shared" / "recordings"
CUT = Ending.of("connection_closed", where="the provider")


@dataclass(frozen=True)
class Sample:
    """A transcript and the dialect that it is in."""

    name: str
    dialect: Dialect
    body: bytes


@dataclass
class Tally:
    """What a run has done."""

    rounds: int = 0
    cuts: int = 0
    """Places where a body was split between two calls."""
    damage: int = 0
    """Bytes that were changed, added or dropped."""

    def add(self, other: Tally) -> None:
        self.rounds += other.rounds
        self.cuts += other.cuts
        self.damage += other.damage


def corpus(*folders: Path) -> list[Sample]:
    """The transcripts in these folders: what a seed means depends on them."""
    return [_sample(meta) for folder in folders for meta in sorted(folder.glob("*.json"))]


def _sample(meta: Path) -> Sample:
    call = json.loads(meta.read_text(encoding="utf-8"))
    head = Head(call["response"]["status"], tuple(call["response"]["headers"].items()))
    path = call["request"].get("path") or call["request"]["uri"]
    (body,) = (path for path in meta.parent.glob(f"{meta.stem}.*") if path != meta)
    return Sample(meta.stem, spoken(expected(None, path), head), body.read_bytes())


def play(seed: str, samples: list[Sample]) -> Tally:
    """The round of this seed. Raises AssertionError, or what the code under test raises."""
    chance = Random(seed)
    sample = chance.choice(samples)
    dialect = sample.dialect if chance.random() < 0.8 else chance.choice([*DIALECTS.values()])
    if dialect.known and chance.random() < 0.5:
        dialect = Guess(dialect)
    body = sample.body
    if chance.random() < 0.7:
        body = damaged(body, chance, samples, dialect)
    if chance.random() < 0.3:
        body = body[: chance.randint(0, len(body))]
    tally = Tally(rounds=1, damage=0 if body is sample.body else _difference(sample.body, body))
    for check in (split, read):
        places = cuts(len(body), chance)
        tally.cuts += len(places)
        check(dialect, [body[begin:end] for begin, end in pairwise((0, *places, len(body)))], chance)
    return tally


def play_until(base: str, until: float) -> Tally:
    """Rounds until then, by the wall clock that all processes share. Raises RuntimeError with the seed that fails."""
    samples, tally = corpus(FIXTURES, RECORDINGS), Tally()
    while time.time() < until:
        seed = f"{base}.{tally.rounds}"
        try:
            tally.add(play(seed, samples))
        except Exception as error:
            raise RuntimeError(f"the round of seed {seed} failed") from error
    return tally


def cuts(size: int, chance: Random) -> list[int]:
    """Where to cut: everywhere, in a few places, or in pieces of about one length. In order, each once."""
    style = chance.randrange(4)
    if style == 0:
        return [*range(1, size)]
    if style == 1:
        return sorted({chance.randrange(1, size) for _ in range(chance.randrange(1, 9))} if size > 1 else ())
    most = chance.choice((2, 7, 100, 1500))
    places, at = [], chance.randint(1, most)
    while at < size:
        places.append(at)
        at += chance.randint(1, most)
    return places


# --- what must hold ---------------------------------------------------------------------------------------------


def split(dialect: Dialect, pieces: list[bytes], chance: Random) -> None:
    """The blocks and the rest are the input; events, marks, usage, model and error do not depend on the pieces."""
    if dialect.framing.splitter is None:
        return
    body = b"".join(pieces)
    told, reference = [], []
    for seen, parts in ((told, pieces), (reference, [body])):
        splitter, scanner = dialect.framing.splitter(), dialect.scanner()
        blocks = [block for part in parts for block in splitter.feed(part)]
        rest = splitter.rest()
        assert b"".join(blocks) + rest == body, "bytes were lost or moved"
        assert splitter.held == len(rest)
        marks = [(mark, block) for block in blocks if (mark := scanner.scan(block)) is not Mark.BLANK]
        if dialect.framing is SSE:  # where line ends are mixed, only events are the same, not the bytes between them
            seen += [(mark, has_data(block), event_name(block), data_of(block)) for mark, block in marks]
        else:
            seen += [*marks, rest]
        seen += [scanner.usage, scanner.model, scanner.error, scanner.ends_at_framed_end()]
    assert told == reference, "the pieces made a difference"


def read(dialect: Dialect, pieces: list[bytes], chance: Random) -> None:
    """What a log gets is the beginning of the body, and all of it where the answer is complete."""
    body = b"".join(pieces)
    policy = Policy()
    if chance.random() < 0.1:
        policy = Policy(max_event_bytes=chance.randint(1, 2000), max_stream_bytes=chance.randint(1, len(body) + 9))
    reading, out, capped = Reading(dialect, policy=policy, where="the provider"), [], None
    for piece in pieces:
        portion = reading.feed(piece)
        out.append(portion.data)
        if capped := portion.capped:
            break
    last, ending = reading.finish(capped or chance.choice((None, CUT)), framed=chance.random() < 0.5)
    payload = b"".join(out) + last.data
    assert body.startswith(payload), "what is logged is not what came"
    assert len(payload) == reading.tail
    assert payload == body or capped or not ending.completed, "a part looks complete"
    if dialect.framing.splitter:
        splitter = dialect.framing.splitter()
        blocks = [block for piece in pieces for block in splitter.feed(piece)]
        ends = [0, *accumulate(map(len, blocks))]
        if rest := payload[max(end for end in ends if end <= len(payload)) :]:
            scanner = dialect.scanner()
            seen = [mark for block in blocks if (mark := scanner.scan(block)) in (Mark.END, Mark.ERROR)][:1]
            assert ending.completed or (ending.told and not seen), "half a block was logged"
            anywhere = dialect.ends_as_framed or scanner.foreign
            assert seen or anywhere or all_there(dialect, rest), "a part was taken for the whole"
    assert len(ending.message) < 1000
    reading.usage, reading.model  # noqa: B018


def all_there(dialect: Dialect, rest: bytes) -> bool:
    """Whether an event lacks nothing but its end: no line of it stops in the middle, and its JSON is whole; or whether
    none was begun."""
    data = rest
    if dialect.framing is SSE:
        lines = rest.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
        said = [line[5:].removeprefix(b" ") for line in lines if re.match(rb"data(?:[:\r\n]|\Z)", line)]
        if all(line[:1] in (b":", b"\r", b"\n") for line in lines):
            return True
        if not lines[-1].startswith(b"data") and not lines[-1].endswith((b"\r", b"\n")):
            return False
        data = b"".join(said).strip() or rest
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data.strip() in (b"", b"[DONE]")
    return isinstance(value, bool) or not isinstance(value, int | float)


# --- damage -----------------------------------------------------------------------------------------------------

TOKENS = (b'"usage"', b'"error"', b'"type"', b'"choices"', b"null", b"true", b"{", b"[", b'"', b"data", b"event", b":")
TOKENS += (
    b"[DONE]",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\xef\xbb\xbf",
    b"\0",
    b"\xff",
    b"-1",
    b"1e999",
    b"9" * 30,
)
Damage = Callable[[bytearray, Random, list[Sample]], None]


def damaged(body: bytes, chance: Random, samples: list[Sample], dialect: Dialect) -> bytes:
    """The body after a few accidents."""
    if dialect.framing is MESSAGES and chance.random() < 0.5:
        return _reframed(body, chance)
    data = bytearray(body)
    for _ in range(chance.choice((1, 1, 3, 20))):
        chance.choice(DAMAGES)(data, chance, samples)
    return bytes(data)


def _flip(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    for _ in range(chance.randint(1, 20) if data else 0):
        data[chance.randrange(len(data))] = chance.randrange(256)


def _insert(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = chance.choice((chance.choice(TOKENS), chance.randbytes(chance.randint(1, 40))))


def _drop(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    at = chance.randint(0, len(data))
    del data[at : at + chance.choice((1, 2, 10, 500))]


def _repeat(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    begin = chance.randint(0, len(data))
    data[begin:begin] = data[begin : begin + chance.choice((1, 2, 60, 900))]


def _splice(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    other = chance.choice(samples).body
    begin, at = chance.randrange(len(other)), chance.randint(0, len(data))
    data[at:at] = other[begin : begin + chance.choice((20, 600, 3000))]


def _exchange(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    token, other = chance.sample(TOKENS, 2)
    at = data.find(token, chance.randint(0, len(data)))
    if at >= 0:
        data[at : at + len(token)] = other


def _end_lines(data: bytearray, chance: Random, samples: list[Sample]) -> None:
    data[:] = data.replace(b"\r\n", b"\n").replace(b"\n", chance.choice((b"\r", b"\r\n", b"\n")))


DAMAGES: tuple[Damage, ...] = (_flip, _insert, _drop, _repeat, _splice, _exchange, _end_lines)


def _reframed(body: bytes, chance: Random) -> bytes:
    """Lines, or whatever there is, as messages with right lengths and checksums and strange headers."""
    splitter = (LINES if chance.random() < 0.5 else MESSAGES).splitter
    blocks = splitter().feed(body) if splitter else []
    names = (":message-type", ":event-type", ":exception-type", ":error-code", "x")
    values = ("event", "exception", "error", "metadata", "messageStop", "chunk", "", "\0")
    out = []
    for block in blocks:
        headers = {name: chance.choice(values) for name in names if chance.random() < 0.7}
        message = bytearray(message_of(headers, block[: chance.randrange(400)]))
        if chance.random() < 0.3 and len(message) > 13:
            message[chance.randrange(12, len(message))] = chance.randrange(256)
        out.append(bytes(message))
    return b"".join(out)


def _difference(before: bytes, after: bytes) -> int:
    """Roughly: of bytes that stayed in place, how many are others, and how many more or fewer there are."""
    changed = sum(one != other for one, other in zip(before, after, strict=False)) if len(before) < 20_000 else 1
    return max(1, min(changed, 1000)) + abs(len(before) - len(after))
