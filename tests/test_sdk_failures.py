"""Answers that break off: each SDK raises its own error, the partial is kept, and everybody later gets the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware

from resumestream import Policy
from resumestream.testing.provider import Script
from resumestream.testing.provider.plan import plan
from resumestream.testing.provider.script import Fault
from resumestream.testing.running import ServerName

from .asgi import Passing
from .clients.plain import Plain
from .clients.sdks import CALLERS, SDK_WARNINGS, SDKS, ask, sdk_of
from .clients.served import Served, served

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)

TOKENS = 10
WHOLE = Script(tokens=TOKENS).text
KEY = {"Idempotency-Key": "turn-1"}
PATIENCE: dict[Fault, Policy] = {"stall": Policy(stall_s=0.5)}
"""The others never wait for it, however slow the machine."""
CUTS: list[Fault] = ["fin", "rst", "clean"]
SYNC = [caller for caller in CALLERS if caller.endswith("/sync")]


@pytest.fixture
def gateway() -> Iterator[Served]:
    with served() as gateway:
        yield gateway


@dataclass(frozen=True)
class Ended:
    """What a caller had read when its SDK raised."""

    text: str
    error: Exception

    @property
    def said(self) -> tuple[str, type[Exception], str]:
        """What must be the same for every caller."""
        return self.text, type(self.error), str(self.error)


def read(caller: str, gateway: Served, *, release_at: str | None = None, **headers: str) -> Ended:
    """Read until the SDK raises, and let the provider go on once `release_at` was read."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text and "".join(said) == release_at:
            gateway.provider.release()

    with pytest.raises(Exception) as raised:
        ask(caller, gateway.url, {**KEY, **headers}, say)
    return Ended("".join(said), raised.value)


def plain_caller(caller: str, gateway: Served) -> Plain:
    """Of the same principal."""
    name, value = sdk_of(caller).credential
    plain = Plain(gateway.url)
    del plain.headers["authorization"]
    plain.headers[name] = value
    return plain


@pytest.mark.parametrize("fault", [*CUTS, "stall"])
@pytest.mark.parametrize("caller", CALLERS)
def test_a_broken_answer_raises_the_sdks_own_error_now_and_later(caller: str, fault: Fault) -> None:
    """Cut within an event: the whole ones are kept, HEAD tells the outcome, only `Stream-Retry` pays once more."""
    sdk, stalls = sdk_of(caller), fault == "stall"
    chance = random.Random(f"{caller} {fault}")
    at = chance.randint(1, TOKENS - 1)
    partial, event = Script(tokens=at).text, sdk.events_before_text + at
    ends = plan(Script(tokens=TOKENS), 1, "POST", sdk.path, b'{"model": "scripted", "stream": true}', None, {}).ends
    within_next = chance.randint(ends[event - 1] + 1, ends[event] - 1)
    broken_off = Script(tokens=TOKENS, hold_at=None if stalls else event, fault=fault, at_byte=within_next)
    outcome = "stalled" if stalls else "truncated"
    with served(policy=PATIENCE.get(fault)) as gateway, plain_caller(caller, gateway) as plain:
        gateway.provider.script(broken_off, Script(tokens=TOKENS))

        first = read(caller, gateway, release_at=None if stalls else partial)
        late = read(caller, gateway)
        assert first.text == partial
        assert isinstance(first.error, sdk.error)
        assert late.said == first.said
        assert len(gateway.provider.ledger()) == 1

        broken = plain.stream_of("turn-1")
        assert f"Stream-Retry: {broken}" in str(first.error)
        head = plain.head(f"/streams/{broken}").headers
        assert (head["stream-state"], head["stream-outcome"]) == ("sealed", outcome)

        whole: list[str] = []
        ask(caller, gateway.url, {**KEY, "Stream-Retry": broken}, whole.append)
        assert "".join(whole) == WHOLE
        assert [call.tokens_billed for call in gateway.provider.ledger()] == [at + 1, TOKENS]
        info = plain.get(f"/streams/{plain.stream_of('turn-1')}/info").json()
        assert (info["previous"], info["outcome"]) == (broken, "completed")
        assert plain.head(f"/streams/{broken}").headers["stream-outcome"] == outcome


@pytest.mark.parametrize("caller", SYNC)
def test_a_consent_for_a_stream_that_is_not_the_keys_is_refused(caller: str, gateway: Served) -> None:
    """422, raised by the SDK as its own error with our words in it, and nothing is paid."""
    gateway.provider.script(default=Script(tokens=TOKENS))
    for key in ("turn-1", "turn-2"):
        ask(caller, gateway.url, {"Idempotency-Key": key}, lambda text: None)
    with plain_caller(caller, gateway) as plain:
        own, foreign = plain.stream_of("turn-1"), plain.stream_of("turn-2")
        refused = plain.post(sdk_of(caller).path, b"{}", {**KEY, "Stream-Retry": foreign})
        assert (refused.status, refused.json()["error"]["code"]) == (422, "retry-mismatch")
    for other in (foreign, "never-minted"):
        ended = read(caller, gateway, **{"Stream-Retry": other})
        assert isinstance(ended.error, sdk_of(caller).refusal)
        assert f"Stream-Retry names {other}" in str(ended.error)
        assert own in str(ended.error)
    assert len(gateway.provider.ledger()) == 2


