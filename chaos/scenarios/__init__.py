"""The scenarios by name, family by family."""

from __future__ import annotations

from ..scenario import Scenario
from . import buffer, callers

FAMILIES: dict[str, tuple[Scenario, ...]] = {"callers": callers.SCENARIOS, "buffer": buffer.SCENARIOS}
SCENARIOS = {scenario.name: scenario for family in FAMILIES.values() for scenario in family}
