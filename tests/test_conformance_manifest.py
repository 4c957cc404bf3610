"""The specification and the suite name the same requirements, both ways."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from resumestream.conformance.levels import LEVELS, level_of
from resumestream.conformance.limits import LIMITS, unmet
from resumestream.conformance.registry import CHECKS, EXEMPT, check, exempt, load

load()
SPEC = Path(__file__).parents[1] / "docs/spec/index.md"
DEFINED = re.findall(r"^ *- \*\*(RS-[A-Z]+-[0-9]{2})\*\*", SPEC.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_requirement_is_checked_or_says_why_not() -> None:
    assert sorted(DEFINED) == sorted([*CHECKS, *EXEMPT])
    assert [identifier for identifier, count in Counter(DEFINED).items() if count > 1] == []


def test_there_are_enough_of_them() -> None:
    assert len(DEFINED) >= 120
    assert len(EXEMPT) < len(CHECKS) / 4


def test_every_area_belongs_to_one_level_and_has_requirements() -> None:
    areas = [area for areas in LEVELS.values() for area in areas]
    assert len(areas) == len(set(areas))
    assert {identifier.split("-")[1] for identifier in DEFINED} == set(areas)


def test_checks_need_limits_that_there_are() -> None:
    assert {name for check in CHECKS.values() for name in check.needs} <= LIMITS.keys()


def test_an_exemption_is_a_sentence() -> None:
    assert [why for why in EXEMPT.values() if not re.fullmatch(r"[A-Z].{20,}\.", why)] == []


@pytest.mark.parametrize("identifier", ["RS-READ-3", "READ-03", "RS-NONE-01", next(iter(CHECKS))])
def test_an_id_that_is_none_or_is_taken_is_refused(identifier: str) -> None:
    def checked(ctx: object) -> None:
        """What it does."""

    with pytest.raises(ValueError, match=identifier):
        check(identifier)(checked)
    with pytest.raises(ValueError, match=identifier):
        exempt(identifier, "It cannot be.")


def test_a_check_without_a_sentence_is_refused() -> None:
    with pytest.raises(ValueError, match="no docstring"):
        check("RS-READ-99")(lambda ctx: None)


def test_a_level_of_every_id() -> None:
    assert {level_of(identifier) for identifier in CHECKS} == set(LEVELS)


@pytest.mark.parametrize(
    ("declared", "why"),
    [({}, "not declared"), ({"stall_s": 300.0}, "more than a run can reach"), ({"stall_s": 2.0}, "")],
)
def test_a_limit_that_nobody_can_wait_for_is_not_checked(declared: dict[str, float], why: str) -> None:
    assert why in unmet(("stall_s",), declared)
    assert bool(why) is bool(unmet(("stall_s",), declared))
