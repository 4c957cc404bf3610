"""What to do about each error of ours: the advice that the code's own messages, which name names, are too short for."""

from __future__ import annotations

from resumestream.model import Outcome

_SETUP = "Mend the application; its log has the traceback."
_LOG = "The next step is in the message; the server's log tells more."
_STORE = "Implementers of a store raise it; a caller of the faces sees it only where a store breaks its contract."

ERRORS: dict[str, str] = {
    "internal": "Report it, with the server's log.",
    "config": _SETUP,
    "headers-failed": "Mend or retry what gives the upstream's headers; then the same request may be sent again.",
    "invalid-header": "Mend the header that the message names; nothing was started, the same key may be used.",
    "ambiguous-framing": "Send one `Content-Length` or one `Transfer-Encoding`. The connection is closed.",
    "invalid-query": "Mend the parameter that the message names.",
    "principal-unstable": "Use a static credential for keyed requests, or give the server an `authorize` hook.",
    "offset-malformed": "Use an offset as an answer gave it, `-1` or `now`, unchanged.",
    "unauthorized": "Show what the application's hook asks for.",
    "authorize-required": "Ask from this machine, or show a provider credential; the operator: pass `authorize=`.",
    "not-found": "Compare the path with the mount point: faces are below it.",
    "unknown-upstream": "Use one of the names that the message lists, or configure that upstream.",
    "stream-not-found": "Check the id and the credential; a stream is found by the principal who made it only.",
    "method-not-allowed": "Use one of the methods that the message lists.",
    "request-timeout": "Send it again, the body in one go; the key is not used up. The connection is closed.",
    "no-events": "Read it with `live=tail`.",
    "stream-gone": "Read the outcome and the final offset from the answer; the payload is not kept any longer.",
    "key-expired": "Use another key; or pay for a new call: send `Stream-Retry` with the stream's id beside this one.",
    "nothing-to-resume": "Leave the offset out to start, or read the stream by its id.",
    "request-too-large": "Send it without a key, unrecorded, or have the operator raise `max_request_bytes`.",
    "target-too-long": "Shorten path and query. The connection is closed.",
    "offset-beyond-tail": "Read from `now`, or from what `HEAD` gives as `Stream-Next-Offset`.",
    "key-reused": (
        "Give each request a key of its own. The answer's `Location` names the stream that the key has; "
        "`Stream-Match: key` reads it whatever the body; `Stream-Scope` tells requests apart by themselves."
    ),
    "retry-mismatch": "Read the id in the message: it is the one to name in `Stream-Retry`, if any.",
    "head-too-large": "Send fewer or shorter headers. The connection is closed.",
    "too-many-orphans": "Wait as `Retry-After` says, and close or read what was left running.",
    "too-many-of-principal": "Wait as `Retry-After` says until one of your own streams has ended, or stop one.",
    "upgrade-unsupported": "Use the provider's HTTP endpoint.",
    "not-installed": "Install what the message names.",
    "upstream-redirect": "The operator: configure the URL that the provider redirects to.",
    "upstream-unreachable": "Send it again: nothing was sent, the key is free. The operator: check name, port and TLS.",
    "upstream-lost": "It went straight through and may have been done, or billed: look there before you send it again.",
    "source-failed": "Mend the generator; the application's log has its exception.",
    "upstream-silent": "As for `upstream-lost`. The operator: raise `first_byte_s`, if the provider needs longer.",
    "not-started": "Add one of the lines that the message lists.",
    "draining": "Send it again, after `Retry-After` where that is there; readers come back with their offset or key.",
    "too-many-streams": "Wait as `Retry-After` says; the operator: raise `max_live_streams`.",
    "http-version-unsupported": "Ask in HTTP/1.1; behind nginx set `proxy_http_version 1.1`.",
    "store-failed": _LOG,
    "store-locked": "Stop the server that holds the store, or use another one.",
    "store-unusable": "Run `resumestream verify`; the message says whether it is damage, rights, a version or a place.",
    "store-busy": "Send it again; if it goes on, find what holds the write lock, or raise `busy_s`.",
    "store-full": "Make room on the disk, or raise `max_total_bytes`; then send it again.",
    "binding-moved": _STORE,
    "lease-lost": _STORE,
    "stream-sealed": _STORE,
    "offset-conflict": _STORE,
}
"""By code."""

OUTCOMES: dict[Outcome, str] = {
    Outcome.PROVIDER_ERROR: "The provider failed without an answer to pass on, or within one.",
    Outcome.TRUNCATED: "The provider's connection ended before its answer did.",
    Outcome.STALLED: "The provider fell silent for longer than `first_byte_s` or `stall_s`.",
    Outcome.CANCELLED: "Somebody stopped it, or its `on_disconnect` rule did.",
    Outcome.OVERFLOW: "The answer was over a cap: bytes, an event's size, or duration.",
    Outcome.INTERRUPTED: "The server went down, or died, before the answer had ended.",
}
"""What stands behind a problem that is no refusal: the stream of the key ended so, and has no status to give."""
