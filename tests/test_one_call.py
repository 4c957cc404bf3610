"""One key, one provider call: however many callers, whatever they retry; and what a key refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import anthropic
import openai
import pytest

from resumestream.testing.provider import Script
from resumestream.testing.running import ServerName

from .clients.plain import Plain, Reply
from .clients.sdks import MODEL, SDK_WARNINGS, SDKS, ask
from .clients.served import Served, served

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)

CALLERS = 50
TOKENS = 6
WHOLE = Script(tokens=TOKENS).text
CHAT = SDKS["openai-chat"].path
BODY = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "one"}]}
OTHER_BODY = {**BODY, "messages": [{"role": "user", "content": "two"}]}
KEY = {"Idempotency-Key": "turn-1"}


@pytest.fixture
def gateway() -> Iterator[Served]:
    with served() as gateway:
        gateway.provider.script(default=Script(tokens=TOKENS))
        yield gateway


@pytest.fixture
def plain(gateway: Served) -> Iterator[Plain]:
    with Plain(gateway.url) as plain:
        yield plain


# --- many callers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])
def test_fifty_callers_at_once_make_one_provider_call(server: ServerName, store: str, tmp_path: Path) -> None:
    """All have the head of the answer before its first byte exists, and all read the same body."""
    url = "memory:" if store == "memory" else f"sqlite:///{tmp_path}/streams.db"
    together = Barrier(CALLERS)
    with served(url, server=server) as gateway, ExitStack() as connections:
        gateway.provider.script(Script(tokens=TOKENS, hold_at=0))

        def begin(caller: Plain) -> object:
            together.wait(timeout=20)
            return caller.begin("POST", CHAT, b'{"stream": true}', KEY)

        callers = [connections.enter_context(Plain(gateway.url)) for _ in range(CALLERS)]
        with ThreadPoolExecutor(CALLERS) as threads:
            responses = list(threads.map(begin, callers))
            gateway.provider.release()
            replies = list(threads.map(Plain.rest, callers, responses))

        (call,) = gateway.provider.ledger()
        assert {reply.body for reply in replies} == {gateway.provider.sent(call.number)}
        assert {(reply.status, reply.cut) for reply in replies} == {(200, False)}
        assert len({reply.headers["stream-id"] for reply in replies}) == 1
        assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1


def test_fifty_callers_of_a_silent_provider_make_one_call(gateway: Served) -> None:
    """Whoever attaches while there is no answer yet waits for its head."""
    gateway.provider.script(Script(tokens=TOKENS, fault="stall", before_head=True))
    together = Barrier(CALLERS + 1)

    def post(_: int) -> Reply:
        with Plain(gateway.url) as caller:
            together.wait(timeout=20)
            return caller.post(CHAT, BODY, KEY)

    with ThreadPoolExecutor(CALLERS) as threads:
        replies = threads.map(post, range(CALLERS))
        together.wait(timeout=20)
        gateway.provider.wait_for(lambda calls: any(call.held for call in calls))
        gateway.provider.release()
        assert {reply.body for reply in replies} == {gateway.provider.sent(1)}
    assert len(gateway.provider.ledger()) == 1


# --- one key, two requests ------------------------------------------------------------------------------------------


def test_another_request_with_the_same_key_is_refused_by_name(gateway: Served, plain: Plain) -> None:
    """422, with the stream it would have meant, and where that is."""
    first = plain.post(CHAT, BODY, KEY)
    refused = plain.post(CHAT, OTHER_BODY, KEY)
    stream = first.headers["stream-id"]
    assert refused.status == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["location"] == f"/llm/streams/{stream}"
    assert refused.headers["x-should-retry"] == "false"
    problem = refused.json()
    assert problem["type"] == "urn:resumestream:problem:key-reused"
    assert problem["stream_id"] == stream
    assert stream in problem["detail"]
    assert len(gateway.provider.ledger()) == 1


def test_the_openai_sdk_shows_the_refusal_and_does_not_retry_it(gateway: Served) -> None:
    """One POST, and an error that says what to do."""
    posts: list[str] = []
    client = SDKS["openai-chat"].sync(gateway.url, KEY)
    with client:
        client._client.event_hooks["request"].append(lambda request: posts.append(request.method))
        client.chat.completions.create(model=MODEL, messages=BODY["messages"])
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model=MODEL, messages=OTHER_BODY["messages"])
    assert caught.value.status_code == 422
    assert caught.value.code == "key-reused"
    assert caught.value.response.headers["stream-id"] in caught.value.message
    assert "Stream-Match: key" in str(caught.value)
    assert posts == ["POST", "POST"]
    assert len(gateway.provider.ledger()) == 1


def test_stream_match_key_attaches_whatever_the_body(gateway: Served, plain: Plain) -> None:
    """The caller's word that the key alone is the question."""
    first = plain.post(CHAT, BODY, KEY)
    attached = plain.post(CHAT, OTHER_BODY, {**KEY, "Stream-Match": "key"})
    assert attached.body == first.body
    assert attached.headers["stream-id"] == first.headers["stream-id"]
    assert attached.headers["idempotent-replayed"] == "true"
    assert len(gateway.provider.ledger()) == 1


