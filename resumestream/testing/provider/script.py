"""What one call to the scripted provider gets: a value that a test writes down, and that travels as JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Fault = Literal["fin", "rst", "stall", "clean", "garbage", "half-close"]
Framing = Literal["chunked", "length", "close"]

_CHUNKING = re.compile(r"events|random:\d+")


def token(k: int) -> str:
    """The text of token `k`, counted from 0."""
    return f"w{k:04d} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One answer. With neither `body` nor `fixture` it is synthesised in the dialect of the request's path.

    Events are blocks that end with a blank line; "at event k" is after the first k of them, "at byte n" after n bytes
    of the body, whatever its framing.
    """

    tokens: int = 20
    prompt_tokens: int = 10
    tool: Mapping[str, Any] | None = None
    """`{"name": ..., "arguments": {...}}`: the synthesised answer ends with this tool call."""
    body: bytes | None = None
    fixture: str | None = None
    """A transcript in the provider's fixtures folder: `NAME.json` and the body beside it, `NAME.sse` or alike."""
    status: int | None = None
    """None: 200, or what the fixture says. From 300 on and without a body: the dialect's own error body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Added to those of the answer; the same name replaces."""

    delay_s: float = 0.0
    """Before each event."""
    headers_delay_s: float = 0.0
    informational: tuple[int, ...] = ()
    """1xx statuses sent first."""
    reply_before_body: bool = False
    """Answer, and close, without having read the request body: what is synthesised is no stream then."""
    chunking: str | tuple[int, ...] = "events"
    """How the body is cut into writes: `events`, `random:SEED`, or byte sizes, repeated."""
    framing: Framing | None = None
    """None: `chunked` for an event stream, `length` for the rest. `close`: the connection's end is the body's end."""
    keep_alive: bool = True

    hold_at: int | None = None
    """Wait at this event until released."""
    error_at: int | None = None
    """After so many events comes the provider's own in-band error, and the body ends as framed."""
    fault: Fault | None = None
    """`fin`, `rst`: the connection ends; `half-close`: our side of it, and we read on for as long as the client keeps
    its own open; `garbage`: bytes that are no HTTP, then FIN; `stall`: silence until released;
    `clean`: the body ends there as if it were whole. Under framing `length` a `fin` makes a body shorter than said."""
    at_byte: int | None = None
    at_event: int | None = None
    """Where the fault is; with neither, after the last byte and before the end of the framing."""
    before_head: bool = False
    """The fault comes instead of the status line; a stall, before it."""

    def __post_init__(self) -> None:
        sizes = () if isinstance(self.chunking, str) else self.chunking
        if not (all(size > 0 for size in sizes) if sizes else _CHUNKING.fullmatch(str(self.chunking))):
            raise ValueError(f"chunking is 'events', 'random:SEED' or sizes above 0, not {self.chunking!r}")
        for value, known in ((self.fault, get_args(Fault)), (self.framing, get_args(Framing))):
            if value is not None and value not in known:
                raise ValueError(f"{value!r} is none of {', '.join(known)}")
        places = [self.at_byte is not None, self.at_event is not None, self.before_head]
        if sum(places) > 1 or (any(places) and self.fault is None) or (self.before_head and self.fault == "clean"):
            raise ValueError("a fault has at most one place, a place has a fault, and no clean end is before the head")
        if self.body is not None and self.fixture is not None:
            raise ValueError("body and fixture are two bodies")

    @property
    def text(self) -> str:
        """What the client of a synthesised answer reads."""
        return "".join(map(token, range(self.tokens)))

    def to_json(self) -> str:
        """One ASCII line, fit for a header, of what differs from the defaults."""
        changed = {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}
        if self.body is not None:
            changed["body"] = base64.b64encode(self.body).decode()
        return json.dumps(changed)

    @classmethod
    def from_json(cls, text: str | bytes) -> Script:
        """The inverse; `body` is base64. Raises ValueError."""
        return cls.from_values(json.loads(text))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Script:
        """From what `json.loads` made of it. Raises ValueError."""
        try:
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            if values.get("body") is not None:
                values["body"] = base64.b64decode(values["body"], validate=True)
            return cls(**values)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a script: {error}") from error


_DEFAULTS = asdict(Script())
