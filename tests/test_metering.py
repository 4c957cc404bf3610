"""Sums over the ledger: what counts where, and that nothing counts twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resumestream import metering
from resumestream.metering import PAGE, By, Meter, duration_s, metered
from resumestream.model import Attempt, Entry, Head, NewStream, Outcome, Seal, StreamId, Tally
from resumestream.stores import MemoryStore
from resumestream.usage import Usage

TOKENS = Usage("{}", input_tokens=10, output_tokens=5, total_tokens=15, cached_input_tokens=4, reasoning_tokens=2)
SAID = {"input": 10, "output": 5, "total": 15, "cached_input": 4, "reasoning": 2}
NOTHING = dict.fromkeys(SAID, 0)


def call(number: int = 1, *, of: str = "s", tally: Tally = Tally(), **more: Any) -> Entry:  # noqa: B008
    given = {"status": 200, "ended_at": 2.0, "bytes": 7, "outcome": Outcome.COMPLETED, "usage": TOKENS, "model": "m"}
    return Entry(StreamId(of), number, "ann", ("a",), Attempt("u", 1.0, **{**given, **more}), tally)


def summed(*entries: Entry, by: By = By.MODEL) -> tuple[dict[str, Any], dict[str, Any]]:
    meter = Meter(by)
    for entry in entries:
        meter.add([entry])
    told = meter.finish()
    assert told["others"]["calls"] == 0
    return told["total"], {group.pop(by.value): group for group in told["groups"]}


def times(count: int) -> dict[str, int]:
    return {name: count * value for name, value in SAID.items()}


def test_a_call_is_its_tokens() -> None:
    """Once, under its model and in the total; nobody asked again, so nothing was avoided."""
    total, groups = summed(call())
    assert groups == {"m": total}
    assert total == {
        "calls": 1,
        "tokens": SAID,
        "calls_without_usage": 0,
        "outcomes": {"completed": 1},
        "bytes": 7,
        "attaches": 0,
        "replays": 0,
        "plain_retries": {"estimate": True, "calls": 0, "tokens": NOTHING, "calls_without_usage": 0},
    }


def test_replays_never_count_as_usage() -> None:
    """However often a stream is asked for, its call took what it took; what was avoided stands beside it."""
    quiet, _ = summed(call())
    asked, _ = summed(call(tally=Tally(attaches=2, replays=3)))
    assert (asked["attaches"], asked["replays"]) == (2, 3)
    assert asked["plain_retries"] == {"estimate": True, "calls": 5, "tokens": times(5), "calls_without_usage": 0}
    of_calls = ("calls", "tokens", "calls_without_usage", "outcomes", "bytes")
    assert [asked[name] for name in of_calls] == [quiet[name] for name in of_calls]


def test_a_stream_of_several_calls_is_asked_for_once() -> None:
    """Each call was paid for; whoever attaches gets, and would have paid for, the last."""
    calls = [
        call(1, model="first", usage=replace(TOKENS, total_tokens=100), outcome=Outcome.TRUNCATED),
        call(2, model="second", tally=Tally(attaches=1, replays=1)),
    ]
    total, groups = summed(*calls)
    assert (total["calls"], total["tokens"]["total"], total["outcomes"]) == (2, 115, {"completed": 1, "truncated": 1})
    assert (total["attaches"], total["replays"], total["plain_retries"]["tokens"]["total"]) == (1, 1, 30)
    assert {name: sums["attaches"] for name, sums in groups.items()} == {"first": 0, "second": 1}
    assert list(groups) == ["first", "second"]


def test_of_ever_so_many_groups_the_largest_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers make labels up. What is told of the rest is their sum, and never is more kept than twice as many."""
    monkeypatch.setattr(metering, "GROUPS", 10)
    meter = Meter(By.LABEL)
    for number in range(100):
        usage = replace(TOKENS, total_tokens=number)
        meter.add([replace(call(of=f"s{number}", usage=usage, tally=Tally(1, 1)), labels=(f"turn-{number}",))])
        assert len(meter._groups) <= 20
    told = meter.finish()
    assert [group["label"] for group in told["groups"]] == [f"turn-{number}" for number in range(99, 89, -1)]
    for name in ("calls", "bytes", "attaches", "replays"):
        assert told["others"][name] + sum(group[name] for group in told["groups"]) == told["total"][name]
    assert told["others"]["tokens"]["total"] == sum(range(90))
    assert told["others"]["plain_retries"]["tokens"]["total"] == 2 * sum(range(90))
    assert told["others"]["outcomes"] == {"completed": 90}


def test_what_told_no_usage_is_said() -> None:
    """Its tokens are unknown, not none, for the call and for the estimate."""
    total, _ = summed(call(usage=None, tally=Tally(replays=2)), call(of="t"))
    assert (total["calls"], total["calls_without_usage"], total["tokens"]) == (2, 1, SAID)
    assert total["plain_retries"] == {"estimate": True, "calls": 2, "tokens": NOTHING, "calls_without_usage": 2}


def test_labels_overlap() -> None:
    """A call counts once under each of its labels, and once in the total; one without any has a group of its own."""
    two = replace(call(tally=Tally(replays=1)), labels=("a", "b", "a"))
    total, groups = summed(two, replace(call(of="t"), labels=()), by=By.LABEL)
    assert {name: (sums["calls"], sums["replays"]) for name, sums in groups.items()} == {
        "a": (1, 1),
        "b": (1, 1),
        "": (1, 0),
    }
    assert (total["calls"], total["replays"]) == (2, 1)


def test_principals_are_apart() -> None:
    """Each has its group."""
    entries = call(), replace(call(of="t", tally=Tally(1, 1)), principal="bob")
    total, groups = summed(*entries, by=By.PRINCIPAL)
    assert ({name: sums["attaches"] for name, sums in groups.items()}, total["calls"]) == ({"ann": 0, "bob": 1}, 2)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    """A number and a unit."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "1h ", "1 h", "1y", "١h", "9999999999s", "2026-01-01"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused, in words that say what would do."""
    with pytest.raises(ValueError, match="write 90s"):
        duration_s(text)


@pytest.mark.anyio
async def test_a_ledger_of_many_pages_is_summed_up() -> None:
    """Each call once, however many there are, and only what ended since."""
    now = 100.0
    async with MemoryStore(clock=lambda: now) as store:

        async def ended(name: str, calls: int) -> None:
            lease = await store.create(NewStream(StreamId(name), "p", "u", "w", now, 60.0, 60.0))
            failed = [Attempt("u", now, 500, ended_at=now)] * calls
            await store.begin(lease, Attempt("u", now, 200), Head(200), after=failed)
            await store.seal(lease, Seal(Outcome.COMPLETED, "end", "It ended.", usage=TOKENS, model="m"))

        await ended("a", PAGE)
        now = 200.0
        await ended("b", PAGE)
        await store.tally({StreamId("a"): Tally(1, 0), StreamId("b"): Tally(0, 2)})
        every = (await metered(store, By.MODEL))["total"]
        late = (await metered(store, By.MODEL, since=150.0))["total"]
    assert (every["calls"], every["tokens"], every["attaches"], every["replays"]) == (2 * PAGE + 2, times(2), 1, 2)
    assert (late["calls"], late["tokens"], late["attaches"], late["replays"]) == (PAGE + 1, SAID, 0, 2)
