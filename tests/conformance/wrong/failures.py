"""Wrong where something fails: the upstream, the readers, the callers' rights, and what follows a failed call."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from starlette.requests import Request

from resumestream import hub, route
from resumestream.endings import Ending
from resumestream.errors import UpstreamLost
from resumestream.http import access, calls, forms, problems, streams
from resumestream.http.site import Site
from resumestream.hub import Hub
from resumestream.reads import Reads
from resumestream.remote import Behind
from resumestream.upstream import call
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


def always_decorated(right: Any) -> Any:
    """Keep-alives also reach who goes on at an offset."""
    return lambda self, dialect, *, exact, cuttable=True: right(self, dialect, exact=False, cuttable=cuttable)


def at_once(right: Any) -> Any:
    """A grace is none: the stream is stopped when its last reader leaves."""
    return lambda text: right("cancel" if text.startswith("grace:") else text)


def impatient(right: Any) -> Any:
    """A retry does not wait for as long as it was asked to."""
    return lambda self, step, retry_after_s, jitter: right(self, step, None, jitter)


def without_end(right: Any) -> Any:
    """A refusal does not say how its stream ended."""
    return lambda info: nullcontext()


def echoing(right: Any) -> Any:
    """A provider's refusal is given on with the credential in it."""
    return lambda secrets=(): right()


def ticket_ignored(right: Any) -> Any:
    """A wrong ticket does not matter beside the right credential."""

    async def wrong(self: Site, conn: Any, stream: Any, action: Any) -> Any:
        return await right(self, Request({**conn.scope, "query_string": b""}), stream, action)

    return wrong


def twice(right: Any) -> Any:
    """What a provider sends again is given again."""
    return lambda self, data: data


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
    "keep-alives-behind-an-offset": Wrong(("RS-BEAT-07",), inside=put(forms.Provider, "__init__", always_decorated)),
    "grace-ignored": Wrong(("RS-DISC-05",), inside=put(hub, "grace_s", at_once)),
    "end-untold-by-refusals": Wrong(("RS-ERR-05",), inside=put(streams, "about", without_end)),
    "credential-echoed": Wrong(("RS-PRIV-03",), inside=put(call, "Redactor", echoing)),
    "ticket-ignored": Wrong(("RS-AUTH-11",), inside=put(Site, "stream_for", ticket_ignored)),
    "retry-after-ignored": Wrong(("RS-OVER-06",), inside=put(route.Route, "_again", impatient)),
    "sent-away-is-gone": Wrong(("RS-SEG-14",), inside=put(Reads, "_send_away", always(None))),
    "events-come-twice": Wrong(("RS-RES-04",), inside=put(Behind, "feed", twice)),
}
