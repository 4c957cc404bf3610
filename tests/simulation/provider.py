"""A provider that plays a script for each call, and the ledger of what it did: the meter of truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import anyio
import trio

from chaos.history import Call
from resumestream.errors import UpstreamLost, UpstreamUnreachable
from resumestream.model import Head, StreamId

from .ticks import ticks

CHAT, PLAIN = "openai-chat", "unknown"
HEADS = {
    CHAT: Head(200, (("content-type", "text/event-stream"),)),
    PLAIN: Head(200, (("content-type", "application/octet-stream"),)),
}
STATUSES = 400, 429, 500
COMPLETED, TRUNCATED, STALLED, ERROR = "completed", "truncated", "stalled", "provider_error"
OVERFLOW = "overflow"
"""Not its doing: the most that may be kept is reached."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a call ends. What is no `answer` ends before its head; `part`: where the script says, in mid-body."""

    outcome: str
    ends: Callable[[], Exception] | None
    """None: silence."""
    answer: bool = True
    part: bool = True
    framed: bool = True


def _lost(detail: str) -> Callable[[], Exception]:
    return lambda: UpstreamLost("the provider is gone", detail=detail)


WAYS = {
    "whole": Way(COMPLETED, anyio.EndOfStream, part=False),
    "whole, then FIN": Way(COMPLETED, _lost("connection_closed"), part=False),
    "whole, then silence": Way(COMPLETED, None, part=False),
    "FIN": Way(TRUNCATED, _lost("connection_closed")),
    "RST": Way(TRUNCATED, _lost("connection_reset")),
    "bad framing": Way(TRUNCATED, _lost("bad_framing")),
    "early end": Way(TRUNCATED, anyio.EndOfStream),
    "unframed end": Way(TRUNCATED, anyio.EndOfStream, framed=False),
    "stall": Way(STALLED, None),
    "in-band error": Way(ERROR, anyio.EndOfStream),
    "refusal": Way(ERROR, anyio.EndOfStream, part=False),
    "unreachable": Way(ERROR, lambda: UpstreamUnreachable("no route to the provider"), answer=False),
    "no answer": Way(TRUNCATED, _lost("no_answer"), answer=False),
    "no head": Way(STALLED, None, answer=False),
}
EVENTLESS = ("whole", "FIN", "RST", "bad framing", "unframed end", "stall", "refusal", "no answer", "no head")
"""Those that a body without events can end by as well."""


@dataclass(frozen=True, slots=True)
class Script:
    """What the provider does with a call."""

    way: str
    dialect: str
    text: str
    """What its events say."""
    events: int
    at: float
    """How much of the body is sent, from 0 to 1, where it ends in mid-body."""
    head_s: float
    pace_s: float
    """The longest that one piece lets wait."""
    piece_bytes: int
    """The largest piece."""
    crlf: bool
    status: int = 429

    @property
    def outcome(self) -> str:
        """That of a stream which such a call ends."""
        return WAYS[self.way].outcome

    @property
    def head(self) -> Head:
        if self.way == "refusal":
            return Head(self.status, (("content-type", "application/json"), ("retry-after", "0")))
        return HEADS[self.dialect]

    @property
    def refused(self) -> bool:
        """Not billed."""
        return self.way in ("refusal", "unreachable") or (self.way == "in-band error" and not self._kept)

    @property
    def _kept(self) -> int:
        """Events before the error."""
        return int(self.events * self.at)

    @property
    def body(self) -> bytes:
        """All that is ever sent."""
        if self.way == "refusal":
            return b'{"error":{"message":"no"}}'
        if self.dialect == PLAIN:
            body = b"".join(b"%s %d " % (self.text.encode(), number) for number in range(self.events))
            return body[: max(1, int(len(body) * self.at))] if self._in_part else body
        eol = b"\r\n" if self.crlf else b"\n"
        events = [
            b'data: {"choices":[{"index":0,"delta":{"content":"%s %d"}}]}' % (self.text.encode(), number)
            for number in range(self.events)
        ]
        if self.way == "in-band error":
            events = [*events[: self._kept], b'data: {"error":{"message":"no"}}']
            return b"".join(event + eol + eol for event in events)
        if self.events > 2:
            events[1] += eol + eol + b": a comment"
        body = b"".join(event + eol + eol for event in events)
        end = b"data: [DONE]" + eol + eol
        # A framed end right before the blank line would complete it: the last byte of a cut is no more than `[DONE`
        return (body + end[:-5])[: int((len(body) + 8) * self.at)] if self._in_part else body + end

    @property
    def _in_part(self) -> bool:
        return WAYS[self.way].part


