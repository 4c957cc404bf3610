"""Provider socket → log. One task a stream, in the Hub's task group; it never raises into its siblings."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from urllib.parse import urlsplit

import anyio

from .dialects import spoken
from .errors import (
    LeaseLost,
    ResumeStreamError,
    SourceFailed,
    StoreError,
    StoreFull,
    StreamNotFound,
    StreamSealed,
    UpstreamLost,
    UpstreamUnreachable,
)
from .framing import Splitter, has_data
from .lifecycle import ENDINGS, Moved, move
from .live import Live
from .model import Attempt, Lease, Seal
from .policy import Policy
from .ports import Answer, LogStore, Mark, Scanner, Source
from .retry_after import retry_after_s

logger = logging.getLogger("resumestream")

SEAL_S = 10
"""How long a seal may take before the stream is left to start-up recovery."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends, before it is sealed."""

    moved: Moved
    detail: str
    message: str
    released: bool = False
    retry_at: float | None = None


class Drain:
    """Calls the provider once and pours the answer into the log, whole events at a time, whether or not anybody reads.

    Always seals, unless its lease is lost (then it writes nothing more) or the store fails (then readers are cut and
    the next start-up seals `interrupted`).
    """

    def __init__(self, store: LogStore, live: Live, source: Source, policy: Policy, *, where: str) -> None:
        self._store, self._live, self._source, self._policy = store, live, source, policy
        self._where = where
        self._scope = anyio.CancelScope()
        self._stopped: Ending | None = None
        self._timeout: Ending | None = None
        self._ended: Ending | None = None

    def stop(self, ending: Ending) -> None:
        """Close the provider connection and seal. The first stop wins; one after the end does nothing."""
        if self._stopped is None:
            self._stopped = ending
            self._scope.cancel()

    async def run(self, lease: Lease) -> None:
        """Drain to the end and seal. Never raises but on cancellation from outside, and seals before that."""
        ending = Ending(Moved.DRAIN_LOST, "shutdown", "the server was stopped before the answer ended")
        try:
            with self._scope:
                ending = await self._pour(lease)
            if self._scope.cancelled_caught:
                ending = self._ended or self._stopped or self._timeout or ending
        except (LeaseLost, StreamSealed, StreamNotFound):
            logger.warning("stream %s has another owner now; its drain stops", lease.stream)
            self._live.abandon()
            return
        except StoreError as error:
            logger.exception("stream %s: the store failed", lease.stream)
            full = isinstance(error, StoreFull)
            ending = Ending(
                Moved.DRAIN_LOST, "store_full" if full else "store_failed", "the log could not be written any more"
            )
        except Exception:
            logger.exception("stream %s: the drain failed", lease.stream)
            ending = Ending(Moved.DRAIN_LOST, "drain_failed", "the drain failed; the server's log tells why")
        finally:
            if not self._live.abandoned:
                await self._seal(lease, ending)

    async def _seal(self, lease: Lease, ending: Ending) -> None:
        move(self._live.info.state, ending.moved)
        seal = Seal(ENDINGS[ending.moved], ending.detail, ending.message, ending.released, ending.retry_at)
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + SEAL_S):
            try:
                self._live.sealed(await self._store.seal(lease, seal))
                return
            except (LeaseLost, StreamNotFound):
                logger.warning("stream %s has another owner now; it seals", lease.stream)
            except StoreError:
                logger.exception("stream %s could not be sealed; the next start seals it", lease.stream)
        self._live.abandon()

    # --- the pour ------------------------------------------------------------------------------------------------

    def _wait_until(self, seconds: float, ending: Ending) -> None:
        """One scope for the whole pour, its deadline moved: one scope an event would cross a generator's own."""
        started = self._started + self._policy.max_duration_s
        until = anyio.current_time() + seconds
        self._scope.deadline = min(until, started)
        self._timeout = ending if until < started else self._too_long

    async def _pour(self, lease: Lease) -> Ending:
        policy, where = self._policy, self._where
        self._started = anyio.current_time()
        self._too_long = Ending(
            Moved.CAP_REACHED, "max_duration_s", f"stopped: the answer took longer than {policy.max_duration_s:g} s"
        )
        attempt = Attempt(upstream=self._source.upstream, started_at=self._store.now())
        self._wait_until(
            policy.first_byte_s,
            Ending(Moved.UPSTREAM_STALLED, "no_answer", f"{where} sent no answer within {policy.first_byte_s:g} s"),
        )
        try:
            answer = await self._source.open()
        except UpstreamUnreachable as error:
            return Ending(Moved.PROVIDER_FAILED, "unreachable", error.message, released=True)
        except (UpstreamLost, SourceFailed) as error:
            return _failure(error)
        try:
            head = answer.head
            request_id = head.get("x-request-id") or head.get("request-id")
            attempt = replace(attempt, status=head.status, request_id=request_id)
            await self._store.begin(lease, attempt, head)
            self._live.answered(attempt, head)
            return await (self._pour_ok(lease, answer) if head.ok else self._pour_refusal(lease, answer))
        finally:
            await answer.aclose()

    async def _pour_refusal(self, lease: Lease, answer: Answer) -> Ending:
        """A definite non-2xx is the answer, verbatim; it was not billed, so it releases the key."""
        head, wait = answer.head, retry_after_s(answer.head.headers)
        retry_at = None if wait is None else self._store.now() + wait
        refused = Ending(
            Moved.PROVIDER_FAILED, "status", f"{self._where} answered {head.status}", released=True, retry_at=retry_at
        )
        while True:
            self._wait_until(self._policy.settle_s, refused)
            try:
                data = await answer.receive()
            except (anyio.EndOfStream, UpstreamLost):
                return refused
            if ending := await self._log(lease, [data]):
                return replace(ending, released=True)

    async def _pour_ok(self, lease: Lease, answer: Answer) -> Ending:
        policy, where, live = self._policy, self._where, self._live
        scanner = spoken(live.info.new.dialect, answer.head).scanner()
        splitter = Splitter() if answer.head.is_sse else None
        first_byte_at = self._started + policy.first_byte_s
        silence = Ending(Moved.UPSTREAM_STALLED, "no_bytes", f"{where} sent nothing for {policy.stall_s:g} s")
        no_byte = Ending(
            Moved.UPSTREAM_STALLED, "no_first_byte", f"{where} sent no byte within {policy.first_byte_s:g} s"
        )
        while True:
            if self._ended:
                self._wait_until(policy.settle_s, self._ended)
            elif live.info.tail or (splitter and splitter.held):
                self._wait_until(policy.stall_s, self._with_counts(silence))
            else:
                self._wait_until(first_byte_at - anyio.current_time(), no_byte)
            try:
                data = await answer.receive()
            except anyio.EndOfStream:
                return self._ended or await self._at_end(lease, answer.framed, scanner, splitter)
            except (UpstreamLost, SourceFailed) as error:
                return self._ended or self._with_counts(_failure(error))
            if splitter is None:
                capped = await self._log(lease, [data])
            else:
                capped = await self._log_events(lease, splitter, scanner, data)
            if capped:
                return self._ended or capped

    async def _log_events(self, lease: Lease, splitter: Splitter, scanner: Scanner, data: bytes) -> Ending | None:
        cap, before = self._policy.max_event_bytes, splitter.held
        blocks = splitter.feed(data)
        too_large = before + len(data) > cap and (splitter.held > cap or any(len(block) > cap for block in blocks))
        if too_large:
            blocks = list(takewhile(lambda block: len(block) <= cap, blocks))
        events, ended = 0, self._ended
        for block in blocks:
            mark = scanner.scan(block)
            events += mark is not Mark.BLANK
            if ended is None and mark is Mark.END:
                ended = Ending(Moved.END_SEEN, "end_seen", f"{self._where} finished its answer")
            elif ended is None and mark is Mark.ERROR:
                ended = self._provider_error(scanner, first=self._live.info.events + events == 1)
        capped = await self._log(lease, blocks, events) if blocks else None
        if capped is None:
            self._ended = ended
        return capped or (self._capped("max_event_bytes", cap) if too_large else None)

    async def _at_end(self, lease: Lease, framed: bool, scanner: Scanner, splitter: Splitter | None) -> Ending:
        """The body ended by itself: is that the end of the answer? A rest that is no whole event is kept only if so."""
        where, rest = self._where, splitter.rest() if splitter else b""
        mark = scanner.scan(rest) if rest and framed else Mark.BLANK
        events = int(mark is not Mark.BLANK)
        if mark is Mark.ERROR:
            await self._log(lease, [rest], events)
            return self._provider_error(scanner, first=self._live.info.events == events)
        if not framed:
            return self._with_counts(
                Ending(Moved.UPSTREAM_CUT, "unframed_end", f"{where} closed a connection that had no framed end")
            )
        if mark is Mark.END or scanner.ends_at_framed_end():
            if rest and (capped := await self._log(lease, [rest], events)):
                return capped
            if splitter and not self._live.info.tail and self._source.upstream:
                return Ending(Moved.UPSTREAM_CUT, "no_first_byte", f"{where} ended its answer before the first byte")
            return Ending(Moved.END_SEEN, "framed_end", f"{where} finished its answer")
        return self._with_counts(
            Ending(Moved.UPSTREAM_CUT, "no_terminal_event", f"{where} ended the body without the terminal event")
        )

    async def _log(self, lease: Lease, blocks: list[bytes], events: int | None = None) -> Ending | None:
        """Append, then show. Returns the ending when a cap leaves no room; whole events that fit are kept, and of a
        payload without events (`events` is None) every byte that fits."""
        live, limit = self._live, self._policy.max_stream_bytes
        at, data = live.info.tail, blocks[0] if len(blocks) == 1 else b"".join(blocks)
        fits = at + len(data) <= limit
        if not fits:
            data, events = (data[: limit - at], None) if events is None else _whole(blocks, limit - at)
        if data:
            await self._store.append(lease, at, data, events or 0)
            live.logged(data, events or 0)
        return None if fits else self._capped("max_stream_bytes", limit)

    # --- endings -------------------------------------------------------------------------------------------------

    def _provider_error(self, scanner: Scanner, *, first: bool) -> Ending:
        message = f"{self._where} reported an error" + (f": {scanner.error}" if scanner.error else "")
        return Ending(Moved.PROVIDER_FAILED, "error_event", message, released=first)

    def _capped(self, name: str, limit: int) -> Ending:
        return self._with_counts(Ending(Moved.CAP_REACHED, name, f"stopped: the cap {name} = {limit} was reached"))

    def _with_counts(self, ending: Ending) -> Ending:
        info = self._live.info
        kept = f"{info.events} events kept" if info.events else "nothing kept" if not info.tail else "the rest kept"
        return replace(ending, message=f"{ending.message} after {info.tail} bytes; {kept}")


def _whole(blocks: list[bytes], room: int) -> tuple[bytes, int]:
    """The blocks that fit whole into `room` bytes, joined, and how many of them are events."""
    ends = accumulate(map(len, blocks))
    kept = [block for block, end in zip(blocks, ends, strict=True) if end <= room]
    return b"".join(kept), sum(map(has_data, kept))


def _failure(error: ResumeStreamError) -> Ending:
    if isinstance(error, SourceFailed):
        return Ending(Moved.PROVIDER_FAILED, error.detail, error.message)
    assert isinstance(error, UpstreamLost)
    return Ending(Moved.UPSTREAM_CUT, error.detail, error.message)


def shown_host(base_url: str) -> str:
    """How messages name an upstream: its host, never a path or query."""
    return urlsplit(base_url).netloc or "the source"
