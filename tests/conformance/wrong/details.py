"""Wrong in one case of several: right wherever a check looks once."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.types import Scope

from resumestream import claims, identity, pour
from resumestream.http import asks, forms
from resumestream.upstream import headers as upstream_headers

from . import edits
from .fault import Wrong, put


def consent_goes_on(right: Any) -> Any:
    """All headers of the document stay here, but for `Stream-Retry`."""
    others = ("scope", "occurrence", "match", "offset", "exact", "on-disconnect", "retain", "label")
    return tuple(prefix for prefix in right if prefix != "stream-") + tuple(f"stream-{name}" for name in others)


def for_ever(right: Any) -> Any:
    """A refusal that asked for time is given on also when that has passed."""
    return lambda info, now: right(info, 0)


def only(*names: str, digits: bool = False) -> Any:
    """The time to wait is read from these headers alone, and where `digits`, from no date."""

    def wrong(right: Any) -> Any:
        def read(fields: Any) -> float | None:
            return right([(name, value) for name, value in fields if name in names and (value.isdigit() or not digits)])

        return read

    return put(pour, "retry_after_s", wrong)


def as_floats(body: bytes) -> bytes | None:
    """Numbers as many languages read them."""
    try:
        return json.dumps(json.loads(body, parse_int=float), sort_keys=True).encode()
    except ValueError:
        return None


def with_lf(block: bytes, value: bytes) -> bytes:
    """The line of the id ends in LF, whatever the event's own lines end in."""
    bare = block.rstrip(b"\r\n")
    return bare + block[len(bare) :][: (len(block) - len(bare)) // 2] + b"id: " + value + b"\n\n"


def untold(scope: Scope, fields: edits.RawHeaders) -> edits.RawHeaders:
    """The 202 of an attach does not say how the stream ended."""
    asynchronous = (b"preference-applied", b"respond-async") in fields
    return [(key, value) for key, value in fields if key != b"stream-outcome" or not asynchronous]


WRONG = {
    "consent-goes-on": Wrong(("RS-GW-11",), inside=put(upstream_headers, "_NOT_FORWARDED_PREFIXES", consent_goes_on)),
    "refused-for-ever": Wrong(("RS-EARLY-04",), inside=put(claims, "_standing", for_ever)),
    "milliseconds-ignored": Wrong(("RS-EARLY-04",), inside=only("retry-after", "date")),
    "dates-ignored": Wrong(("RS-EARLY-04",), inside=only("retry-after", "retry-after-ms", digits=True)),
    "numbers-as-floats": Wrong(("RS-MATCH-03",), inside=put(identity, "_canonical_json", lambda right: as_floats)),
    "ids-end-in-lf": Wrong(("RS-SSE-01",), inside=put(forms, "with_id", lambda right: with_lf)),
    "deletion-untold": Wrong(("RS-HDR-08",), edits.without(b"stream-outcome", method="DELETE")),
    "attach-untold": Wrong(("RS-HDR-08",), edits.headers(untold)),
    "whole-seconds": Wrong(("RS-KEEP-12",), inside=put(asks, "_SECONDS", lambda right: re.compile(r"[0-9]+"))),
}
