"""The scenarios by name, family by family."""

from __future__ import annotations

from ..scenario import Scenario
from . import buffer, callers, disk, edges, failover, readers, sdks, starts, stops, upstream

FAMILIES: dict[str, tuple[Scenario, ...]] = {
    "callers": callers.SCENARIOS,
    "sdks": sdks.SCENARIOS,
    "readers": readers.SCENARIOS,
    "buffer": buffer.SCENARIOS,
    "upstream": upstream.SCENARIOS,
    "starts": starts.SCENARIOS,
    "failover": failover.SCENARIOS,
    "stops": stops.SCENARIOS,
    "disk": disk.SCENARIOS,
    "edges": edges.SCENARIOS,
}
SCENARIOS = {scenario.name: scenario for family in FAMILIES.values() for scenario in family}
