"""resumestream: streaming LLM answers that outlive their caller.

One log, many readers; one provider call; one bill; one definite outcome.
"""

from __future__ import annotations

from .embed import ResumeStream
from .errors import ConfigError, ResumeStreamError
from .http.access import anyone
from .http.guard import Guard
from .model import Event, Outcome, Page, Principal, Query, State, StreamInfo
from .policy import Policy
from .upstream import Upstream

__all__ = [
    "ConfigError",
    "Event",
    "Guard",
    "Outcome",
    "Page",
    "Policy",
    "Principal",
    "Query",
    "ResumeStream",
    "ResumeStreamError",
    "State",
    "StreamInfo",
    "Upstream",
    "anyone",
]
