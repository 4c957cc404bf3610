"""Errors as answers: what a person reads, what an SDK shows, what a retry obeys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from starlette.responses import Response

from resumestream import errors
from resumestream.errors import KeyReused, ResumeStreamError, StreamNotFound, TooManyStreams, UpstreamLost
from resumestream.http.problems import OUTCOME_STATUS, outcome_problem, problem
from resumestream.model import NewStream, Outcome, Seal, StreamId, StreamInfo

ID = StreamId("st_1")
FAILED = StreamInfo(
    NewStream(ID, "me", "openai", "worker", created_at=0, retain_s=60, tombstone_s=60, key="hash"),
    tail=18_234,
    seal=Seal(Outcome.TRUNCATED, "fin", "api.openai.com closed the connection."),
)


def body(response: Response) -> Any:
    return json.loads(bytes(response.body))


def subclasses(kind: type[ResumeStreamError]) -> Iterator[type[ResumeStreamError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def make(kind: type[ResumeStreamError]) -> ResumeStreamError:
    if kind is errors.OffsetConflict:
        return errors.OffsetConflict(at=1, tail=2)
    if kind is errors.MethodNotAllowed:
        return errors.MethodNotAllowed("PUT", ("GET", "HEAD"))
    if issubclass(kind, UpstreamLost):
        return kind("It is lost.", detail="fin")
    return kind("It is wrong. Do this.")


def test_what_http_wants_beside_it() -> None:
    """RFC 9110, 15.5.6 and 15.5.2."""
    assert problem(make(errors.MethodNotAllowed), gateway=False).headers["allow"] == "GET, HEAD"
    assert problem(make(errors.Unauthorized), gateway=False).headers["www-authenticate"] == "Bearer"


def test_a_problem_says_it_all() -> None:
    """RFC 9457 members, our stream, and where to look."""
    response = problem(KeyReused("Stream st_1 has it.", stream=ID), gateway=False, streams="/llm/streams")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["stream-id"] == ID
    assert response.headers["location"] == "/llm/streams/st_1"
    assert body(response) == {
        "type": "urn:resumestream:problem:key-reused",
        "title": "Key reused",
        "status": 422,
        "detail": "Stream st_1 has it.",
        "stream_id": ID,
    }


def test_the_gateway_adds_what_sdks_show() -> None:
    """The member that every provider's SDK looks for."""
    assert body(problem(KeyReused("Stream st_1 has it."), gateway=True))["error"] == {
        "message": "Stream st_1 has it.",
        "type": "resumestream_error",
        "code": "key-reused",
    }


@pytest.mark.parametrize("kind", sorted(set(subclasses(ResumeStreamError)), key=lambda kind: kind.__name__))
def test_every_error_has_its_answer(kind: type[ResumeStreamError]) -> None:
    """The class alone decides status, type, and whether a retry is told to be useless."""
    response = problem(make(kind), gateway=True)
    assert response.status_code == body(response)["status"] == kind.status
    assert body(response)["type"] == f"urn:resumestream:problem:{kind.code}"
    assert response.headers.get("x-should-retry") == (None if kind.retry else "false")
    assert "location" not in response.headers


def test_retry_after_is_rounded_up() -> None:
    """Whole seconds, never too early; headers of the caller stay."""
    error = TooManyStreams("Later.", retry_after_s=0.2)
    response = problem(error, gateway=True, headers={"allow": "GET"})
    assert response.headers["retry-after"] == "1"
    assert response.headers["allow"] == "GET"


def test_what_is_not_there_is_not_pointed_at() -> None:
    """A 404 leads nowhere."""
    response = problem(StreamNotFound("There is no stream st_1.", stream=ID), gateway=False, streams="/streams")
    assert "location" not in response.headers
    assert "stream-id" not in response.headers


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.STALLED, 504),
        (Outcome.TRUNCATED, 502),
        (Outcome.PROVIDER_ERROR, 502),
        (Outcome.INTERRUPTED, 502),
        (Outcome.CANCELLED, 410),
        (Outcome.OVERFLOW, 507),
    ],
)
def test_the_status_of_each_failure(outcome: Outcome, status: int) -> None:
    """The contract's row, and nothing besides it."""
    assert set(OUTCOME_STATUS) == set(Outcome) - {Outcome.COMPLETED}
    info = replace(FAILED, seal=Seal(outcome, "detail", "It ended."))
    response = outcome_problem(info, gateway=False)
    assert response.status_code == status
    assert response.headers["stream-outcome"] == outcome.value
    assert body(response)["outcome"] == outcome.value


