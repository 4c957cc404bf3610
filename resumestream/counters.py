"""What this process has done since it started: added to once a call, a request or an answer, never once a chunk."""

from __future__ import annotations

from collections import Counter, defaultdict

from .errors import ResumeStreamError
from .metering import Sums
from .model import StreamInfo


class Counters:
    """Every number only grows. Nothing is kept by what a caller chose, so they do not grow in number."""

    def __init__(self) -> None:
        self.calls = defaultdict[str, Sums](Sums)
        """By upstream, the provider calls of the streams that were sealed here, whichever process made them."""
        self.refusals = Counter[str]()
        """By `ResumeStreamError.code`."""
        self.given_bytes = 0
        """Payload in readers' answers that have ended."""

    def sealed(self, info: StreamInfo) -> None:
        """This process, and no other, has sealed that stream."""
        for attempt in info.attempts:
            self.calls[attempt.upstream].add_call(attempt)

    def refused(self, error: ResumeStreamError) -> None:
        """A caller was told so."""
        self.refusals[error.code] += 1

    def given(self, payload_bytes: int) -> None:
        """An answer has ended."""
        self.given_bytes += payload_bytes
