"""Random schedules, one after the other: Hypothesis draws them, and makes what fails as small as it can be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .moves import MOVES, feasible
from .scenario import Verdict
from .schedule import BEGINNINGS, FAULTS, MOST_MOVES, SHARED, Schedule

SCHEDULES = st.builds(
    Schedule,
    st.sampled_from(list(SHARED.values())),
    st.sampled_from(BEGINNINGS),
    st.sampled_from(FAULTS),
    st.lists(st.sampled_from(MOVES), min_size=2, max_size=MOST_MOVES).map(feasible),
)


class _Failed(Exception):
    """The schedule did not hold."""


class _Over(BaseException):
    """The time is. No Exception, which Hypothesis would take for a failure of the schedule."""


def campaign(
    number: int,
    *,
    examples: int,
    within_s: float,
    perform: Callable[[str], Verdict],
) -> Verdict | None:
    """Draw schedules from seed `number`, so many, or for so long, until one does not hold; `perform` plays its text.
    The failing one's verdict, as small as it could be made in that time again; None: all held."""
    seen: dict[str, Verdict] = {}
    failing: dict[str, Schedule] = {}
    ends_s = time.monotonic() + within_s

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck(each) for each in HealthCheck],
    )
    @given(SCHEDULES)
    def each(schedule: Schedule) -> None:
        nonlocal ends_s
        name = str(schedule)
        if name not in seen:
            if time.monotonic() > ends_s:
                raise _Over
            seen[name] = perform(name)
            if not seen[name].held:
                if not failing:
                    ends_s = time.monotonic() + within_s
                failing[name] = schedule
        if name in failing:  # the same answer for the same schedule, or Hypothesis would call it flaky
            raise _Failed

    with contextlib.suppress(_Failed, _Over):
        each()
    smallest = min(failing, key=lambda name: (len(failing[name].moves), len(name)), default=None)
    return seen[smallest] if smallest else None
