"""Every interleaving of a beating owner and an observing taker, each frozen for a while, a ninth of a lease a step.

An owner that was never frozen for more than half a lease is not fenced; a machine that was paused as a whole fences
nobody; nobody is fenced whose counter has moved; and a dead owner is taken over in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Protocol

import pytest

from resumestream.stores.peers.lease import LeaseWatch

LEASE, STEP = 9, 3
NEVER = (99, 0)
Freeze = tuple[int, int]
"""Start, length."""


class Rule(Protocol):
    def observe(self, counter: int, now: float, lease_s: float) -> None: ...

    def expired(self, counter: int) -> bool: ...


def takeover(
    rule: Rule, owner: Freeze, taker: Freeze, delay: int = 0, *, beat_last: bool = False
) -> tuple[int, bool] | None:
    """When the owner was taken over, and whether its counter had moved since the taker decided to."""
    counter, decided = 0, None

    def runs(at: int, freeze: Freeze) -> bool:
        return not freeze[0] <= at < freeze[0] + freeze[1]

    for at in range(60):
        if beat_last and runs(at, owner) and at % STEP == 0:
            counter += 1
        if runs(at, taker) and decided and at >= decided[0]:
            if rule.expired(counter):
                return at, counter != decided[1]
            decided = None
        if not beat_last and runs(at, owner) and at % STEP == 0:
            counter += 1
        if runs(at, taker) and decided is None and at % STEP == 1:
            rule.observe(counter, at, LEASE)
            if rule.expired(counter):
                decided = at + delay, counter
    return None


def healthy(make: Callable[[], Rule]) -> Iterator[object]:
    """An owner frozen for less than half a lease, whatever happened to the taker."""
    for start, length, taker, delay, last in product(
        range(30), (0, 4), product(range(30), (0, 4, 12, 20)), (0, 1, 5, 14), (False, True)
    ):
        if found := takeover(make(), (start, length), taker, delay, beat_last=last):
            yield (start, length), taker, delay, found


def paused_together(make: Callable[[], Rule]) -> Iterator[object]:
    """The whole machine, and the owner thaws a little later."""
    for start, length, later, last in product(range(30), (12, 20), (0, 1, 2), (False, True)):
        if found := takeover(make(), (start, length + later), (start, length), beat_last=last):
            yield start, length, later, found


def thawed_in_time(make: Callable[[], Rule]) -> Iterator[object]:
    """An owner frozen for about a lease goes on while the taker is between decision and deed."""
    for start, length, delay, last in product(range(30), (9, 10, 11), (0, 1, 2, 5), (False, True)):
        if (found := takeover(make(), (start, length), NEVER, delay, beat_last=last)) and found[1]:
            yield start, length, delay, found


SWEEPS = (healthy, paused_together, thawed_in_time)


@pytest.mark.parametrize("sweep", SWEEPS)
def test_nobody_is_fenced_who_may_not_be(sweep: Callable[[Callable[[], Rule]], Iterator[object]]) -> None:
    assert list(sweep(LeaseWatch)) == []


def test_a_dead_owner_is_taken_over_in_time() -> None:
    """Within 4/3 of the lease after its last beat, and not before the lease is over."""
    for start in range(30):
        found = takeover(LeaseWatch(), (start, 99), NEVER)
        last_beat = max((at for at in range(start) if at % STEP == 0), default=0)
        assert found
        assert LEASE <= found[0] - last_beat <= LEASE * 4 / 3


class ThreeObservations(LeaseWatch):
    def observe(self, counter: int, now: float, lease_s: float) -> None:
        super().observe(counter, now, lease_s)
        self._silent = self._equal >= 3


class ElapsedTime(LeaseWatch):
    """Does not start over when the taker itself was away."""

    def observe(self, counter: int, now: float, lease_s: float) -> None:
        if counter != self._counter:
            self._counter, self._since = counter, now
        self._silent = now - self._since >= lease_s


class NoReread(LeaseWatch):
    def expired(self, counter: int) -> bool:
        return self._silent


@pytest.mark.parametrize(
    ("wrong", "sweep"),
    [(ThreeObservations, healthy), (ElapsedTime, paused_together), (NoReread, thawed_in_time)],
)
def test_the_sweeps_find_wrong_rules(
    wrong: type[LeaseWatch], sweep: Callable[[Callable[[], Rule]], Iterator[object]]
) -> None:
    assert next(sweep(wrong), None) is not None


def test_looking_more_often_takes_nothing_over_earlier() -> None:
    """The owner's lease is the longer one: equal looks count only once they span it."""
    watch = LeaseWatch()
    for at in range(90):
        watch.observe(1, at / 10, LEASE)
        assert watch.expired(1) == (at / 10 >= LEASE * 0.95)


def test_a_timer_that_rings_a_little_early_costs_no_further_look() -> None:
    watch = LeaseWatch()
    for at in (0.1, 3, 6, 9.05):
        assert not watch.expired(1)
        watch.observe(1, at, LEASE)
    assert watch.expired(1)
    assert not watch.expired(2)


def test_nothing_is_known_before_the_first_look() -> None:
    assert not LeaseWatch().expired(0)
    watch = LeaseWatch()
    watch.observe(1, -math.pi, LEASE)
    assert not watch.expired(1)