@pytest.mark.parametrize("caller", SYNC)
def test_the_providers_own_error_event_is_the_failure(caller: str, gateway: Served) -> None:
    """What the provider said in its stream reaches everybody as it is, with nothing of ours behind it."""
    sdk, at = sdk_of(caller), 4
    gateway.provider.script(Script(tokens=TOKENS, error_at=sdk.events_before_text + at))
    body = b'{"stream": true}'
    with plain_caller(caller, gateway) as plain:
        first, late = (plain.post(sdk.path, body, KEY) for _ in range(2))
        assert first.body == late.body == gateway.provider.sent(1)
        assert not first.cut
        assert not late.cut
        stream = first.headers["stream-id"]
        assert plain.head(f"/streams/{stream}").headers["stream-outcome"] == "provider_error"
    assert len(gateway.provider.ledger()) == 1


# --- before the first byte ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fin", "rst"])
@pytest.mark.parametrize("caller", SYNC)
def test_a_provider_that_hangs_up_before_it_answers_is_not_asked_again(
    caller: str, fault: Fault, gateway: Served
) -> None:
    """It may have been billed: 502, which no SDK repeats by itself, then and later."""
    gateway.provider.script(Script(fault=fault, before_head=True), default=Script(tokens=TOKENS))
    first, late = read(caller, gateway), read(caller, gateway)
    for ended in (first, late):
        assert isinstance(ended.error, sdk_of(caller).refusal)
        assert "502" in str(ended.error) or getattr(ended.error, "status_code", None) == 502
        assert "Stream-Retry: " in str(ended.error)
    assert len(gateway.provider.ledger()) == 1


@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.parametrize("caller", SYNC)
def test_an_answer_that_ends_before_its_first_byte_is_a_failure_to_all(
    caller: str, fault: Fault, gateway: Served
) -> None:
    """Who holds the 200 gets it in the stream, who comes later as 502; one call."""
    gateway.provider.script(Script(tokens=TOKENS, hold_at=0, fault=fault, at_event=0), default=Script(tokens=TOKENS))
    sdk = sdk_of(caller)
    with plain_caller(caller, gateway) as plain:
        response = plain.begin("POST", sdk.path, b'{"stream": true}', KEY)
        assert response.status == 200
        gateway.provider.release()
        reply = plain.rest(response)
        assert not reply.cut
        assert b'"error"' in reply.body
        assert f"nothing kept. It was stream {response.getheader('stream-id')}." in reply.body.decode()
        refused = plain.post(sdk.path, b'{"stream": true}', KEY)
        assert (refused.status, refused.headers["stream-outcome"]) == (502, "truncated")
        assert refused.headers["x-should-retry"] == "false"
    assert len(gateway.provider.ledger()) == 1


# --- under every server ---------------------------------------------------------------------------------------------


def with_middleware(app: Starlette) -> None:
    app.add_middleware(Passing)
    app.add_middleware(GZipMiddleware)
    app.add_middleware(Passing)


def without_middleware(app: Starlette) -> None:
    """A bare app."""


@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.parametrize("prepare", [without_middleware, with_middleware])
@pytest.mark.parametrize("server", get_args(ServerName))
def test_no_server_and_no_middleware_lets_a_cut_answer_look_whole(
    server: ServerName, prepare: Callable[[Starlette], None], fault: Fault
) -> None:
    """The SDK raises, and a reader that gets no frame of ours sees a broken body: in flight and late."""
    caller, sdk, at = "openai-chat/sync", SDKS["openai-chat"], 5
    with served(server=server, prepare=prepare) as gateway, Plain(gateway.url) as exact, Plain(gateway.url) as tail:
        script = Script(tokens=TOKENS, hold_at=1 + at, fault=fault, at_event=1 + at)
        gateway.provider.script(script)
        body, kept = b'{"stream": true}', Script(tokens=at).text
        in_flight = exact.begin("POST", sdk.path, body, {**KEY, "Stream-Exact": "true", "Stream-Match": "key"})
        stream = in_flight.headers["stream-id"]
        tailed = tail.begin("GET", f"/streams/{stream}?live=tail")
        first = read(caller, gateway, release_at=kept, **{"Stream-Match": "key"})
        late = read(caller, gateway, **{"Stream-Match": "key"})
        assert late.said == first.said
        assert first.text == kept
        assert isinstance(first.error, sdk.error)

        payload = gateway.provider.sent(1)
        cut = [
            exact.rest(in_flight),
            tail.rest(tailed),
            exact.post(sdk.path, body, {**KEY, "Stream-Exact": "true"}),
            tail.get(f"/streams/{stream}?live=tail"),
        ]
        assert [(reply.body, reply.cut) for reply in cut] == [(payload, True)] * 4
        assert tail.head(f"/streams/{stream}").headers["stream-outcome"] == "truncated"
        assert len(gateway.provider.ledger()) == 1
