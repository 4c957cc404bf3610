"""Wrong where something fails: the upstream, the readers, the callers' rights, and what follows a failed call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from resumestream import route
from resumestream.endings import Ending
from resumestream.errors import UpstreamLost
from resumestream.http import access, calls, forms, problems
from resumestream.http.site import Site
from resumestream.hub import Hub
from resumestream.upstream.resuming import Resuming
from tests.simulation.faults import ambiguous_call_repeated, reader_stops_it

from . import edits
from .fault import Wrong, always, put


def keeps_the_key(right: Any) -> Any:
    """A call that the provider refused, unbilled, is replayed for ever."""
    return lambda ending, attempts: replace(right(ending, attempts), released=False)


def without_frame(right: Any) -> Any:
    """The failure of an answer is in none of its bytes, and it breaks."""
    return lambda self, info: right(self, info) if forms.ends_clean(info) else None


def silent(right: Any) -> Any:
    """Who waits hears nothing."""

    def wrong(self: Site, *args: Any, **options: Any) -> Any:
        answer = right(self, *args, **options)
        answer._keepalive_s = float("inf")
        return answer

    return wrong


def retry_not_discouraged(right: Any) -> Any:
    """Errors do not say that a retry is useless."""

    def wrong(*args: Any, **options: Any) -> Any:
        answer = right(*args, **options)
        if "x-should-retry" in answer.headers:
            del answer.headers["x-should-retry"]
        return answer

    return wrong


def known_to_all(right: Any) -> Any:
    """Who knows a stream's id may do everything with it."""

    async def wrong(self: Site, conn: Any, info: Any, action: Any) -> bool:
        return info is not None

    return wrong


def one_for_all(right: Any) -> Any:
    """All callers are one principal."""
    return lambda credential, secret: "everybody"


def never(*failures: route.Failure) -> Any:
    """What failed so is not called again, there or elsewhere."""
    row = dict.fromkeys(route.Shown, route.Retry.NEVER)
    return lambda: patch.dict(route.DECISIONS, dict.fromkeys(failures, row))


def everywhere(right: Any) -> Any:
    """A fallback gets the credential that was sent to another upstream."""
    return lambda fields, *, own=None, last_event_id_is_ours=False: right(
        fields, own=None, last_event_id_is_ours=last_event_id_is_ours
    )


def without_segments(right: Any) -> Any:
    """A call that broke off is not followed by another, whatever the operator wants."""
    return lambda self, legs, *, segments=False: right(self, legs)


def not_attached(right: Any) -> Any:
    """A provider that goes on without us is not read on."""

    async def wrong(self: Resuming) -> Any:
        raise UpstreamLost("it is not asked again")

    return wrong


BUSY, UNREACHABLE = route.Failure.BUSY, route.Failure.UNREACHABLE

WRONG = {
    "refusal-keeps-the-key": Wrong(("RS-EARLY-02",), inside=put(Ending, "sealing", keeps_the_key)),
    "called-again-unasked": Wrong(("RS-OVER-03",), inside=ambiguous_call_repeated),
    "failure-frame-missing": Wrong(("RS-CUT-04",), inside=put(forms.Provider, "end", without_frame)),
    "keep-alives-missing": Wrong(("RS-BEAT-01",), inside=put(Site, "answer", silent)),
    "reader-stops-it": Wrong(("RS-DISC-01", "RS-KEY-10"), inside=reader_stops_it),
    "orphans-run-on": Wrong(("RS-DISC-04",), inside=put(Hub, "_left", always(None))),
    "retry-not-discouraged": Wrong(("RS-ERR-04",), inside=put(problems, "_answer", retry_not_discouraged)),
    "strangers-read": Wrong(("RS-AUTH-01",), inside=put(Site, "_owns", known_to_all)),
    "foreign-is-403": Wrong(("RS-AUTH-01", "RS-ERR-11"), edits.status(403, 404)),
    "all-are-one": Wrong(("RS-AUTH-01", "RS-KEY-08", "RS-SCOPE-06"), inside=put(access, "principal_of", one_for_all)),
    "anything-may-sniff": Wrong(("RS-PRIV-08",), edits.without(b"x-content-type-options")),
    "not-ready": Wrong(("RS-OPS-02",), edits.status(404, 200, path="/readyz")),
    "never-called-again": Wrong(("RS-OVER-01",), inside=never(BUSY, UNREACHABLE)),
    "credential-leaks": Wrong(("RS-OVER-05", "RS-AUTH-09"), inside=put(calls, "forwarded", everywhere)),
    "no-segments": Wrong(("RS-SEG-01",), inside=put(route.Route, "__init__", without_segments)),
    "next-segment-untold": Wrong(("RS-SEG-06",), edits.without(b"stream-next-segment")),
    "not-resumed": Wrong(("RS-RES-01",), inside=put(Resuming, "_attached", not_attached)),
}
