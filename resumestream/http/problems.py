"""Refusals and failures as answers: RFC 9457, and on the gateway what the providers' SDKs show as well."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ..errors import (
    KeyExpired,
    KeyReused,
    MethodNotAllowed,
    NothingToResume,
    ResumeStreamError,
    RetryMismatch,
    StreamGone,
    Unauthorized,
    UpstreamRedirect,
)
from ..model import Outcome, StreamInfo

OUTCOME_STATUS: dict[Outcome, int] = {
    Outcome.STALLED: 504,
    Outcome.TRUNCATED: 502,
    Outcome.PROVIDER_ERROR: 502,
    Outcome.INTERRUPTED: 502,
    Outcome.CANCELLED: 410,
    Outcome.OVERFLOW: 507,
}
"""The status of a failed stream that has no upstream status to give."""

_LOCATED = (KeyReused, KeyExpired, RetryMismatch, NothingToResume, StreamGone, UpstreamRedirect)
"""Errors about a stream that the caller may look at."""


def problem(
    error: ResumeStreamError, *, gateway: bool, streams: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a refused request. `streams` is the absolute path of the streams face, for `Location`."""
    extra = dict(headers or {})
    if error.stream and isinstance(error, _LOCATED):
        extra |= _naming(error.stream, streams)
    if error.retry_after_s is not None:
        extra["retry-after"] = str(max(0, math.ceil(error.retry_after_s)))
    if not error.retry:
        extra["x-should-retry"] = "false"
    if isinstance(error, MethodNotAllowed):
        extra["allow"] = ", ".join(error.allowed)
    if isinstance(error, Unauthorized):
        extra["www-authenticate"] = "Bearer"  # RFC 9110 wants a challenge; no browser asks its user for this one
    members: dict[str, Any] = {"stream_id": error.stream} if error.stream else {}
    if error.outcome is not None and error.next_offset is not None:
        extra["stream-outcome"] = error.outcome
        members |= {"outcome": error.outcome, "next_offset": error.next_offset}
    return _answer(error.status, error.code, error.message, members, extra, gateway=gateway)


def outcome_problem(info: StreamInfo, *, gateway: bool, streams: str | None = None) -> Response:
    """The answer for a stream that is sealed, not `completed`, and has no upstream status to give."""
    seal = info.seal
    if seal is None or seal.outcome is Outcome.COMPLETED:
        raise ValueError(f"stream {info.id} did not fail")
    extra = {"stream-outcome": seal.outcome.value, **_naming(info.id, streams)}
    if seal.released:
        step = "It was not billed: send the request again to start a new call."
    else:
        extra["x-should-retry"] = "false"
        step = f"The provider may have billed it.{consent(info)}"
    message = f"Stream {info.id} ended {seal.outcome.value}: {seal.message.rstrip('.')}. {step}"
    members = {"stream_id": info.id, "outcome": seal.outcome.value, "outcome_detail": seal.detail}
    code = seal.outcome.value.replace("_", "-")
    return _answer(OUTCOME_STATUS[seal.outcome], code, message, members, extra, gateway=gateway)


def consent(info: StreamInfo) -> str:
    """How a caller pays again: with a header, unless there is no key, or the source is a generator of the host's own,
    which takes the consent in `retry_of`."""
    if info.new.key is None or not info.new.upstream:
        return ""
    return f" To pay for a new call, send the request again with Stream-Retry: {info.id} beside its key."


def _answer(
    status: int, code: str, message: str, members: Mapping[str, Any], headers: Mapping[str, str], *, gateway: bool
) -> Response:
    body = {
        "type": f"urn:resumestream:problem:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": message,
        **members,
    }
    if gateway:
        body["error"] = {"message": message, "type": "resumestream_error", "code": code}
    return Response(
        json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        status,
        {"cache-control": "no-store", **headers},
        media_type="application/problem+json",
    )


def _naming(stream: str, streams: str | None) -> dict[str, str]:
    location = {} if streams is None else {"location": f"{streams}/{stream}"}
    return {"stream-id": stream, **location}
