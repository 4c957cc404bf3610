"""A small set of the rounds that `nox -s fuzz` plays for minutes, and that they find what is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resumestream.dialects import DIALECTS
from resumestream.framing import LINES, SSE, LineSplitter, Splitter
from resumestream.ports import Mark, Scanner

from .fuzz.rounds import FIXTURES, Sample, Tally, corpus, play

SAMPLES = corpus(FIXTURES)
SMALL = [sample for sample in SAMPLES if len(sample.body) < 12_000]


@pytest.mark.parametrize("block", range(8))
def test_rounds_of_known_seeds(block: int) -> None:
    """Every cut and every accident of these seeds."""
    total = Tally()
    for number in range(25):
        total.add(play(f"normal.{block}.{number}", SMALL))
    assert total.rounds == 25
    assert total.cuts > 1000
    assert total.damage > 100


def test_every_dialect_has_something_to_play() -> None:
    """Each is met in its own transcripts."""
    assert {sample.dialect.name for sample in SAMPLES} == DIALECTS.keys()


class Losing(Splitter):
    """Forgets a byte now and then."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data.replace(b"v", b"", 1))


class Impatient(Splitter):
    """Takes the end of a piece for the end of a block."""

    def feed(self, data: bytes) -> list[bytes]:
        blocks = super().feed(data)
        rest, self._buffer = bytes(self._buffer), bytearray()
        return [*blocks, rest] if rest else blocks


class Reordering(LineSplitter):
    """Gives what came at once the wrong way round."""

    def feed(self, data: bytes) -> list[bytes]:
        return super().feed(data)[::-1]


class Crlf(LineSplitter):
    """Changes line ends."""

    def feed(self, data: bytes) -> list[bytes]:
        return [line.replace(b"\n", b"\r\n") for line in super().feed(data)]


class Strict:
    """A scanner that believes in providers."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner

    def __getattr__(self, name: str) -> object:
        return getattr(self._scanner, name)

    def scan(self, block: bytes) -> Mark:
        block.decode()
        return self._scanner.scan(block)


def broken(sample: Sample, fault: type) -> Sample:
    """The same transcript in a dialect with that fault."""
    dialect = type(sample.dialect)()
    if issubclass(fault, Strict):
        made = dialect.scanner
        dialect.scanner = lambda: fault(made())  # type: ignore[method-assign]
    else:
        dialect.framing = replace(dialect.framing, splitter=fault)
    return replace(sample, dialect=dialect)


@pytest.mark.parametrize("fault", [Losing, Impatient, Reordering, Crlf, Strict])
def test_a_fault_is_found(fault: type) -> None:
    """Within the seeds of a few seconds."""
    framing = LINES if issubclass(fault, LineSplitter) else SSE
    samples = [broken(sample, fault) for sample in SMALL if sample.dialect.framing is framing]
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        play_many(samples)


def test_half_an_event_taken_for_the_whole_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was when the name of an event was enough to believe in it."""
    monkeypatch.setattr("resumestream.reading.is_whole", lambda data: True)
    with pytest.raises(AssertionError, match="taken for the whole"):
        play_many(SMALL)


def play_many(samples: list[Sample]) -> None:
    for number in range(300):
        play(f"fault.{number}", samples)
