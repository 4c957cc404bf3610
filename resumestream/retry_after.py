"""How long a provider asked us to wait."""

from __future__ import annotations

import math

from .model import Headers


def retry_after_s(headers: Headers) -> float | None:
    """Seconds from `retry-after-ms` (what the official SDKs read first) or `Retry-After` in seconds; None without.

    The HTTP-date form of Retry-After is not read: it needs the provider's clock, and the answer's `Date` with it.
    """
    given = dict(headers)
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(given.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None
