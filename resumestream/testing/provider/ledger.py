"""The meter of truth: one record a call, kept by the provider, whatever anybody else believes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(slots=True, kw_only=True)
class Call:
    """One request. Tokens are billed as they are generated: prompt with a 2xx status line, output with each event
    begun (a replayed body's event counts as one), and never for another status. Times are seconds of a monotonic
    clock that starts with the provider."""

    number: int
    """1 for the first since the last reset."""
    connection: int
    """Same number, same connection."""
    method: str
    path: str
    headers: list[tuple[str, str]]
    """As received: names in lower case."""
    request_bytes: int = 0
    request_sha256: str = ""
    status: int | None = None
    bytes_sent: int = 0
    """Body bytes, before chunked framing."""
    events_sent: int = 0
    """Whole events."""
    sent_sha256: str = ""
    """Of those body bytes; set when the call has ended."""
    prompt_tokens_billed: int = 0
    tokens_billed: int = 0
    started_at: float
    ended_at: float | None = None
    held: bool = False
    """Waiting for a release now."""
    finished: bool = False
    """The script was carried out to its end, faults included."""
    disconnected: bool = False
    """The client went away before that."""

    @property
    def ended(self) -> bool:
        return self.finished or self.disconnected


Calls = list[Call]


@dataclass(slots=True)
class Ledger:
    """Belongs to the provider's loop; what leaves it are copies."""

    calls: Calls = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def copy(self) -> Calls:
        return [replace(call, headers=list(call.headers)) for call in self.calls]

    def touch(self) -> None:
        """Wake who waits."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait_for(self, met: Callable[[Calls], bool], timeout_s: float) -> Calls:
        """Raises TimeoutError with the calls so far in its message."""
        try:
            async with asyncio.timeout(timeout_s):
                while not met(calls := self.copy()):
                    await self.changed.wait()
                return calls
        except TimeoutError:
            raise TimeoutError(f"not within {timeout_s} s; the ledger: {self.copy()}") from None