# --- scopes ---------------------------------------------------------------------------------------------------------


def test_in_a_scope_each_distinct_request_is_its_own_stream(gateway: Served, plain: Plain) -> None:
    """The same request attaches; another body, or another occurrence of the same one, is another stream."""
    scope = {"Stream-Scope": "turn-1"}
    asked = [
        plain.post(CHAT, BODY, scope),
        plain.post(CHAT, OTHER_BODY, scope),
        plain.post(CHAT, BODY, {**scope, "Stream-Occurrence": "2"}),
        plain.post(CHAT, BODY, {"Stream-Scope": "turn-2"}),
    ]
    again = [
        plain.post(CHAT, BODY, scope),
        plain.post(CHAT, OTHER_BODY, scope),
        plain.post(CHAT, BODY, {**scope, "Stream-Occurrence": "2"}),
        plain.post(CHAT, BODY, {"Stream-Scope": "turn-2"}),
    ]
    assert len({reply.headers["stream-id"] for reply in asked}) == 4
    assert [reply.body for reply in again] == [reply.body for reply in asked]
    assert all("idempotent-replayed" not in reply.headers for reply in asked)
    assert all(reply.headers["idempotent-replayed"] == "true" for reply in again)
    assert len(gateway.provider.ledger()) == 4
    listed = plain.get("/streams?scope=turn-1").json()["streams"]
    assert {stream["id"] for stream in listed} == {reply.headers["stream-id"] for reply in asked[:3]}


# --- refusals by the provider ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sdk", "status", "headers"),
    [
        ("openai-chat", 429, {}),
        ("openai-chat", 429, {"retry-after": "1"}),
        ("openai-responses", 429, {"retry-after-ms": "20"}),
        ("openai-responses", 503, {}),
        ("anthropic", 529, {}),
        ("anthropic", 429, {"retry-after": "1"}),
    ],
)
def test_the_sdks_own_retries_of_a_refusal_end_in_one_paid_answer(
    gateway: Served, sdk: str, status: int, headers: dict[str, str]
) -> None:
    """A refusal twice, then an answer: each refusal released the key, and only the answer was billed."""
    refusal = Script(status=status, headers=headers)
    gateway.provider.script(refusal, refusal, Script(tokens=TOKENS))
    said: list[str] = []
    ask(f"{sdk}/sync", gateway.url, KEY, said.append)
    assert "".join(said) == WHOLE
    calls = gateway.provider.ledger()
    assert [call.status for call in calls] == [status, status, 200]
    assert [call.tokens_billed for call in calls] == [0, 0, TOKENS]
    ask(f"{sdk}/sync", gateway.url, KEY, said.append)
    assert "".join(said) == WHOLE + WHOLE
    assert len(gateway.provider.ledger()) == 3


def test_retries_of_a_refused_key_are_linked(gateway: Served, plain: Plain) -> None:
    """Each stream names the one that it follows, down to the first."""
    gateway.provider.script(Script(status=429), Script(status=529))
    ids = [plain.post(CHAT, BODY, KEY).headers["stream-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert [plain.get(f"/streams/{stream}/info").json()["previous"] for stream in ids] == [None, *ids[:2]]


def test_within_retry_after_the_recorded_refusal_is_the_answer(gateway: Served, plain: Plain) -> None:
    """No call, the same body, and only the time that remains; whatever the body of the request."""
    gateway.provider.script(Script(status=429, headers={"retry-after": "30", "x-ratelimit-remaining-requests": "0"}))
    before = time.monotonic()
    first = plain.post(CHAT, BODY, KEY)
    replies = [plain.post(CHAT, BODY, KEY), plain.post(CHAT, OTHER_BODY, KEY)]
    passed = time.monotonic() - before
    assert (first.status, first.headers["retry-after"]) == (429, "30")
    assert "x-ratelimit-remaining-requests" in first.headers
    for reply in replies:
        assert (reply.status, reply.body) == (429, first.body)
        assert 30 - passed <= int(reply.headers["retry-after"]) <= 30
        assert reply.headers["idempotent-replayed"] == "true"
        assert "x-ratelimit-remaining-requests" not in reply.headers
    assert len(gateway.provider.ledger()) == 1


@pytest.mark.parametrize(
    ("sdk", "error"), [("openai-chat", openai.RateLimitError), ("anthropic", anthropic.RateLimitError)]
)
def test_a_refusal_that_stays_reaches_the_caller_as_its_own_error(
    gateway: Served, sdk: str, error: type[Exception]
) -> None:
    """After its last retry the SDK raises what it would raise without us, and the key is free."""
    gateway.provider.script(*[Script(status=429, headers={"retry-after-ms": "10"})] * 3)
    with pytest.raises(error):
        ask(f"{sdk}/sync", gateway.url, KEY, lambda text: None)
    assert [call.status for call in gateway.provider.ledger()] == [429] * 3
    said: list[str] = []
    ask(f"{sdk}/sync", gateway.url, KEY, said.append)
    assert "".join(said) == WHOLE
