"""Capability levels: which areas of the specification each has, and the upstreams that its checks go through."""

from __future__ import annotations

LEVELS: dict[str, tuple[str, ...]] = {
    "core": (
        *("GW", "HDR", "KEY", "MATCH", "SCOPE", "RETRY", "LIFE", "OFF", "READ", "SSE", "META", "LIST"),
        *("STOP", "DEL", "KEEP", "CAP", "EARLY", "CUT", "BEAT", "DISC", "DEATH", "ERR", "AUTH", "PRIV", "OPS"),
    ),
    "failover": ("OVER",),
    "segments": ("SEG",),
    "resumable": ("RES",),
}
"""Level → its areas. An area is the middle part of an id, as in RS-READ-03."""

SPARE_CREDENTIAL = "Bearer conformance-spare"
"""What the server itself shows to the upstream `spare`."""

CLOSED = "http://127.0.0.1:1"

UPSTREAMS: dict[str, tuple[str, str, str]] = {
    "main": ("core", "", "nothing more: the caller's credential goes on to it"),
    "other": ("core", "/other", "as `main`: the same key at both means two streams"),
    "closed": ("core", CLOSED, "an address where nobody listens"),
    "retrying": ("failover", "", "1 retry, then the fallback `spare`; never a second call in mid-stream"),
    "segments": ("segments", "", "no retry; the fallback `spare`; failover in mid-stream as a new segment"),
    "responses": ("resumable", "", "OpenAI Responses in background mode, which is resumed"),
    "spare": ("failover segments", "/spare", f"a credential of its own: `Authorization: {SPARE_CREDENTIAL}`"),
}
"""Name → the levels that need it, its path at the scripted upstream or its URL, and how it must be configured."""


def level_of(identifier: str) -> str:
    """The level that a requirement belongs to. Raises ValueError for an id of no area."""
    area = area_of(identifier)
    for level, areas in LEVELS.items():
        if area in areas:
            return level
    raise ValueError(f"{identifier}: no level has an area {area!r}")


def area_of(identifier: str) -> str:
    _, area, _ = identifier.split("-")
    return area


def configuration(url: str, levels: tuple[str, ...]) -> str:
    """What the server must have for these levels, for people. `url` is where it reaches the scripted upstream."""
    lines = [
        f"  {name:<10} {where if where == CLOSED else url + where}   {how}"
        for name, (needed_by, where, how) in UPSTREAMS.items()
        if set(needed_by.split()) & set(levels)
    ]
    return "\n".join(["The server must have these upstreams, and take each bearer token for a principal:", *lines])
