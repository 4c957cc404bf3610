"""The provider side: which upstreams there are, and one HTTP/1.1 call to one of them."""

from __future__ import annotations

from .call import Call
from .config import KNOWN, Upstream, check_fallbacks
from .headers import RawHeaders, every, forwarded, is_forwarding, recorded, replayable, who_asks
from .logged import Logged
from .pool import Pool
from .resuming import Resumable, Resuming
from .target import target, without_credentials

__all__ = [
    "KNOWN",
    "Call",
    "Logged",
    "Pool",
    "RawHeaders",
    "Resumable",
    "Resuming",
    "Upstream",
    "check_fallbacks",
    "every",
    "forwarded",
    "is_forwarding",
    "recorded",
    "replayable",
    "target",
    "who_asks",
    "without_credentials",
]
