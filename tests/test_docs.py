"""The docs tell the truth: what is drawn is current, links lead somewhere, commands exist, examples parse."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from resumestream.lifecycle import ENDINGS
from resumestream.model import Outcome, State

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
ADRS = sorted(REPOSITORY.glob("docs/adr/[0-9]*.md"))
INSTALL = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/resumestream demo"
CHECK = ".venv/bin/pip install nox && .venv/bin/nox"


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced code blocks of a page in one of these languages."""
    fences = re.findall(r"^```([\w-]*)[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in fences if language in languages]


def shell(page: Path) -> str:
    """What a page tells people to type, without comments."""
    return re.sub(r"(?m)(^|\s)#.*$", "", "\n".join(blocks(page, "sh", "bash", "shell", "console")))


def load_diagrams() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagrams", REPOSITORY / "docs" / "diagrams.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


diagrams = load_diagrams()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_drawn_is_current(page: Path) -> None:
    """Every drawn part equals what the code draws today; `nox -s docs` draws it."""
    text = page.read_text(encoding="utf-8")
    assert diagrams.redrawn(text) == text


def test_everything_that_can_be_drawn_is_on_a_page() -> None:
    """Nothing is drawn for nobody, and no page asks for what is not there."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"<!-- drawn: (\S+) -->", text)) == set(diagrams.DRAWN)


def test_drawing_notices_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another table makes another picture."""
    page = (REPOSITORY / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    moves = diagrams.TRANSITIONS[State.SEALED]
    monkeypatch.setitem(diagrams.TRANSITIONS, State.SEALED, moves | dict.fromkeys(ENDINGS, State.SEALED))
    assert "sealed --> sealed: any ending" in diagrams.redrawn(page)


def test_every_state_and_outcome_is_explained() -> None:
    """The lifecycle page has a line for each."""
    page = (REPOSITORY / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    assert [state for state in State if f"- **{state}**: " not in page] == []
    assert [outcome for outcome in Outcome if f"| `{outcome}` | " not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_decisions_are_numbered_and_linked() -> None:
    """ADRs count up from 1 without a gap, and the index names each by its title."""
    assert [int(adr.name[:4]) for adr in ADRS] == list(range(1, len(ADRS) + 1))
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page: Path) -> None:
    """Every nox session that a page names, and every subcommand in its shell blocks, is there."""
    noxfile = ast.parse((REPOSITORY / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert set(re.findall(r"nox -s (\w+)", page.read_text(encoding="utf-8"))) <= sessions
    for command in sorted(set(re.findall(r"\bresumestream ([a-z]+)\b", shell(page)))):
        helped = [sys.executable, "-c", "from resumestream.cli import main; main()", command, "--help"]
        assert subprocess.run(helped, capture_output=True, timeout=30).returncode == 0, command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_examples_are_possible(page: Path) -> None:
    """Every Python block parses, and every name that it imports from the package is there."""
    for block in blocks(page, "python", "py"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resumestream"):
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_changelog_awaits_the_next_release() -> None:
    """There is an Unreleased section for the next change."""
    assert "\n## [Unreleased]\n" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
