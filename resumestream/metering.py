"""What provider calls took, and how much was given without one: sums over a store's ledger."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .model import Attempt, Entry, StreamId, Tally
from .ports import LogStore
from .usage import Usage

PAGE = 1000
"""Entries that are read at a time."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


class By(StrEnum):
    """What is summed up together."""

    MODEL = "model"
    LABEL = "label"
    """A call counts under each of its labels, so that the groups come to more than the total."""
    PRINCIPAL = "principal"


def duration_s(text: str) -> float:
    """`90s`, `15m`, `24h`, `7d` or `2w`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!a} is no duration; write 90s, 15m, 24h, 7d or 2w")
    return float(match[1]) * _UNITS_S[match[2]]


@dataclass(slots=True)
class Tokens:
    """As in Usage, added up."""

    input: int = 0
    output: int = 0
    total: int = 0
    cached_input: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Calls:
    """A number of provider calls, made or avoided."""

    calls: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    calls_without_usage: int = 0
    """The provider told nothing, so they are missing from `tokens`."""

    def add(self, usage: Usage | None, times: int = 1) -> None:
        self.calls += times
        if usage is None:
            self.calls_without_usage += times
            return
        tokens = self.tokens
        tokens.input += times * (usage.input_tokens or 0)
        tokens.output += times * (usage.output_tokens or 0)
        tokens.total += times * (usage.total_tokens or 0)
        tokens.cached_input += times * (usage.cached_input_tokens or 0)
        tokens.reasoning += times * (usage.reasoning_tokens or 0)


@dataclass(slots=True)
class Sums:
    """Of one group, or of all."""

    made: Calls = field(default_factory=Calls)
    outcomes: Counter[str] = field(default_factory=Counter)
    """How the calls ended."""
    payload_bytes: int = 0
    attaches: int = 0
    replays: int = 0
    plain_retries: Calls = field(default_factory=Calls)
    """An estimate: each attach and replay as a call of its own that takes what the stream's own call took."""

    def add_call(self, attempt: Attempt) -> None:
        self.made.add(attempt.usage)
        self.outcomes[attempt.outcome or "unknown"] += 1
        self.payload_bytes += attempt.bytes

    def add_avoided(self, tally: Tally, usage: Usage | None) -> None:
        self.attaches += tally.attaches
        self.replays += tally.replays
        self.plain_retries.add(usage, tally.attaches + tally.replays)

    def described(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **asdict(self.made),
            "outcomes": dict(sorted(self.outcomes.items())),
            "bytes": self.payload_bytes,
            "attaches": self.attaches,
            "replays": self.replays,
            "plain_retries": {"estimate": True, **asdict(self.plain_retries)},
        }


class Meter:
    """Adds entries up; of one `principal` alone, where one is given."""

    def __init__(self, by: By, principal: str | None = None) -> None:
        self._by, self._principal = by, principal
        self._total, self._groups = Sums(), defaultdict[str, Sums](Sums)
        self._answering: dict[StreamId, Entry] = {}
        """Of each stream that was asked for again, the call whose answer was given."""

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if self._principal in (None, entry.principal):
                for sums in self._of(entry):
                    sums.add_call(entry.attempt)
                if entry.tally != Tally():
                    known = self._answering.get(entry.stream)
                    self._answering[entry.stream] = max(known, entry, key=_answers) if known else entry

    def finish(self) -> tuple[Sums, dict[str, Sums]]:
        """The total, and the groups by name, the most tokens first; to be asked once, when all was added."""
        for entry in self._answering.values():
            for sums in self._of(entry):
                sums.add_avoided(entry.tally, entry.attempt.usage)
        groups = sorted(self._groups.items(), key=lambda item: (-item[1].made.tokens.total, item[0]))
        return self._total, dict(groups)

    def _of(self, entry: Entry) -> list[Sums]:
        """The sums it counts in."""
        match self._by:
            case By.MODEL:
                names = {entry.attempt.model}
            case By.LABEL:
                names = set(entry.labels) or {""}
            case By.PRINCIPAL:
                names = {entry.principal}
        return [self._total, *(self._groups[name] for name in names)]


def _answers(entry: Entry) -> tuple[bool, int]:
    """Readers get the last call that brought anything."""
    return entry.attempt.bytes > 0, entry.number


async def metered(store: LogStore, by: By, *, since: float = 0.0, principal: str | None = None) -> dict[str, Any]:
    """The sums as JSON: of the calls that ended at `since` (store clock) or later, and of what was given from them."""
    meter, page = Meter(by, principal), list[Entry]()
    while page := await store.ledger(since=since, after=page[-1] if page else None, limit=PAGE):
        meter.add(page)
    total, groups = meter.finish()
    return {
        "by": by,
        "groups": [{by.value: name, **sums.described()} for name, sums in groups.items()],
        "total": total.described(),
    }
