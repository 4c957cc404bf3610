"""Every cap and window in one place, with its unit in its name. Wrong values are refused when it is made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from .errors import ConfigError
from .model import Durability

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3
_ON_DISCONNECT = re.compile(r"continue|cancel|grace:\d{1,6}(\.\d{1,3})?")


def valid_on_disconnect(text: str) -> bool:
    """`continue`, `cancel` or `grace:N` with N seconds."""
    return _ON_DISCONNECT.fullmatch(text) is not None


def grace_s(on_disconnect: str) -> float:
    """Seconds a stream goes on after its last reader left."""
    if on_disconnect.startswith("grace:"):
        return float(on_disconnect[6:])
    return 0.0 if on_disconnect == "cancel" else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a server allows and promises. Seconds (`_s`) and bytes (`_bytes`) are positive; 0 is allowed where noted."""

    durability: Durability = "process"
    """What a byte survives once a reader saw it: `process` (kill -9) or `disk` (power cut)."""
    on_disconnect: str = "continue"
    """What happens when the last reader leaves: `continue`, `cancel` or `grace:N` seconds."""

    retain_s: float = 86_400
    """How long a payload is kept after its seal; 0 allowed."""
    max_retain_s: float = 604_800
    """The most a caller may ask for with `Stream-Retain`."""
    tombstone_s: float = 604_800
    """How long the record (id, outcome, final offset) outlives the payload; the caller cannot shorten it."""
    erase_s: float = 3_600
    """How soon after a payload was dropped its bytes have left the disk, at the latest; and how long, at the most, an
    expiry waits for a read that was open before it."""
    ledger_s: float = 7_776_000
    """How long a provider call stays in the ledger, which outlives the payload and the record."""

    first_byte_s: float = 600
    """From the request to the first payload byte. 600: the read timeout of the official OpenAI and Anthropic SDKs."""
    stall_s: float = 300
    """The longest silence between two payload bytes."""
    settle_s: float = 2
    """How long in all the drain reads on after the semantic end, so that the connection can be used again, and how long
    the body of a refusal may take."""
    max_duration_s: float = 3_600
    """The longest a provider call may take."""
    keepalive_s: float = 15
    """Silence after which a reader gets a keep-alive; below the 60 s idle timeouts of common proxies."""
    send_s: float = 60
    """How long one send may wait on a reader that does not read, before it is cut."""

    receive_s: float = 60
    """How long a caller may take for the next piece of its request body, and for a body of any size, plus a second for
    each KiB of it (408)."""

    max_stream_bytes: int = _GIB
    """The most payload one stream may have; more ends it `overflow`, what fits is kept."""
    max_event_bytes: int = 16 * _MIB
    """The largest event; a larger one ends its stream `overflow`."""
    max_request_bytes: int = 64 * _MIB
    """The largest body of a keyed request (413); a larger one without a key passes through unrecorded."""
    max_head_bytes: int = 64 * _KIB
    """The largest request head: path and query (414), and with the headers (431), each counted as 32 bytes more."""
    max_live_streams: int = 1_000
    """How many streams may be live in the store; one more is refused before any provider call (503)."""
    max_total_bytes: int = 10 * _GIB
    """How much payload the store may keep, uncompressed: the oldest sealed payloads are evicted first, live ones never;
    with nothing left to evict, new streams are refused (507)."""
    max_orphan_drains: int = 100
    """How many live streams may have lost their last reader; then new ones are refused (429)."""

    lease_s: float = 10
    """How long a worker that shows no sign of life keeps its streams, where several processes serve one store."""
    drain_s: float = 5
    """How long live drains may go on after shutdown was asked."""
    busy_s: float = 5
    """How long a write waits for another process's write lock."""
    relocate_s: float = 3_600
    """How long a finished stream's payload may stay among live ones, where it is not compressed yet."""

    window_bytes: int = 16 * _MIB
    """How much memory the newest payload of all live streams may take, so that many tails cost one read."""

    def __post_init__(self) -> None:
        if self.durability not in ("process", "disk"):
            raise ConfigError(f"Policy.durability is {self.durability!r}; use 'process' or 'disk'")
        if not isinstance(self.on_disconnect, str) or not valid_on_disconnect(self.on_disconnect):
            raise ConfigError(f"Policy.on_disconnect is {self.on_disconnect!r}; use 'continue', 'cancel' or 'grace:N'")
        may_be_zero = ("retain_s", "tombstone_s", "drain_s", "settle_s")
        for spec in fields(self):
            if not spec.name.endswith(("_s", "_bytes")) and not spec.name.startswith("max_"):
                continue
            value = getattr(self, spec.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise ConfigError(f"Policy.{spec.name} is {value!r}; it must be a number")
            least = "0 or greater" if spec.name in may_be_zero else "greater than 0"
            if value < 0 or (value == 0 and spec.name not in may_be_zero):
                raise ConfigError(f"Policy.{spec.name} is {value!r}; it must be {least}")
        if self.retain_s > self.max_retain_s:
            raise ConfigError(f"Policy.retain_s ({self.retain_s}) is above max_retain_s ({self.max_retain_s})")
