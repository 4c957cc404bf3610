"""The scripted provider: what the official SDKs make of it, what a raw socket sees, and what the ledger says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import anyio
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from hypothesis import given
from hypothesis import strategies as st

from resumestream.testing.provider import Script, ScriptedProvider, token
from resumestream.testing.provider.control import Control

from .raw_client import CHAT, DEADLINE_S, Raw

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    """A running provider."""
    with ScriptedProvider() as running:
        yield running


@pytest.fixture
def openai_client(provider: ScriptedProvider) -> Iterator[openai.OpenAI]:
    """The official client, aimed at it."""
    with openai.OpenAI(api_key="k", base_url=provider.url + "/v1", timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
def anthropic_client(provider: ScriptedProvider) -> Iterator[anthropic.Anthropic]:
    """The official client, aimed at it."""
    with anthropic.Anthropic(api_key="k", base_url=provider.url, timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
def genai_client(provider: ScriptedProvider) -> Iterator[genai.Client]:
    """The official client, aimed at it."""
    client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=provider.url))
    yield client
    client.close()


def http(url: str, body: object = None) -> Any:
    """Ask a provider process; JSON in, JSON out."""
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=DEADLINE_S) as response:
        return json.loads(response.read())


# --- the official SDKs -------------------------------------------------------------------------------------------


def test_openai_chat(provider: ScriptedProvider, openai_client: openai.OpenAI) -> None:
    """The openai SDK reads the whole text, the usage and, unstreamed, the same."""
    options = {"include_usage": True}
    events = list(
        openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True, stream_options=options)
    )
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == Script().text
    assert events[-1].usage is not None
    assert events[-1].usage.total_tokens == 30
    whole = openai_client.chat.completions.create(model="m", messages=MESSAGES)
    assert whole.choices[0].message.content == Script().text
    assert [(call.tokens_billed, call.prompt_tokens_billed) for call in provider.ledger()] == [(20, 10), (20, 10)]
    assert all(call.finished and not call.disconnected for call in provider.ledger())


def test_openai_responses(openai_client: openai.OpenAI) -> None:
    """The SDK's own accumulator accepts the Responses stream; sequence numbers count from 0."""
    with openai_client.responses.stream(model="m", input="hello") as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert final.output_text == Script().text == openai_client.responses.create(model="m", input="x").output_text
    assert final.usage is not None
    assert final.usage.output_tokens == 20


def test_anthropic_messages(anthropic_client: anthropic.Anthropic) -> None:
    """The anthropic SDK's accumulator accepts the stream."""
    with anthropic_client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        final = stream.get_final_message()
    assert [block.text for block in final.content if block.type == "text"] == [Script().text]
    assert (final.usage.input_tokens, final.usage.output_tokens, final.stop_reason) == (10, 20, "end_turn")
    whole = anthropic_client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert [block.text for block in whole.content if block.type == "text"] == [Script().text]


def test_gemini(provider: ScriptedProvider, genai_client: genai.Client) -> None:
    """The google SDK reads the whole text; the wire has CRLF."""
    events = list(genai_client.models.generate_content_stream(model="m", contents="hello"))
    assert "".join(event.text or "" for event in events) == Script().text
    assert events[-1].usage_metadata is not None
    assert events[-1].usage_metadata.total_token_count == 30
    assert genai_client.models.generate_content(model="m", contents="x").text == Script().text
    assert provider.sent(1).endswith(b"}\r\n\r\n")
    assert provider.sent(1).count(b"\r\n\r\n") == 20


def test_tool_calls(
    provider: ScriptedProvider,
    openai_client: openai.OpenAI,
    anthropic_client: anthropic.Anthropic,
    genai_client: genai.Client,
) -> None:
    """An answer can end with a tool call, in every dialect, streamed and not."""
    provider.script(default=Script(tokens=2, tool={"name": "look", "arguments": {"at": 1}}))
    with openai_client.chat.completions.stream(model="m", messages=MESSAGES) as chat:
        choice = chat.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()] == [
        ("look", '{"at": 1}')
    ]
    with openai_client.responses.stream(model="m", input="x") as responses:
        called: Any = responses.get_final_response().output[1]
    assert (called.name, json.loads(called.arguments)) == ("look", {"at": 1})
    with anthropic_client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as messages:
        used: Any = messages.get_final_message().content[1]
    assert (used.name, used.input) == ("look", {"at": 1})
    last = list(genai_client.models.generate_content_stream(model="m", contents="x"))[-1]
    assert [(call.name, call.args) for call in last.function_calls or ()] == [("look", {"at": 1})]
    whole = openai_client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message
    assert whole.tool_calls is not None


