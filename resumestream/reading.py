"""What an answer's bytes mean: whole events for the log, and how it ended. Decides; the drain does the I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .dialects.payload import is_whole
from .endings import ERROR_UNENDED, Ending
from .framing import SSE, BlockSplitter, has_data
from .model import Seal
from .policy import Policy
from .ports import Dialect, Mark
from .usage import Usage


@dataclass(frozen=True, slots=True)
class Portion:
    """What to append now, and, where a cap was reached, how the stream ends after it."""

    data: bytes
    events: int
    capped: Ending | None = None


class Reading:
    """One answer, read from its first byte to its end. `tail` and `events` count what it gave to the log; only server-
    sent events are counted as such.

    `base`: bytes the stream had before, of earlier segments. `usage_is_ours`: the event that only tells the usage was
    asked for by us, not by the caller, and is left out.
    """

    def __init__(
        self, dialect: Dialect, *, policy: Policy, where: str, base: int = 0, usage_is_ours: bool = False
    ) -> None:
        self._scanner, self._policy, self._where = dialect.scanner(), policy, where
        self._most = policy.max_stream_bytes - base
        self._framing = dialect.framing
        self._splitter = dialect.framing.splitter() if dialect.framing.splitter else None
        self._grammarless = dialect.ends_as_framed
        self._left_out = Mark.USAGE if usage_is_ours else None
        self._seen = False
        """An event, or what takes its place on this wire."""
        self.tail = 0
        self.events = 0
        self._capped: Ending | None = None
        self.ended: Ending | None = None
        """Set once the semantic end or the provider's own error was seen: what comes after changes nothing, and a cap
        that it reaches only ends the reading on."""

    @property
    def begun(self) -> bool:
        """Whether any byte came."""
        return self.tail > 0 or self._seen or (self._splitter is not None and self._splitter.held > 0)

    @property
    def usage(self) -> Usage | None:
        """What the answer has told of its tokens. Ask at its end."""
        return self._scanner.usage

    @property
    def model(self) -> str:
        """The model that answers, as the provider names it; empty where it does not."""
        return self._scanner.model

    @property
    def foreign(self) -> bool:
        """Whether, so far, the answer is in another grammar than was guessed."""
        return self._scanner.foreign

    def telling(self, seal: Seal) -> Seal:
        """The seal with what the answer has told of itself. Ask at its end."""
        return replace(seal, usage=self.usage, model=self.model, foreign=self.foreign)

    @property
    def logged_end(self) -> Ending | None:
        """The end of what was fed, where that is a log and not a body: an event without its end is in a log only if it
        is the last of a whole answer, or the provider's own error."""
        rest = self._splitter.rest() if self._splitter else b""
        if self.ended or not rest:
            return self.ended
        ending, _ = self._ended_within(rest, None, framed=True)
        return ending if ending.completed or ending.told else None

    def again(self) -> None:
        """What is held comes again, and may differ."""
        self._splitter = self._framing.splitter() if self._framing.splitter else None

    def feed(self, data: bytes) -> Portion:
        """Body bytes as they came. An event that is not whole yet is held back."""
        if self._splitter is not None:
            return self._blocks(self._splitter, data)
        self._scanner.scan(data)
        room = self._most - self.tail
        return self._take(data[:room], 0, self._cap("max_stream_bytes") if len(data) > room else None)

    def _blocks(self, splitter: BlockSplitter, data: bytes) -> Portion:
        cap, room = self._policy.max_event_bytes, self._most - self.tail
        blocks, events, size, capped = splitter.feed(data), 0, 0, ""
        for index, block in enumerate(blocks):
            if len(block) > cap:
                capped = "max_event_bytes"
                del blocks[index:]
                break
            mark = self._scanner.scan(block)
            if mark is self._left_out:
                blocks[index], self._seen = b"", True
                continue
            size += len(block)
            if size > room:
                capped = "max_stream_bytes"
                del blocks[index:]
                break
            if self.ended is None and mark in (Mark.END, Mark.ERROR):
                self.ended = self._end(mark)
            self._seen = self._seen or mark is not Mark.BLANK
            events += self._is_event(mark, block)
        if not capped and splitter.held > cap:
            capped = "max_event_bytes"
        return self._take(b"".join(blocks), events, (self.ended or self._cap(capped)) if capped else None)

    def _end(self, mark: Mark, error: str = "error_event") -> Ending:
        """An error before anything else was not billed, so it releases the key."""
        if mark is Mark.END:
            return Ending.of("end_seen", where=self._where)
        ending, said = Ending.of(error, where=self._where), self._scanner.error
        return replace(ending, message=f"{ending.message}: {said}" if said else ending.message, released=not self._seen)

    def finish(self, cut: Ending | None, *, framed: bool = False) -> tuple[Portion, Ending]:
        """The body ended: cut as `cut` says, or by itself. Returns the last portion, and the ending it makes.

        What is held and no whole event belongs to the payload only if the answer is complete, or if all of the
        provider's own error is in it: no part of an event is ever taken for one.
        """
        rest = self._splitter.rest() if self._splitter and not self._capped else b""
        ending, mark = self._capped or self.ended, Mark.BLANK
        if ending is None:
            ending, mark = self._ended_within(rest, cut, framed=framed)
        kept = rest if mark is not self._left_out and (ending.completed or mark is Mark.ERROR) else b""
        if not self._fits(kept):  # behind its end an answer is complete without it
            kept, ending = b"", self.ended or self._cap("max_stream_bytes")
        portion = self._take(kept, int(kept != b"" and self._is_event(mark, kept)))
        return portion, ending if ending.completed or ending.told else ending.after(self.tail, self.events)

    def _ended_within(self, rest: bytes, cut: Ending | None, *, framed: bool) -> tuple[Ending, Mark]:
        """The ending of a body that ended with `rest` held, and what that means if it is all of an event but its end.
        Some send their errors so."""
        whole = is_whole(self._framing.held(rest))
        mark = self._scanner.scan(rest) if rest and (whole or self._ends_as_framed) else Mark.BLANK
        if mark is Mark.ERROR:
            return self._end(mark, ERROR_UNENDED if self._is_event(mark, rest) else "error_event"), mark
        if cut:
            return cut, mark
        if not framed:
            return Ending.of("unframed_end", where=self._where), mark
        if mark is Mark.END:
            return self._end(mark), mark
        if self._ends_as_framed or (whole and self._scanner.ends_at_framed_end()):
            return Ending.of("framed_end", where=self._where), mark
        return Ending.of("no_terminal_event" if self.begun else "no_first_byte", where=self._where), mark

    @property
    def _ends_as_framed(self) -> bool:
        return self._grammarless or self.foreign

    def _take(self, data: bytes, events: int, capped: Ending | None = None) -> Portion:
        self.tail += len(data)
        self.events += events
        self._capped = capped
        return Portion(data, events, capped)

    def _fits(self, data: bytes) -> bool:
        return self.tail + len(data) <= self._most

    def _cap(self, name: str) -> Ending:
        return Ending.of(name, limit=getattr(self._policy, name))

    def _is_event(self, mark: Mark, block: bytes) -> bool:
        """Whether it counts as one: some report an error in a block without data, which is none."""
        return self._framing is SSE and mark is not Mark.BLANK and (mark is not Mark.ERROR or has_data(block))
