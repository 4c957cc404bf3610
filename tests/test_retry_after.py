"""Every way a provider says how long to wait."""

from __future__ import annotations

import pytest

from resumestream.model import Headers
from resumestream.retry_after import retry_after_s

DATE = ("date", "Fri, 20 Nov 2026 10:00:00 GMT")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), None),
        ((("retry-after", "7"),), 7),
        ((("retry-after", "0"),), 0),
        ((("retry-after", "1.5"),), 1.5),
        ((("retry-after", "7"), ("retry-after-ms", "250")), 0.25),
        ((("retry-after-ms", "soon"), ("retry-after", "7")), 7),
        ((DATE, ("retry-after", "Fri, 20 Nov 2026 10:00:20 GMT")), 20),
        ((DATE, ("retry-after", "Fri, 20 Nov 2026 11:00:20 +0100")), 3620 - 3600),
        ((DATE, ("retry-after", "Fri, 20 Nov 2026 09:00:00 GMT")), 0),
        ((("retry-after", "Fri, 20 Nov 2026 10:00:20 GMT"),), None),
        ((("date", "now"), ("retry-after", "Fri, 20 Nov 2026 10:00:20 GMT")), None),
        ((("retry-after", "99999999999"),), 86_400),
        ((DATE, ("retry-after", "Fri, 31 Dec 9998 23:59:59 GMT")), 86_400),
        ((DATE, ("retry-after", "Fri, 31 Dec 99999 23:59:59 GMT")), None),
        ((("retry-after", "1e308"),), None),
        ((("retry-after", "5_0"),), None),
        ((("retry-after", "-1"),), None),
        ((("retry-after", "inf"),), None),
        ((("retry-after", "nan"),), None),
        ((("retry-after", "later"),), None),
    ],
)
def test_how_long(headers: Headers, seconds: float | None) -> None:
    """Milliseconds before seconds, a date by the provider's own clock, and nothing for what is neither."""
    assert retry_after_s(headers) == seconds