def test_the_model_list(openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic) -> None:
    """`GET /v1/models` answers each client."""
    assert [model.id for model in openai_client.models.list()] == ["scripted"]
    assert [model.id for model in anthropic_client.models.list()] == ["scripted"]


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # the SDK leaves its own at [DONE]
async def test_async_clients_on_both_loops(provider: ScriptedProvider) -> None:
    """The provider has a loop of its own: the caller's may be any."""
    with anyio.fail_after(DEADLINE_S):
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url + "/v1") as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            text = [event.choices[0].delta.content or "" async for event in stream]
    assert "".join(text) == Script().text


def test_a_429_is_not_billed_and_the_sdk_comes_again(provider: ScriptedProvider, openai_client: openai.OpenAI) -> None:
    """Scripts are played in order; two refusals, then one paid answer."""
    refusal = Script(status=429, headers={"retry-after-ms": "1"})
    provider.script(refusal, dataclasses.replace(refusal, body=b"{}"), Script(tokens=3))
    answer = openai_client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == Script(tokens=3).text
    assert [(call.status, call.tokens_billed, call.prompt_tokens_billed) for call in provider.ledger()] == [
        (429, 0, 0),
        (429, 0, 0),
        (200, 3, 10),
    ]


def test_in_band_errors(
    provider: ScriptedProvider,
    openai_client: openai.OpenAI,
    anthropic_client: anthropic.Anthropic,
    genai_client: genai.Client,
) -> None:
    """After `error_at` events each SDK raises its own error, or for Responses yields its error event."""
    provider.script(default=Script(error_at=5))
    with pytest.raises(openai.APIError, match="scripted error"):
        list(openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        list(anthropic_client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True))
    with pytest.raises(genai_errors.ServerError, match="503"):
        list(genai_client.models.generate_content_stream(model="m", contents="x"))
    events = list(openai_client.responses.create(model="m", input="x", stream=True))
    assert [event.type for event in events][-1] == "error"
    assert {call.events_sent for call in provider.ledger()} == {6}


def test_error_statuses(anthropic_client: anthropic.Anthropic, provider: ScriptedProvider) -> None:
    """A status without a body has the dialect's own error body and request id."""
    provider.script(default=Script(status=529, headers={"x-should-retry": "false"}))
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error") as raised:
        anthropic_client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert (raised.value.status_code, raised.value.request_id) == (529, "req_000001")


# --- who left, and when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [Script(hold_at=5), Script(fault="stall", at_event=5), Script(delay_s=60), Script(headers_delay_s=60)],
    ids=["held", "stalled", "slow", "slow-headers"],
)
def test_a_client_that_leaves_is_noticed_at_once(provider: ScriptedProvider, script: Script) -> None:
    """Whatever the script waits for, the leaving shows promptly, and only what was generated is billed."""
    provider.script(script)
    with Raw(provider.url).send():
        waits_for_a_test = script.hold_at is not None or script.fault is not None
        provider.wait_for(lambda calls: bool(calls) and calls[0].held is waits_for_a_test)
        assert not provider.ledger()[0].ended
    (call,) = provider.wait_for(lambda calls: calls[0].disconnected, timeout_s=2)
    assert not call.finished
    assert not call.held
    # Five events hold four tokens: the first says only who speaks.
    assert (call.events_sent, call.tokens_billed) == ((5, 4) if waits_for_a_test else (0, 0))
    assert call.ended_at is not None
    assert call.ended_at >= call.started_at


