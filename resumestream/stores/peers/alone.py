"""The peers of a store that one process serves: none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from ...model import StreamId
from ...ports import Duties, Following
from .follows import Feed
from .registry import mint


class Alone:
    """Every other worker that a record names is of an earlier life of the store, and lost."""

    def __init__(self) -> None:
        self.me = mint()

    def beat(self) -> None: ...

    def observe(self) -> None: ...

    def lost(self, worker: str) -> bool:
        return worker != self.me

    def alone(self) -> bool:
        return True

    def workers(self) -> tuple[str, ...]:
        return ()

    def bury(self, worker: str) -> None: ...

    def changed(self, stream: StreamId) -> None: ...

    def tell(self, worker: str) -> None: ...

    @contextmanager
    def follow(self, stream: StreamId, worker: str) -> Iterator[Following]:
        yield Feed()

    async def run(self, duties: Duties) -> None:
        await anyio.sleep_forever()
