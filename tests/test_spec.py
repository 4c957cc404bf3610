"""The specification: its ids hold together, its registry and names are the software's, its examples happen."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import fields

from resumestream import errors
from resumestream.errors import ResumeStreamError
from resumestream.http.problems import OUTCOME_STATUS
from resumestream.model import Outcome, State
from resumestream.policy import Policy

from .spec_examples import ANSWER, AT_READ, EVENTS, PAGE, READ, examples, written

TEXT = PAGE.read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
ITEMS = re.findall(r"^- \*\*(RS\S+)\*\* (.*?)(?=\n(?!  ))", PROSE, re.DOTALL | re.MULTILINE)
IDS = [name for name, _ in ITEMS]
KEYWORD = re.compile(r"\b(MUST|SHOULD|MAY)\b")

OWN_CODES = {"internal", "config", "not-started", "not-installed", "source-failed", "store-locked"} | {
    "binding-moved",
    "lease-lost",
    "stream-sealed",
    "offset-conflict",
}
"""Of this implementation only: a server need not have them."""


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its rank."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |^# |\Z)", PROSE, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[2]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in a text, without its head."""
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[0].splitlines()[2:]]


def expanded(text: str) -> list[str]:
    """The ids that a text names, ranges written out."""
    names = []
    for area, first, last in re.findall(r"RS-([A-Z]+)-(\d\d)(?: to RS-\1-(\d\d))?", text):
        names += [f"RS-{area}-{number:02}" for number in range(int(first), int(last or first) + 1)]
    return names


def test_ids_are_well_formed_and_count_up() -> None:
    """Each is there once, from 01 without a gap within its area, and the areas stand together."""
    numbers = defaultdict[str, list[int]](list)
    order = list[str]()
    for name in IDS:
        parts = re.fullmatch(r"RS-([A-Z]+)-([0-9]{2})", name)
        assert parts, name
        numbers[parts[1]].append(int(parts[2]))
        order += [] if order[-1:] == [parts[1]] else [parts[1]]
    assert {area: found for area, found in numbers.items() if found != list(range(1, len(found) + 1))} == {}
    assert len(order) == len(set(order))
    assert len(IDS) >= 140


def test_every_area_has_a_level() -> None:
    """The table of levels names each area once, and none that is not there."""
    levels = {level: areas.split(", ") for level, areas in rows(section("Conventions"))}
    assert list(levels) == ["core", "failover", "segments", "resumable"]
    named = [area for areas in levels.values() for area in areas]
    assert sorted(named) == sorted({name.split("-")[1] for name in IDS})


def test_every_requirement_requires() -> None:
    """Each item has a key word, and no key word stands outside of one, but where they are explained."""
    assert [name for name, text in ITEMS if not KEYWORD.search(text)] == []
    rest = PROSE.replace(section("Conventions"), "")
    for name, text in ITEMS:
        rest = rest.replace(f"**{name}** {text}", "")
    assert KEYWORD.findall(rest) == []


def test_an_item_has_one_id() -> None:
    """And every id in bold begins an item."""
    assert re.findall(r"\*\*(RS\S+?)\*\*", PROSE) == IDS


def test_every_id_that_is_named_is_there() -> None:
    """In the text and in the table of edges."""
    assert set(expanded(PROSE)) - set(IDS) == set()


def test_links_within_the_page_lead_somewhere() -> None:
    """Every anchor is a heading's."""
    titles = [title.replace("`", "") for title in re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)]
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", PROSE)) - set(anchors) == set()


def test_every_open_edge_has_its_rule() -> None:
    """Eight of them, each with a place and with requirements."""
    edges = rows(section("The open edges"))
    assert len(edges) == 8
    assert [edge for edge, where, ids in edges if "](#" not in where or not expanded(ids)] == []


def test_the_registry_is_the_softwares() -> None:
    """Code, status, and whether a retry helps."""
    told = {code.strip("`"): (int(status), retry) for code, status, retry, _ in rows(section("Errors"))}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ResumeStreamError)]
    real = {kind.code: (kind.status, "yes" if kind.retry else "no") for kind in kinds if kind.code not in OWN_CODES}
    real |= {outcome.replace("_", "-"): (status, r"no\*") for outcome, status in OUTCOME_STATUS.items()}
    assert told == real
    assert {kind.code for kind in kinds} >= OWN_CODES


def test_every_state_and_outcome_is_explained() -> None:
    """A line for each."""
    lifecycle = section("Lifecycle")
    assert [state for state in State if f"- `{state}`: " not in lifecycle] == []
    assert [outcome for outcome in Outcome if f"| `{outcome}` | " not in lifecycle] == []


def test_nothing_of_this_implementation_is_required() -> None:
    """No names of its policy, its stores or its libraries."""
    names = {field.name for field in fields(Policy)} - {"durability"}
    names |= {"SQLite", "asyncio", "trio", "uvicorn", "Python", "lease", "Policy"}
    assert [name for name in sorted(names) if re.search(rf"\b{name}\b", PROSE)] == []


def test_the_examples_are_what_happens() -> None:
    """A run gives every byte of the page; `python -m tests.spec_examples` writes it."""
    shown = examples()
    assert re.findall(r"<!-- example: ([\w-]+) -->", TEXT) == list(shown)
    assert written(TEXT, shown) == TEXT


def test_the_numbers_about_the_examples_are_right() -> None:
    """Sizes and offsets in the text."""
    sizes = [len(event) for event in EVENTS]
    assert sizes == [60] * 98 + [67, 14]
    assert (len(EVENTS), len(ANSWER), READ, AT_READ) == (100, 5961, 70, 4200)
    told = section("Worked examples")
    assert "98 with 60 bytes each, one with 67 and one with 14, together 5961 bytes" in told
    assert "first 70 events is the offset 4200" in told
