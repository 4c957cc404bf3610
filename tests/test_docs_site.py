"""The site's own extensions, on a site of three pages. `nox -s docs` builds the real one, without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import REPOSITORY

DEADLINE_S = 60
CONF = """
import sys
sys.path.insert(0, {repository!r})
extensions = ["myst_parser", "docs.contents", "docs.requirements"]
html_theme = "basic"
"""
INDEX = """
# Front

## Guide

- [A page](guide/page.md): what it is.

## Specification

- [The rules](spec/index.md)
"""
SPEC = """
# Rules

- **RS-READ-01** A server MUST answer.
- **RS-READ-02** As RS-READ-01, and again.
"""


def built(folder: Path, page: str) -> tuple[dict[str, str], str]:
    """The site's pages as HTML, and what was said."""
    sources = {"conf.py": CONF.format(repository=str(REPOSITORY)), "index.md": INDEX, "spec/index.md": SPEC}
    for name, content in (sources | {"guide/page.md": page}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    options = ["-b", "html", "-n", "-q", str(folder), str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    pages = {name: folder / "out" / f"{name}.html" for name in ("index", "guide/page", "spec/index")}
    return {name: path.read_text(encoding="utf-8") for name, path in pages.items()}, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    page = "# Page\n\nSee RS-READ-02, `RS-READ-01`, and (RS-READ-01). RS-READ-99 is not there.\n"
    return built(tmp_path_factory.mktemp("site"), page)


def test_ids_lead_to_their_requirements(site: tuple[dict[str, str], str]) -> None:
    """From any page, and within the specification; code stays code."""
    pages, _ = site
    assert re.findall(r'<li id="(rs-[^"]*)"', pages["spec/index"]) == ["rs-read-01", "rs-read-02"]
    links = re.findall(r'href="\.\./(spec/index\.html#rs-[^"]*)"[^>]*>(RS-[A-Z]+-\d\d)<', pages["guide/page"])
    assert links == [(f"spec/index.html#rs-read-0{n}", f"RS-READ-0{n}") for n in (2, 1)]
    assert '"#rs-read-01">RS-READ-01</a>' in pages["spec/index"]


def test_an_id_that_is_not_there_is_a_warning(site: tuple[dict[str, str], str]) -> None:
    """The one of the page that is wrong, and nothing else."""
    _, said = site
    assert re.findall(r"page.md:\d+: WARNING: no requirement \['(.*)'\]", said) == ["RS-READ-99"]
    assert said.count("WARNING") == 1


def test_the_front_page_is_the_table_of_contents(site: tuple[dict[str, str], str]) -> None:
    """Its lists are the navigation: no page is left out of it, and next follows previous."""
    pages, _ = site
    assert 'rel="next" title="Page" href="guide/page.html"' in pages["index"]
    assert 'rel="next" title="Rules" href="../spec/index.html"' in pages["guide/page"]