def test_a_killed_process_is_noticed(provider: ScriptedProvider) -> None:
    """kill -9 of a real client shows as a disconnect."""
    provider.script(Script(hold_at=3))
    program = (
        f"import urllib.request as u; u.urlopen(u.Request({provider.url + CHAT!r}, b'{{\"stream\":true}}')).read()"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as client:
        provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        client.kill()
    (call,) = provider.wait_for(lambda calls: calls[0].disconnected)
    assert call.tokens_billed == 2


def test_a_client_that_leaves_within_its_request(provider: ScriptedProvider) -> None:
    """A request cut short is a call without a status."""
    with Raw(provider.url) as raw:
        raw.sock.sendall(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n123")
        provider.wait_for(lambda calls: len(calls) == 1)
    (call,) = provider.wait_for(lambda calls: calls[0].disconnected)
    assert call.status is None


def test_a_client_may_leave_after_the_last_event(provider: ScriptedProvider, openai_client: openai.OpenAI) -> None:
    """The sync SDK closes at `[DONE]`, before the end of the framing: that is no disconnect."""
    for _ in range(20):
        list(openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    assert [call.disconnected for call in provider.ledger()] == [False] * 20
    assert all(call.finished for call in provider.ledger())


# --- scripts and the ledger --------------------------------------------------------------------------------------


def test_the_ledger_keeps_what_was_asked(provider: ScriptedProvider) -> None:
    """Headers as received, path with its query, hash and length of the body."""
    with Raw(provider.url).send(CHAT + "?a=1", b'{"x": 1}', head="X-Secret: s\r\nidempotency-key: k\r\n") as raw:
        raw.head()
        provider.wait_for(lambda calls: calls[0].finished)
    (call,) = provider.ledger()
    assert (call.number, call.method, call.path, call.status) == (1, "POST", CHAT + "?a=1", 200)
    assert ("x-secret", "s") in call.headers
    assert ("idempotency-key", "k") in call.headers
    assert (call.request_bytes, call.request_sha256) == (8, hashlib.sha256(b'{"x": 1}').hexdigest())


def test_a_script_travels_with_its_request(provider: ScriptedProvider) -> None:
    """The header wins over the queue and leaves it alone; one that is no script is refused aloud."""
    provider.script(Script(tokens=1))
    own = Script(body=b"data: 1\n\n").to_json()
    with Raw(provider.url).send(head=f"x-script: {own}\r\n") as raw:
        raw.head()
        assert raw.body() == b"data: 1\n\n"
        raw.send(head='x-script: {"speed": 9}\r\n')
        assert raw.head().startswith("HTTP/1.1 400")
        assert b"not a script" in raw.until(b"}}")
        raw.send()
        raw.head()
        raw.body()
    assert provider.ledger()[2].tokens_billed == 1


def test_a_named_queue_is_for_the_calls_that_name_it(provider: ScriptedProvider) -> None:
    """In their order, the last for all after it; the other queue is left alone; an unknown name is refused aloud."""
    provider.script(Script(body=b"data: queued\n\n"))
    provider.script(Script(body=b"data: 1\n\n"), Script(body=b"data: 2\n\n"), name="turn")
    with Raw(provider.url) as raw:
        for head, body in (("turn", b"1"), ("turn", b"2"), ("turn", b"2"), ("", b"queued")):
            raw.send(head=f"x-script: {head}\r\n" if head else "").head()
            assert raw.body() == b"data: " + body + b"\n\n"
        assert raw.send(head="x-script: other\r\n").head().startswith("HTTP/1.1 400")
    values = {"name": "other", "queue": [{"status": 418}]}
    with Raw(provider.url) as raw:
        raw.send("/_script", json.dumps(values).encode()).head()
        raw.until(b"{}")
        assert raw.send(head="x-script: other\r\n").head().startswith("HTTP/1.1 418")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tokens": st.integers(0, 9),
            "body": st.binary(),
            "headers": st.dictionaries(st.text("abc-", min_size=1), st.text(st.characters(codec="ascii"))),
            "chunking": st.lists(st.integers(1), min_size=1).map(tuple) | st.just("random:7"),
            "informational": st.lists(st.sampled_from((102, 103))).map(tuple),
            "tool": st.just({"name": "f", "arguments": {"a": [1]}}),
            "hold_at": st.integers(0),
        },
    ),
    st.sampled_from([{}, {"fault": "rst", "at_byte": 4}, {"fault": "stall", "before_head": True}]),
)
def test_scripts_survive_json(values: dict[str, Any], fault: dict[str, Any]) -> None:
    """What a process is told is what was written, in one ASCII line."""
    script = Script(**values, **fault)
    assert Script.from_json(script.to_json()) == script
    assert script.to_json().isascii()
    assert "\n" not in script.to_json()


@pytest.mark.parametrize(
    "values",
    [
        {"fault": "explode"},
        {"framing": "morse"},
        {"chunking": "often"},
        {"chunking": ()},
        {"chunking": (0,)},
        {"at_byte": 3},
        {"fault": "fin", "at_byte": 1, "at_event": 1},
        {"fault": "clean", "before_head": True},
        {"body": b"x", "fixture": "y"},
    ],
    ids=str,
)
def test_scripts_that_cannot_be_played_are_refused(values: dict[str, Any]) -> None:
    """When they are written, not when they are played."""
    with pytest.raises(ValueError, match=r"chunking|none of|place|two bodies"):
        Script(**values)


def test_the_default_is_for_all_calls_after_the_queue(provider: ScriptedProvider) -> None:
    """And a reset brings back the first default, forgets the queue and counts from 1 again."""
    provider.script(Script(tokens=1), default=Script(tokens=2))
    with Raw(provider.url) as raw:
        for tokens in (1, 2, 2):
            raw.send(body=b"{}").head()
            assert Script(tokens=tokens).text in raw.until(b'"completion_tokens": ').decode()
            raw.until(b"}}")
        provider.script(Script(tokens=9))
        provider.reset()
        assert provider.ledger() == []
        raw.send().head()
        assert raw.body().count(b"w00") == 20
    assert [call.number for call in provider.ledger()] == [1]


