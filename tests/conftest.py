"""Every test with a loop runs on asyncio and on trio, and where all is installed nothing is skipped unnoticed."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

REQUIRE_ALL = os.environ.get("RESUMESTREAM_REQUIRE_ALL") == "1"
"""Set by nox and so by the CI: a skip is a failure, unless its reason begins with a key of MAY_SKIP."""

MAY_SKIP = {
    "a tiny tmpfs": "only root may mount one; RLIMIT_FSIZE is always there",
    "shared recordings": "recorded answers of real providers lie beside some checkouts only; fixtures/ is always there",
}

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes is the machine's affair; Hypothesis's own profile for a CI says the same."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The loop under the test."""
    return str(request.param)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (REQUIRE_ALL and report.skipped) or hasattr(report, "wasxfail"):
        return
    reason = (report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)).removeprefix(
        "Skipped: "
    )
    if not reason.startswith(tuple(MAY_SKIP)):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason} (exceptions are in tests/conftest.py)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that some test left behind must not keep the run from ending."""
    faulthandler.dump_traceback_later(float(config.getini("faulthandler_timeout")), exit=True, file=2)
