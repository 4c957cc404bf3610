"""A stranger, who is to learn nothing."""

from __future__ import annotations

from collections.abc import Mapping

from .history import Probe
from .reader import Reader
from .stage import STRANGER, Stage

ROUTES = (
    ("GET", ""),
    ("GET", "?live=tail"),
    ("GET", "?live=events"),
    ("HEAD", ""),
    ("GET", "/info"),
    ("POST", "/cancel"),
    ("DELETE", ""),
)
"""What a stranger tries, what does harm last."""
NEVER_WAS = "never-was-such-a-stream-anywhere"


def trespass(stage: Stage, reader: Reader) -> list[Probe]:
    """What a stranger is told of a reader's stream, and of one that never was."""
    stranger = stranger_to(stage, reader)
    never_was = NEVER_WAS[: len(reader.stream)]

    def told(method: str, stream: str, what: str) -> tuple[int, bytes]:
        reply = stage.ask(1, method, f"/streams/{stream}{what}", stranger)
        return reply.status, reply.body.replace(stream.encode(), b"...")

    return [
        Probe(
            route=f"{method} {what}",
            stream=reader.stream,
            foreign=told(method, reader.stream, what),
            unknown=told(method, never_was, what),
        )
        for method, what in ROUTES
    ]


def stranger_to(stage: Stage, reader: Reader) -> Mapping[str, str]:
    """The credential of somebody else than the reader."""
    return stage.ours if reader.request.credential == STRANGER else STRANGER
