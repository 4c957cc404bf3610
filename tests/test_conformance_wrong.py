"""The suite can fail: each server that is wrong on purpose is caught, by a check that holds on the right one."""

from __future__ import annotations

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from resumestream.conformance.context import Setting
from resumestream.conformance.exchange import Address
from resumestream.conformance.levels import LEVELS, level_of
from resumestream.conformance.registry import CHECKS, load
from resumestream.conformance.suite import run
from resumestream.testing.provider import ScriptedProvider
from resumestream.testing.running import running

from .conformance.reference import ALL, LIMITS, setting
from .conformance.wrong import WRONG

load()
DEADLINE_S = 3.0
"""For a check of a wrong server: what waits for ever has failed."""
CRASHED = ("the check itself broke", "Internal Server Error", "problem:internal")
"""What a failure says that shows a defect of the check, or of how the server was made wrong, and not what is wrong."""
UNBROKEN = {"DEATH"}
"""Areas that a fault within one process does not show in."""


@pytest.fixture(scope="module")
def held() -> set[str]:
    """Which of the ids hold on the right server."""
    wanted = sorted({identifier for wrong in WRONG.values() for identifier in wrong.ids} & CHECKS.keys())
    with setting() as made:
        return {result.id for result in run(made, wanted, ALL, jobs=8) if result.verdict == "passed"}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_caught(name: str, held: set[str]) -> None:
    wrong = WRONG[name]
    assert set(wrong.ids) <= held
    with wrong.inside(), setting(around=wrong.around, deadline_s=DEADLINE_S) as made:
        results = run(made, wrong.ids, ALL, jobs=len(wrong.ids))
    assert [result.id for result in results if result.verdict == "failed"], results
    assert not [result for result in results if any(words in result.said for words in CRASHED)], results


HOLDS_FOR_NOTHING = {
    "RS-GW-23": "httptools refuses it, which uvicorn takes where it is installed",
}
"""Requirement → why even a server that does nothing may keep it."""


def test_a_server_that_does_nothing_keeps_nothing() -> None:
    """A check that it passes looks at nothing."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Response(status_code=200, headers={"stream-id": "x"})(scope, receive, send)

    limits = dict.fromkeys(LIMITS, 0.1)
    with ScriptedProvider() as provider, running(app, lifespan=False) as url:
        made = Setting(
            address=Address.parse(url), provider=provider, upstream_url=provider.url, limits=limits, deadline_s=1
        )
        results = run(made, list(CHECKS), ALL, jobs=32)
    assert {result.id for result in results if result.verdict == "passed"} <= HOLDS_FOR_NOTHING.keys()


def test_they_are_many_and_of_all_kinds() -> None:
    caught_by = {identifier for wrong in WRONG.values() for identifier in wrong.ids}
    assert len(WRONG) >= 22
    assert caught_by <= CHECKS.keys()
    assert {level_of(identifier) for identifier in caught_by} == set(LEVELS)
    areas = {area for areas in LEVELS.values() for area in areas}
    assert areas - {CHECKS[identifier].area for identifier in caught_by} == UNBROKEN