def test_a_reset_cuts_calls_in_progress(provider: ScriptedProvider) -> None:
    """Nobody stays held for ever."""
    provider.script(Script(hold_at=1))
    with Raw(provider.url).send() as raw:
        provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        provider.reset()
        assert raw.rest()[1] == "fin"


def test_waiting_has_a_deadline(provider: ScriptedProvider) -> None:
    """And the error shows the ledger."""
    with pytest.raises(TimeoutError, match=r"not within 0.01 s; the ledger: \[\]"):
        provider.wait_for(lambda calls: len(calls) == 1, timeout_s=0.01)


def test_sixty_calls_at_once(provider: ScriptedProvider) -> None:
    """All held together, all released together, all whole."""
    provider.script(default=Script(tokens=50, hold_at=10))

    def call(_: int) -> bytes:
        with Raw(provider.url).send() as raw:
            raw.head()
            return raw.body()

    with ThreadPoolExecutor(60) as threads:
        bodies = threads.map(call, range(60))
        provider.wait_for(lambda calls: sum(call.held for call in calls) == 60)
        provider.release()
        assert {re.sub(rb"chatcmpl-\d+", b"", body) for body in bodies} == {
            re.sub(rb"chatcmpl-\d+", b"", provider.sent(1))
        }
    assert len({call.connection for call in provider.ledger()}) == 60


def test_a_defect_of_the_provider_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter that broke says so where the test ends, and does not go on."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Control, "plan", broken)

    def run() -> None:
        with ScriptedProvider() as provider, Raw(provider.url).send() as raw:
            assert raw.rest()[0] == b""

    with pytest.RaisesGroup(ZeroDivisionError):
        run()


# --- as a process ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process() -> Iterator[str]:
    """The provider as a process of its own."""
    command = [sys.executable, "-m", "resumestream.testing.provider", "--port", "0", "--default", '{"tokens": 4}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        found = re.fullmatch(r"provider: serving (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        yield found[1]
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == ""
    assert running.returncode == 0


def test_the_process_is_scripted_over_http(process: str) -> None:
    """Scripts, releases and the ledger have endpoints, and those are no calls."""
    script = json.loads(Script(tokens=7, hold_at=0).to_json())
    http(process + "/_reset", {})
    http(process + "/_script", {"queue": [script], "default": {"tokens": 5}})
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(http(process + CHAT, {"messages": []})))
    client.start()
    ledger = http(process + "/_ledger?held=1&calls=1")
    assert [call["held"] for call in ledger["calls"]] == [True]
    http(process + "/_release?call=1", {})
    client.join(DEADLINE_S)
    assert answers[0]["choices"][0]["message"]["content"] == Script(tokens=7).text
    assert token(4) in json.dumps(http(process + CHAT, {}))
    (first, second) = http(process + "/_ledger?finished=2&tokens_billed=12")["calls"]
    assert (first["tokens_billed"], second["tokens_billed"]) == (7, 5)
    with urllib.request.urlopen(process + "/_sent?call=2", timeout=DEADLINE_S) as sent:
        assert hashlib.sha256(sent.read()).hexdigest() == second["sent_sha256"]
    http(process + "/_reset", {})
    assert http(process + "/_ledger") == {"calls": []}
    assert token(3) in json.dumps(http(process + CHAT, {}))
    assert token(4) not in json.dumps(http(process + CHAT, {}))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/_ledger?calls=99&timeout_s=0.05", None, 504),
        ("/_ledger?calls=many", None, 400),
        ("/_ledger?wishes=1&calls=0", None, 400),
        ("/_script", {"queue": [{"speed": 1}]}, 400),
        ("/_script", [], 400),
        ("/_sent?call=99", None, 400),
        ("/_nothing", None, 400),
    ],
)
def test_bad_questions_get_an_error(process: str, path: str, body: object, status: int) -> None:
    """And the process goes on."""
    http(process + CHAT, {})
    with pytest.raises(urllib.error.HTTPError) as raised:
        http(process + path, body)
    with raised.value as error:
        assert error.code == status
    assert http(process + "/_ledger?calls=1")["calls"]


def test_a_record_is_a_copy(provider: ScriptedProvider) -> None:
    """What a test got does not change under it."""
    provider.script(Script(hold_at=1))
    with Raw(provider.url).send() as raw:
        (before,) = provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        provider.release()
        raw.head()
        raw.body()
        assert before.held
        assert dataclasses.replace(before) != provider.ledger()[0]
