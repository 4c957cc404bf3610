"""The provider side: which upstreams there are, and one HTTP/1.1 call to one of them."""

from __future__ import annotations

from .call import Call
from .config import KNOWN, Upstream, check_fallbacks
from .headers import RawHeaders, forwarded, is_forwarding, recorded, replayable
from .pool import Pool
from .resuming import Resumable, read_on
from .target import target, without_credentials

__all__ = [
    "KNOWN",
    "Call",
    "Pool",
    "RawHeaders",
    "Resumable",
    "Upstream",
    "check_fallbacks",
    "forwarded",
    "is_forwarding",
    "read_on",
    "recorded",
    "replayable",
    "target",
    "without_credentials",
]
