"""The pages people read, as their code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.glob("**/*.md")])
GUIDES = [README, *(page for page in PAGES if DOCS in page.parents and page.parent.name not in ("adr", "spec"))]
"""What is read by who wants to do something: its code runs."""

NO_RUN = "no-run"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_SCRIPTED = re.compile(r"^<!-- scripted: (\{.*\}) -->$", re.MULTILINE)
_SHELL = ("sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text, counted from 1."""
    language: str
    note: str
    """What follows the language in the info string."""
    text: str
    scripts: tuple[str, ...]
    """JSON of scripts for the provider's next calls, from comments between the block before and this one."""

    @property
    def runs(self) -> bool:
        return not self.note.startswith(NO_RUN)

    def __str__(self) -> str:
        return f"{named(self.page)}:{self.line}"


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, those in these languages where any are named."""
    return [block for block in _blocks(page, text(page)) if not languages or block.language in languages]


def _blocks(page: Path, content: str) -> Iterator[Block]:
    before = 0
    for found in _FENCE.finditer(content):
        language, _, note = found["info"].strip().partition(" ")
        inner = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        line = content.count("\n", 0, found.start("text")) + 1
        scripts = tuple(_SCRIPTED.findall(content[before : found.start()]))
        yield Block(page, line, language, note.strip(), inner, scripts)
        before = found.end()


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text(page))


def shell(page: Path) -> str:
    """What a page tells people to type, without comments."""
    return re.sub(r"(?m)(^|\s)#.*$", "", "\n".join(block.text for block in blocks(page, *_SHELL)))


def commands(page: Path) -> list[list[str]]:
    """The same, a list of words for each command, without environment and redirections."""
    lines = shell(page).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for one in re.split(r"&&|\|\||[;|]", line.removeprefix("$ ")):
            words = shlex.split(one.rstrip(" &"))
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            found.append(words)
    return [words for words in found if words]
