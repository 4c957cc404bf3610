"""Whether a refusal may pass, and how long its provider asked us to wait."""

from __future__ import annotations

import re
from email.utils import mktime_tz, parsedate_tz

from .model import Headers

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
MOST_S = 86_400
"""Longer than any limit that a provider counts by: a wait beyond it is a mistake, or meant to hold a key for ever."""

MAX_S = 60
"""A provider that asks for more time than this is not waited for."""


def may_pass(status: int) -> bool:
    """Whether the same request may be answered otherwise soon."""
    return status in (408, 429) or status >= 500


def retry_after_s(headers: Headers) -> float | None:
    """Seconds from `retry-after-ms` (what the official SDKs read first) or `Retry-After`; None without. A date counts
    from the answer's own `Date`: the provider's clock is the one that it means. At most MOST_S."""
    given = dict(headers)
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(given.get(name, ""))
        if seconds is not None:
            return min(seconds * unit, MOST_S)
    until, now = _date(given.get("retry-after", "")), _date(given.get("date", ""))
    return min(max(0.0, until - now), MOST_S) if until is not None and now is not None else None


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _date(text: str) -> float | None:
    """Seconds since the epoch."""
    parsed = parsedate_tz(text)
    try:
        return mktime_tz(parsed) if parsed and parsed[9] is not None else None
    except (ValueError, OverflowError):  # a year that no calendar has
        return None
