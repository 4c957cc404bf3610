"""The docs tell the truth: what is drawn is current, links lead somewhere, decisions are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import diagrams, remedies
from resumestream.lifecycle import ENDINGS
from resumestream.model import Outcome, State

from .pages import DOCS, PAGES, README, REPOSITORY, named, shell, text

ADRS = sorted(REPOSITORY.glob("docs/adr/[0-9]*.md"))
INSTALL = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/resumestream demo"
CHECK = ".venv/bin/pip install nox && .venv/bin/nox"


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=named)
def test_what_is_drawn_is_current(page: Path) -> None:
    """Every drawn part equals what the code draws today; `nox -s docs` draws it."""
    assert diagrams.redrawn(text(page)) == text(page)


@pytest.mark.parametrize("name", diagrams.PICTURES)
def test_pictures_are_current(name: str) -> None:
    """So does every picture, and a page shows it."""
    assert (DOCS / name).read_text(encoding="utf-8") == diagrams.PICTURES[name]()
    assert any(re.search(rf"!\[[^\]]+\]\([^)]*{re.escape(name)}\)", text(page)) for page in PAGES)


def test_everything_that_can_be_drawn_is_on_a_page() -> None:
    """Nothing is drawn for nobody, and no page asks for what is not there."""
    wanted = {name for page in DOCS.glob("**/*.md") for name in re.findall(r"<!-- drawn: (\S+) -->", text(page))}
    assert wanted == set(diagrams.DRAWN)


def test_drawing_notices_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another table makes another picture."""
    moves = diagrams.TRANSITIONS[State.SEALED]
    before = diagrams.lifecycle_picture()
    monkeypatch.setitem(diagrams.TRANSITIONS, State.SEALED, moves | dict.fromkeys(ENDINGS, State.SEALED))
    assert diagrams.lifecycle_picture().count(">any ending<") == before.count(">any ending<") + 1
    assert diagrams.lifecycle_table() not in text(DOCS / "lifecycle.md")


def test_there_is_advice_for_every_problem() -> None:
    """And none for what is no problem."""
    assert set(remedies.ERRORS) == {kind.code for kind in diagrams.errors_of_ours()}
    assert set(remedies.OUTCOMES) == set(Outcome) - {Outcome.COMPLETED}


def test_every_state_and_outcome_is_explained() -> None:
    """The lifecycle page has a line for each."""
    page = text(DOCS / "lifecycle.md")
    assert [state for state in State if f"- **{state}**: " not in page] == []
    assert [outcome for outcome in Outcome if f"| `{outcome}` | " not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there, and in a page of ours a heading."""
    links = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", text(page))
    targets = [(page if not link else page.parent / link, anchor) for link, anchor in links]
    assert [target for target, _ in targets if not target.exists()] == []
    assert [anchor for target, anchor in targets if anchor and anchor not in anchors(target)] == []


def anchors(page: Path) -> set[str]:
    """What headings are linked by: small letters, without punctuation, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_decisions_are_numbered_and_linked() -> None:
    """ADRs count up from 1 without a gap, and the index names each by its title."""
    assert [int(adr.name[:4]) for adr in ADRS] == list(range(1, len(ADRS) + 1))
    index = text(DOCS / "index.md")
    titles = {adr.name: adr.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for adr in ADRS}
    assert [name for name, title in titles.items() if f"[{title}](adr/{name})" not in index] == []


@pytest.mark.parametrize("adr", ADRS, ids=named)
def test_decisions_have_their_parts(adr: Path) -> None:
    """Context, decision and consequences, in that order, under a title with the file's number."""
    text = adr.read_text(encoding="utf-8")
    assert text.startswith(f"# {adr.name[:4]}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_ci_runs_the_test_command_of_the_readme() -> None:
    """The README's two commands are the promised ones, and the CI runs the second as a newcomer would."""
    assert INSTALL in shell(README)
    assert CHECK in shell(README)
    assert CHECK in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")


def test_the_changelog_awaits_the_next_release() -> None:
    """There is an Unreleased section for the next change."""
    assert "\n## [Unreleased]\n" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
