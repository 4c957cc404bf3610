"""One answer to one reader, as it comes."""

from __future__ import annotations

import trio

from chaos.history import End, Piece, Read
from resumestream.hub import Hub
from resumestream.model import Page, StreamId

REFUSED = 502
"""Where there is no answer of the provider to give."""


class Visit:
    def __init__(self, reader: str, turn: str, *, slow_s: float, live: bool = True) -> None:
        self.reader, self.turn, self.live = reader, turn, live
        self._slow_s = slow_s
        self.stream = StreamId("")
        self.status, self.segment = 0, 1
        self.end: End | None = None
        self.outcome = ""
        self._pieces: list[Piece] = []
        self._began_s = self._heard_s = trio.current_time()
        self._silence_s = 0.0

    @property
    def refused(self) -> bool:
        """Whether it got a definite answer that is no success."""
        return self.status >= 300

    async def answer(self, hub: Hub) -> None:
        """As the gateway does: the head when it is there, then all of the latest segment."""
        info = await hub.answered(self.stream)
        self.hear()
        if info.gone or info.head is None or not info.head.ok:
            self.status = info.head.status if info.head and not info.gone else REFUSED
            return
        await self.read(hub, info.segment, 0)

    async def read(self, hub: Hub, segment: int, at: int, until: int | None = None) -> None:
        """As both faces do; `until` ends a page."""
        info = await hub.stat(self.stream)
        if info.gone:
            self.status = 410
            return
        self.status, self.segment = 200, segment
        self._pieces.append(Piece(at, b""))
        tail = hub.reads.tail(self.stream, at, segment=segment, known=info, until=until)
        while tail.at != until:
            page = await tail.receive()
            self._take(page)
            if page.info:
                return
            await trio.sleep(self._slow_s)
            self._heard_s = trio.current_time()
        self.end = End.CLEAN

    def _take(self, page: Page) -> None:
        self.hear()
        if page.data:
            self._pieces.append(Piece(page.at, page.data))
        if page.info and page.info.seal:
            self.outcome = str(page.info.seal.outcome)
            self.end = End.CLEAN if page.info.completed else End.TOLD

    def hear(self) -> None:
        now = trio.current_time()
        self._silence_s = max(self._silence_s, now - self._heard_s)
        self._heard_s = now

    def history(self) -> Read:
        self.hear()
        return Read(
            reader=self.reader,
            turn=self.turn,
            stream=self.stream,
            status=self.status,
            segment=self.segment,
            pieces=tuple(self._pieces),
            end=self.end or End.CUT,
            outcome=self.outcome,
            live=self.live,
            began_s=self._began_s,
            ended_s=self._heard_s,
            silence_s=self._silence_s,
        )