@dataclass(slots=True)
class Ledger:
    """Every call that reached the provider."""

    rng: Random
    said: Callable[[str, str], None]
    calls: list[Played] = field(default_factory=list)

    def of(self, stream: StreamId, segment: int) -> Played | None:
        """The last that was made for a segment."""
        made = [call for call in self.calls if (call.stream, call.segment) == (stream, segment)]
        return made[-1] if made else None

    def repeated(self, stream: StreamId, segment: int) -> None:
        """A call comes with the key of those before it: what was not answered is billed with this one."""
        for call in self.calls:
            if (call.stream, call.segment) == (stream, segment) and not call.answered:
                call.repeated = True

    def died(self, client: str) -> None:
        """Its kernel closes what it had open."""
        for call in self.calls:
            if call.client == client:
                call.left()

    def history(self) -> list[Call]:
        return [call.history(number) for number, call in enumerate(self.calls, 1)]


@dataclass(slots=True, eq=False)
class Played:
    """One call, and how far it came."""

    turn: str
    stream: StreamId
    segment: int
    script: Script
    body: bytes
    client: str
    """The process that reads it."""
    answered: bool = False
    repeated: bool = False
    """It was made again, under its key."""
    sent: int = 0
    over: bool = False
    """The script was played out; what its client does then is no concern of ours."""
    disconnected: bool = False
    ended_s: float | None = None
    """When either of the two was."""

    def end(self) -> None:
        self.over, self.ended_s = True, trio.current_time()

    def left(self) -> bool:
        """Its client is gone. Whether that matters."""
        if self.over or self.disconnected:
            return False
        self.disconnected, self.ended_s = True, trio.current_time()
        return True

    def history(self, number: int) -> Call:
        return Call(
            number=number,
            turn=self.turn,
            sent=self.body[: self.sent],
            status=self.script.head.status if self.answered else None,
            refused=self.script.refused or self.repeated,
            disconnected=self.disconnected,
            ended_s=self.ended_s,
        )


class SimulatedSource:
    """Implements ports.Source."""

    def __init__(
        self,
        ledger: Ledger,
        turn: str,
        stream: StreamId,
        segment: int,
        upstream: str,
        script: Callable[[], Script],
        client: str,
        *,
        keyed: bool,
    ) -> None:
        """`keyed`: it takes the same key, of stream and segment, for the same call."""
        self._ledger, self._turn, self._stream, self._segment = ledger, turn, stream, segment
        self.upstream, self._script, self._client, self._keyed = upstream, script, client, keyed

    async def open(self) -> SimulatedAnswer:
        script = self._script()
        way, ledger = WAYS[script.way], self._ledger
        if script.way == "unreachable":
            await trio.sleep(ticks(ledger.rng, script.head_s))
            assert way.ends
            raise way.ends()
        if self._keyed:
            ledger.repeated(self._stream, self._segment)
        call = Played(self._turn, self._stream, self._segment, script, script.body, self._client)
        ledger.calls.append(call)
        ledger.said(self._turn, f"call: {script.way}")
        answer = SimulatedAnswer(ledger, call)
        try:
            await trio.sleep(ticks(ledger.rng, script.head_s))
            if not way.answer:
                await answer.end()
        except trio.Cancelled:
            await answer.aclose()
            raise
        call.answered = True
        if script.way == "refusal":  # nobody has to read that to its end
            call.end()
        return answer


class SimulatedAnswer:
    """Implements ports.Answer, from a byte of its call on."""

    remote = None

    def __init__(self, ledger: Ledger, call: Played, at: int = 0) -> None:
        self._ledger, self._call, self._at = ledger, call, at
        self.head, self.framed = call.script.head, WAYS[call.script.way].framed

    async def receive(self) -> bytes:
        call, rng = self._call, self._ledger.rng
        await trio.sleep(ticks(rng, call.script.pace_s))
        if self._at == len(call.body):
            await self.end()
        piece = call.body[self._at : self._at + rng.randint(1, call.script.piece_bytes)]
        self._at += len(piece)
        call.sent = max(call.sent, self._at)
        if call.sent == len(call.body) and call.script.outcome in (COMPLETED, ERROR):
            call.end()
        return piece

    async def end(self) -> None:
        """As the script says."""
        way = WAYS[self._call.script.way]
        self._call.end()
        if way.ends is None:
            await trio.sleep_forever()
        else:
            raise way.ends()

    async def cancel(self) -> None:
        pass

    async def aclose(self) -> None:
        call = self._call
        if call.left():
            self._ledger.said(call.turn, f"its client left after {call.sent} bytes")
