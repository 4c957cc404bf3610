"""What a run found, for people and, as JUnit's XML, for programs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import get_args

from .levels import LEVELS, area_of
from .registry import CHECKS, EXEMPT
from .verdicts import Result, Verdict

_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def line(result: Result) -> str:
    """One result as it comes."""
    took = f"{result.seconds:5.1f} s" if result.verdict != "not checked" else " " * 7
    said = f"   {result.said}" if result.said else ""
    return f"{result.verdict:<11} {took}  {result.id:<12}{said}".rstrip()


def summary(results: Sequence[Result]) -> str:
    """A row an area, what failed, and the sum."""
    rows = [f"{'area':<8}" + "".join(f"{verdict:>13}" for verdict in get_args(Verdict))]
    for area in (area for areas in LEVELS.values() for area in areas):
        if counts := Counter(result.verdict for result in results if area_of(result.id) == area):
            rows.append(f"{area:<8}" + "".join(f"{counts[verdict] or '':>13}" for verdict in get_args(Verdict)))
    failed = [line(result) for result in results if result.verdict == "failed"]
    counts = Counter(result.verdict for result in results)
    total = ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict))
    return "\n".join([*rows, *([""] if failed else []), *failed, "", total])


def listing(identifiers: Iterable[str]) -> str:
    """What there is: how each requirement is checked, or why none can check it."""
    return "\n".join(f"{identifier:<12} {_listed(identifier)}" for identifier in identifiers)


def _listed(identifier: str) -> str:
    if identifier in EXEMPT:
        return f"(not black-box testable) {EXEMPT[identifier]}"
    check = CHECKS[identifier]
    needs = f" [{', '.join(check.needs)}]" if check.needs else ""
    return f"({check.level}) {check.what}{needs}"


def junit(results: Sequence[Result]) -> str:
    """JUnit's XML, a test case a requirement."""
    counts = Counter(result.verdict for result in results)
    seconds = sum(result.seconds for result in results)
    suite = ET.Element(
        "testsuite",
        name="resumestream.conformance",
        tests=str(len(results)),
        failures=str(counts["failed"]),
        skipped=str(counts["not checked"]),
        errors="0",
        time=f"{seconds:.3f}",
    )
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname=area_of(result.id), name=result.id, time=f"{result.seconds:.3f}"
        )
        said = _NOT_IN_XML.sub("?", result.said)
        if result.verdict == "failed":
            ET.SubElement(case, "failure", message=said.splitlines()[0]).text = said
        elif result.verdict == "not checked":
            ET.SubElement(case, "skipped", message=said)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
