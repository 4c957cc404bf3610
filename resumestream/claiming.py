"""What a claim is made with, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import anyio

from .claims import Attach, Start
from .errors import ResumeStreamError
from .model import Binding, StreamId, StreamInfo
from .reads import Hold
from .route import Route

Decide = Callable[[Binding | None, StreamInfo | None], Start | Attach]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The provider call a new stream would make."""

    route: Route
    limits: Mapping[str, int] = field(default_factory=dict)
    """The principal's own: see Principal."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a create came to: `started` for the one caller whose call is being made, False for all who attach. Who has
    it may read the stream, even if that ends and expires before."""

    stream: StreamId
    started: bool
    hold: Hold
    given: Callable[[], None] = lambda: None
    """To be called when its caller gets the stream: counts the call that it spared."""


class Claiming:
    """The verdict on one claim, for the request that waits for it. The first one counts, and ends `claiming`."""

    def __init__(self, claiming: ExitStack) -> None:
        self._claiming = claiming
        self._decided = anyio.Event()
        self._error: ResumeStreamError | None = None

    def decide(self, error: ResumeStreamError | None) -> None:
        if not self._decided.is_set():
            self._error = error
            self._claiming.close()
            self._decided.set()

    async def wait(self) -> None:
        await self._decided.wait()
        if self._error:
            raise self._error