def test_a_failed_stream_says_how_to_go_on() -> None:
    """What happened, what is kept where, and how to consent to pay again; no SDK retries it by itself."""
    response = outcome_problem(FAILED, gateway=True, streams="/streams")
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["location"] == "/streams/st_1"
    said = body(response)
    assert said["type"] == "urn:resumestream:problem:truncated"
    assert said["outcome_detail"] == "fin"
    assert said["error"]["message"] == said["detail"]
    for piece in ("st_1", "api.openai.com closed the connection. The provider may", "Stream-Retry: st_1"):
        assert piece in said["detail"]


def test_a_released_stream_invites_a_retry() -> None:
    """Nothing was billed: the SDK's own retry may start the next call."""
    seal = Seal(Outcome.PROVIDER_ERROR, "unreachable", "No connection.", released=True)
    response = outcome_problem(replace(FAILED, tail=0, seal=seal), gateway=True)
    assert "x-should-retry" not in response.headers
    assert "not billed" in body(response)["detail"]
    assert "No connection. It was" in body(response)["detail"]


def test_a_keyless_stream_is_not_told_to_use_its_key() -> None:
    """There is none to send Stream-Retry beside."""
    response = outcome_problem(replace(FAILED, new=replace(FAILED.new, key=None)), gateway=False)
    assert "Stream-Retry" not in body(response)["detail"]


@pytest.mark.parametrize("info", [replace(FAILED, seal=None), replace(FAILED, seal=Seal(Outcome.COMPLETED, "", ""))])
def test_only_failures_have_an_outcome_problem(info: StreamInfo) -> None:
    """Asking for one of a live or completed stream is a mistake in the program."""
    with pytest.raises(ValueError, match="st_1"):
        outcome_problem(info, gateway=False)


# --- the real SDKs


def answering(response: Response) -> tuple[httpx2.Client, list[httpx2.Request]]:
    """A client whose every request gets `response`, and what it was asked."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(response.status_code, headers=response.headers, content=bytes(response.body))

    return httpx2.Client(transport=httpx2.MockTransport(answer)), seen


def test_openai_shows_the_message_once() -> None:
    """Its exception has our text and code, and a useless retry is not made."""
    client, seen = answering(outcome_problem(FAILED, gateway=True))
    sdk = openai.OpenAI(api_key="k", base_url="http://gateway/openai", http_client=client)
    with client, pytest.raises(openai.InternalServerError, match="Stream-Retry: st_1") as raised:
        sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    assert raised.value.code == "truncated"
    assert len(seen) == 1


def test_anthropic_shows_the_message_once() -> None:
    """The same, on Anthropic's wire."""
    client, seen = answering(outcome_problem(FAILED, gateway=True))
    sdk = anthropic.Anthropic(api_key="k", base_url="http://gateway/anthropic", http_client=client)
    with client, pytest.raises(anthropic.InternalServerError, match="Stream-Retry: st_1"):
        sdk.messages.create(max_tokens=1, model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    assert len(seen) == 1


def test_google_shows_the_message() -> None:
    """The same, on Google's; it does not retry unless told to."""
    client, seen = answering(outcome_problem(FAILED, gateway=True))
    options = genai.types.HttpOptions(base_url="http://gateway/gemini", httpx_client=client)
    sdk = genai.Client(api_key="k", http_options=options)
    with client, pytest.raises(genai_errors.ServerError, match="Stream-Retry: st_1"):
        list(sdk.models.generate_content_stream(model="m", contents="x"))
    assert len(seen) == 1
