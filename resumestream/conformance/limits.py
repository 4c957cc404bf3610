"""The server's caps and windows that checks depend on. A server declares them with `--limit`; what is not declared, or
is too long to wait for, is not checked."""

from __future__ import annotations

import math
from collections.abc import Mapping

LIMITS: dict[str, float] = {
    "first_byte_s": 10,
    "stall_s": 10,
    "keepalive_s": 10,
    "receive_s": 10,
    "settle_s": 5,
    "max_duration_s": 20,
    "retain_s": 20,
    "max_retain_s": 1e9,
    "tombstone_s": 20,
    "erase_s": 20,
    "lease_s": 20,
    "max_stream_bytes": 1 << 25,
    "max_event_bytes": 1 << 24,
    "max_request_bytes": 1 << 26,
    "max_head_bytes": 1 << 17,
    "max_live_streams": 200,
    "max_orphan_drains": 200,
    "max_total_bytes": 1 << 27,
}
"""Name → the largest value that a run can reach. Seconds end in `_s`, bytes in `_bytes`."""

WINDOWS = frozenset(name for name in LIMITS if name.endswith("_s") and name != "max_retain_s")
"""What a check that needs it waits for."""


def unmet(needs: tuple[str, ...], declared: Mapping[str, float]) -> str:
    """Why a check that needs these limits cannot run; empty: it can."""
    for name in needs:
        if name not in declared:
            return f"the limit {name} is not declared"
        if declared[name] > LIMITS[name]:
            return f"the limit {name} is {declared[name]:g}, more than a run can reach ({LIMITS[name]:g})"
    return ""


def parse(text: str) -> dict[str, float]:
    """From `first_byte_s=2,stall_s=2`. Raises ValueError."""
    found = {}
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        if name not in LIMITS:
            raise ValueError(f"{name!r} is no limit; there is {', '.join(LIMITS)}")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"limit {name} is {value!r}; it must be a number") from None
        if not 0 < found[name] < math.inf:
            raise ValueError(f"limit {name} is {value!r}; it must be above 0")
    return found
