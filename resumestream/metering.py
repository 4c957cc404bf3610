"""What provider calls took, and how much was given without one: sums over a store's ledger."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from .model import Attempt, Entry
from .ports import LogStore
from .usage import Usage

PAGE = 1000
"""Entries that are read at a time."""
GROUPS = 1000
"""Groups that are told one by one, the largest. Callers make labels up, so there may be any number."""
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

    def __iadd__(self, more: Tokens) -> Self:
        for name, count in asdict(more).items():
            setattr(self, name, getattr(self, name) + count)
        return self


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

    def __iadd__(self, more: Calls) -> Self:
        self.calls += more.calls
        self.tokens += more.tokens
        self.calls_without_usage += more.calls_without_usage
        return self


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
    """An estimate: each attach and replay as a call of its own that takes what the stream's last call took."""

    def add(self, entry: Entry) -> None:
        attempt, tally = entry.attempt, entry.tally
        self.add_call(attempt)
        self.attaches += tally.attaches
        self.replays += tally.replays
        if asked := tally.attaches + tally.replays:
            self.plain_retries.add(attempt.usage, asked)

    def add_call(self, attempt: Attempt) -> None:
        self.made.add(attempt.usage)
        self.outcomes[attempt.outcome or "unknown"] += 1
        self.payload_bytes += attempt.bytes

    def __iadd__(self, more: Sums) -> Self:
        self.made += more.made
        self.outcomes += more.outcomes
        self.payload_bytes += more.payload_bytes
        self.attaches += more.attaches
        self.replays += more.replays
        self.plain_retries += more.plain_retries
        return self

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
    """Adds entries up, in memory for a number of groups, however many there are."""

    def __init__(self, by: By) -> None:
        self._by = by
        self._total, self._others = Sums(), Sums()
        self._groups = defaultdict[str, Sums](Sums)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            for sums in (self._total, *(self._groups[name] for name in self._names(entry))):
                sums.add(entry)
            if len(self._groups) > 2 * GROUPS:
                self._fold()

    def finish(self) -> dict[str, Any]:
        """As JSON; to be asked once, when all was added."""
        self._fold()
        groups = [{self._by.value: name, **sums.described()} for name, sums in self._groups.items()]
        return {"groups": groups, "others": self._others.described(), "total": self._total.described()}

    def _fold(self) -> None:
        """Keep the largest groups, the most tokens first."""
        ranked = sorted(self._groups.items(), key=lambda item: (-item[1].made.tokens.total, item[0]))
        self._groups = defaultdict(Sums, ranked[:GROUPS])
        for _, sums in ranked[GROUPS:]:
            self._others += sums

    def _names(self, entry: Entry) -> set[str]:
        match self._by:
            case By.MODEL:
                return {entry.attempt.model}
            case By.LABEL:
                return set(entry.labels) or {""}
            case By.PRINCIPAL:
                return {entry.principal}


async def metered(store: LogStore, by: By, *, since: float = 0.0, principal: str | None = None) -> dict[str, Any]:
    """The sums as JSON: of the calls that ended at `since` (store clock) or later, and of what was given from them; of
    `principal`, or of all."""
    meter, page = Meter(by), list[Entry]()
    while page := await store.ledger(principal=principal, since=since, after=page[-1] if page else None, limit=PAGE):
        meter.add(page)
    return {"by": by, **meter.finish()}
