"""Every way a stream can end: a code for programs, the move it is, and a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from .lifecycle import ENDINGS, Moved
from .model import Attempt, Seal

DETAILS: dict[str, tuple[Moved, str]] = {
    "end_seen": (Moved.END_SEEN, "{where} finished its answer"),
    "framed_end": (Moved.END_SEEN, "{where} finished its answer"),
    "status": (Moved.PROVIDER_FAILED, "{where} answered {status}"),
    "error_event": (Moved.PROVIDER_FAILED, "{where} reported an error"),
    "error_unended": (Moved.PROVIDER_FAILED, "{where} reported an error and did not end that event"),
    "unreachable": (Moved.PROVIDER_FAILED, "the upstream could not be reached"),
    "source_failed": (Moved.PROVIDER_FAILED, "{where} raised {type}"),
    "connection_closed": (Moved.UPSTREAM_CUT, "{where} closed the connection"),
    "connection_reset": (Moved.UPSTREAM_CUT, "{where} reset the connection"),
    "bad_framing": (Moved.UPSTREAM_CUT, "{where} sent something that is no HTTP/1.1"),
    "tls_failed": (Moved.UPSTREAM_CUT, "{where} broke the rules of TLS"),
    "no_answer": (Moved.UPSTREAM_CUT, "{where} closed the connection without an answer"),
    "no_first_byte": (Moved.UPSTREAM_CUT, "{where} ended its answer before the first byte"),
    "no_terminal_event": (Moved.UPSTREAM_CUT, "{where} ended the body without the terminal event"),
    "unframed_end": (Moved.UPSTREAM_CUT, "{where} closed a connection whose end had no frame"),
    "resume_gap": (Moved.UPSTREAM_CUT, "{where} went on behind an event that never came"),
    "silent": (Moved.UPSTREAM_STALLED, "{where} sent no answer within {limit:g} s"),
    "silent_body": (Moved.UPSTREAM_STALLED, "{where} sent no byte of its answer within {limit:g} s"),
    "no_bytes": (Moved.UPSTREAM_STALLED, "{where} sent nothing for {limit:g} s"),
    "requested": (Moved.STOP_ASKED, "stopped on request"),
    "deleted": (Moved.STOP_ASKED, "stopped and deleted on request"),
    "nobody_listens": (Moved.STOP_ASKED, "stopped because the last reader left"),
    "max_duration_s": (Moved.CAP_REACHED, "stopped: the answer took longer than {limit:g} s"),
    "max_stream_bytes": (Moved.CAP_REACHED, "stopped: the answer is larger than {limit} bytes"),
    "max_event_bytes": (Moved.CAP_REACHED, "stopped: one event of the answer is larger than {limit} bytes"),
    "shutdown": (Moved.DRAIN_LOST, "the server was stopped before the answer ended"),
    "process_died": (Moved.DRAIN_LOST, "the draining process died before the answer ended"),
    "given_up": (Moved.DRAIN_LOST, "the log could not be written for a while, and the answer was lost meanwhile"),
    "store_failed": (Moved.DRAIN_LOST, "the log could not be written any more"),
    "store_full": (Moved.DRAIN_LOST, "the log could not be written any more: no space is left"),
    "drain_failed": (Moved.DRAIN_LOST, "the drain failed; the server's log tells why"),
}
"""Stable codes. `source_failed` is refined with the exception's type, `source_failed:ValueError`."""


ERROR_UNENDED = "error_unended"
"""The detail where the payload ends with an event that reports the error, and lacks only its blank line: without that
no client reads it."""
OWN_FAILURES = frozenset({"status", "error_event", ERROR_UNENDED})
"""Details whose failure is in the payload already, in the provider's own words: no other is added after it."""
DELETED = "deleted"
"""The detail of a live stream that was deleted: nothing of it is kept."""
SEGMENT_ENDED = "segment_ended"
"""The detail of a segment that another one follows, unless it tells its failure itself."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream ends, before it is sealed."""

    moved: Moved
    detail: str
    message: str
    released: bool = False
    """The call that ended so was definitely not billed."""
    retry_at: float | None = None

    @classmethod
    def of(cls, detail: str, **values: object) -> Self:
        """The ending of that code, its sentence filled in."""
        moved, sentence = DETAILS[detail]
        return cls(moved, detail, sentence.format(**values))

    def sealing(self, attempts: Sequence[Attempt]) -> Seal:
        """The seal of a stream that made these calls, of which an open one ended so. The key is released only where not
        one of them can have been billed."""
        made = (self if attempt.ended_at is None else attempt for attempt in attempts)
        return replace(self.seal, released=all(one.released for one in made))

    def after(self, tail: int, events: int) -> Self:
        """The same, telling what is kept."""
        if self.detail == DELETED:
            return replace(self, message=f"{self.message} after {tail} bytes")
        kept = f"{events} event{'s' * (events > 1)} kept" if events else "nothing kept" if not tail else "they are kept"
        return replace(self, message=f"{self.message} after {tail} bytes; {kept}")

    @property
    def completed(self) -> bool:
        return self.moved is Moved.END_SEEN

    @property
    def told(self) -> bool:
        """The payload tells it."""
        return self.detail in OWN_FAILURES

    @property
    def seal(self) -> Seal:
        return Seal(ENDINGS[self.moved], self.detail, self.message, self.released, self.retry_at)
