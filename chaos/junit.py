"""What was played, as JUnit's XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from .suite import Played

NO_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Of XML 1.0; a log that is quoted may have it."""


def junit(played: Sequence[Played]) -> str:
    """One case each."""
    failed = sum(not each.verdict.held for each in played)
    suite = ET.Element("testsuite", name="chaos", tests=str(len(played)), failures=str(failed))
    for each in played:
        verdict = each.verdict
        case = ET.SubElement(
            suite, "testcase", classname=verdict.configuration, name=verdict.scenario, time=f"{verdict.seconds:.3f}"
        )
        if not verdict.held:
            ET.SubElement(case, "failure", message=each.replay).text = NO_XML.sub("\ufffd", verdict.told)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)
