"""The scripted provider: what the official SDKs make of it, what a raw socket sees, and what the ledger says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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

DEADLINE_S = 10
CHAT = "/v1/chat/completions"
RECORDINGS = Path(__file__).parents[1].parent / "shared" / "recordings"
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


class Raw:
    """A client without a library between the test and the bytes."""

    def __init__(self, provider: ScriptedProvider, *, window: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(DEADLINE_S)
        if window:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.connect(("127.0.0.1", int(provider.url.rpartition(":")[2])))
        self.buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, path: str = CHAT, body: bytes = b'{"stream":true}', head: str = "", method: str = "POST") -> Raw:
        lines = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{head}\r\n"
        self.sock.sendall(lines.encode() + body)
        return self

    def until(self, marker: bytes) -> bytes:
        """Through the marker."""
        while marker not in self.buffer:
            data = self.sock.recv(65536)
            assert data, f"the provider closed before {marker!r}: {self.buffer!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(marker)
        return found + marker

    def head(self) -> str:
        return self.until(b"\r\n\r\n").decode()

    def rest(self) -> tuple[bytes, str]:
        """Everything that follows, and how the connection ended."""
        try:
            while data := self.sock.recv(65536):
                self.buffer += data
        except ConnectionResetError:
            return self.buffer, "rst"
        return self.buffer, "fin"

    def body(self) -> bytes:
        """One chunked body, whole."""
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            while len(self.buffer) < size + 2:
                self.buffer += self.sock.recv(65536)
            body, self.buffer = body + self.buffer[:size], self.buffer[size + 2 :]
        self.until(b"\r\n")
        return body


def chunks(data: bytes) -> list[bytes]:
    """The whole chunks in a piece of a chunked body, without its end."""
    found: list[bytes] = []
    while size := re.match(rb"([0-9a-f]+)\r\n", data):
        begin, length = size.end(), int(size[1], 16)
        if len(data) < begin + length + 2 or not length:
            break
        found.append(data[begin : begin + length])
        data = data[begin + length + 2 :]
    return found


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
    provider.script(refusal, refusal, Script(tokens=3))
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
    with Raw(provider).send():
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
    with Raw(provider) as raw:
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


# --- faults, seen from a raw socket ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fin", "rst", "garbage", "clean"])
@pytest.mark.parametrize("place", [{"at_byte": 0}, {"at_byte": 777}, {"at_event": 3}, {}], ids=str)
def test_faults_come_at_their_byte(provider: ScriptedProvider, fault: Any, place: dict[str, int]) -> None:
    """Exactly the bytes before the place arrive, as whole chunks, and then the fault."""
    provider.script(Script(), Script(fault=fault, keep_alive=False, **place))
    with Raw(provider).send() as raw:
        raw.head()
        # The ids count the calls; their width does not change.
        whole = raw.body().replace(b"000001", b"000002")
    ends = [found.end() for found in re.finditer(b"\n\n", whole)]
    expected = whole[: place.get("at_byte", ends[place["at_event"] - 1] if "at_event" in place else len(whole))]
    with Raw(provider).send() as raw:
        raw.head()
        received, ended = raw.rest()
    assert b"".join(chunks(received)) == expected
    assert ended == ("rst" if fault == "rst" else "fin")
    assert received.endswith(b"0\r\n\r\n") is (fault == "clean")
    assert (b"\xff" in received) is (fault == "garbage")
    call = provider.ledger()[1]
    assert (call.bytes_sent, call.sent_sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert call.events_sent == sum(end <= len(expected) for end in ends)
    assert call.finished
    assert provider.sent(2) == expected


@pytest.mark.parametrize(("fault", "seen"), [("fin", (b"", "fin")), ("rst", (b"", "rst"))])
def test_faults_before_the_head(provider: ScriptedProvider, fault: Any, seen: tuple[bytes, str]) -> None:
    """The request is taken and no status comes: nobody can tell whether it was billed."""
    provider.script(Script(fault=fault, before_head=True))
    with Raw(provider).send() as raw:
        assert raw.rest() == seen
    assert provider.ledger()[0].status is None


def test_a_reset_does_not_overtake_the_bytes_before_it(provider: ScriptedProvider) -> None:
    """A client that starts to read late still gets every byte, and then the RST."""
    body = bytes(1_000_000)
    headers = {"content-type": "application/octet-stream"}
    provider.script(Script(body=body, headers=headers, chunking=(50_000,), fault="rst"))
    with Raw(provider, window=65536).send() as raw:
        provider.wait_for(lambda calls: bool(calls) and calls[0].bytes_sent == len(body))
        raw.head()
        received, ended = raw.rest()
    assert (len(received), ended) == (len(body), "rst")


@pytest.mark.parametrize("place", [{"at_byte": 500}, {"before_head": True}, {}], ids=str)
def test_a_stall_heals_when_released(provider: ScriptedProvider, place: dict[str, Any]) -> None:
    """Silence, then all the rest, and nothing lost."""
    provider.script(Script(fault="stall", **place))
    with Raw(provider).send() as raw:
        (call,) = provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        assert call.status == (None if place.get("before_head") else 200)
        provider.release(1)
        raw.head()
        assert raw.body() == provider.sent(1)
    assert provider.sent(1).endswith(b"[DONE]\n\n")


def test_a_release_is_for_one_wait_and_never_lost(provider: ScriptedProvider) -> None:
    """A release before the wait opens the next one; a second wait needs a second release."""
    provider.script(Script(headers_delay_s=0.05, hold_at=2, fault="stall", at_event=4))
    with Raw(provider).send() as raw:
        provider.wait_for(lambda calls: len(calls) == 1)
        provider.release()
        (call,) = provider.wait_for(lambda calls: calls[0].held)
        assert call.events_sent == 4
        provider.release()
        raw.head()
        assert raw.body().endswith(b"[DONE]\n\n")


def test_a_short_body(provider: ScriptedProvider) -> None:
    """Framing `length` promises the whole body; a FIN leaves it short."""
    provider.script(Script(body=b'{"a": 1}', framing="length", fault="fin", at_byte=3))
    with Raw(provider).send() as raw:
        assert "content-length: 8" in raw.head()
        assert raw.rest() == (b'{"a', "fin")


def test_a_close_delimited_body(provider: ScriptedProvider) -> None:
    """Framing `close`: no length, no chunks, the FIN is the end."""
    provider.script(Script(tokens=2, framing="close"))
    with Raw(provider).send() as raw:
        head = raw.head()
        assert "content-length" not in head
        assert "transfer-encoding" not in head
        assert raw.rest() == (provider.sent(1), "fin")


# --- plain HTTP --------------------------------------------------------------------------------------------------


def test_connections_are_reused_unless_told_otherwise(provider: ScriptedProvider) -> None:
    """The ledger numbers connections, so that a pool shows; `keep_alive=False` closes."""
    provider.script(Script(), Script(keep_alive=False))
    with Raw(provider).send() as raw:
        raw.head()
        raw.body()
        raw.send()
        assert "connection: close" in raw.head()
        raw.body()
        assert raw.rest() == (b"", "fin")
    with Raw(provider).send(head="connection: close\r\n") as raw:
        raw.head()
        assert raw.rest()[1] == "fin"
    assert [call.connection for call in provider.ledger()] == [1, 1, 2]


def test_two_requests_at_once_on_one_connection(provider: ScriptedProvider) -> None:
    """A pipelined request waits its turn, also when it comes while the first is being answered."""
    provider.script(Script(hold_at=1))
    with Raw(provider).send() as raw:
        provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        raw.send(path="/v1/messages")
        provider.release()
        raw.head()
        assert raw.body() == provider.sent(1)
        raw.head()
        assert raw.body() == provider.sent(2)
    assert [call.path for call in provider.ledger()] == [CHAT, "/v1/messages"]


def test_informational_answers_come_first(provider: ScriptedProvider) -> None:
    """1xx before the answer, and 100 to a client that waits for it."""
    provider.script(Script(informational=(103,), tokens=1))
    with Raw(provider) as raw:
        raw.sock.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n".encode()
        )
        assert raw.head().startswith("HTTP/1.1 100 Continue")
        raw.sock.sendall(b"{}")
        assert raw.head().startswith("HTTP/1.1 103 Early Hints")
        assert raw.head().startswith("HTTP/1.1 200 OK")


def test_an_answer_before_the_request_body(provider: ScriptedProvider) -> None:
    """A refusal arrives although most of the body was never sent, and the rest does not break it."""
    provider.script(Script(status=413, reply_before_body=True))
    with Raw(provider) as raw:
        raw.sock.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n".encode())
        head = raw.head()
        raw.sock.sendall(bytes(1000))
        _, ended = raw.rest()
    assert head.startswith("HTTP/1.1 413")
    assert "connection: close" in head
    assert ended == "fin"
    assert provider.ledger()[0].request_bytes == 0


def test_redirects_and_other_headers(provider: ScriptedProvider) -> None:
    """Any status with any header; a header of the same name replaces ours."""
    provider.script(Script(status=307, headers={"Location": "/elsewhere", "content-type": "text/plain"}))
    with Raw(provider).send() as raw:
        head = raw.head()
    assert head.startswith("HTTP/1.1 307")
    assert "location: /elsewhere" in head
    assert re.findall("content-type: (.*)\r", head) == ["text/plain"]


def test_heads_and_empty_answers_have_no_body(provider: ScriptedProvider) -> None:
    """HEAD says the length it would have; 204 has none."""
    provider.script(Script(), Script(status=204))
    with Raw(provider).send("/v1/models", b"", method="HEAD") as raw:
        assert re.search(r"content-length: [1-9]", raw.head())
        raw.send(method="DELETE")
        assert "content-length" not in raw.head()
    assert provider.ledger()[0].bytes_sent == 0


def test_http_1_0(provider: ScriptedProvider) -> None:
    """A 1.0 client gets no chunks."""
    with Raw(provider) as raw:
        raw.sock.sendall(f"POST {CHAT} HTTP/1.0\r\ncontent-length: 15\r\n\r\n".encode() + b'{"stream":true}')
        raw.head()
        assert raw.rest() == (provider.sent(1), "fin")


def test_no_http(provider: ScriptedProvider) -> None:
    """Bytes that are no request get a 400."""
    with Raw(provider) as raw:
        raw.sock.sendall(b"\x00\x01\r\n\r\n")
        assert raw.head().startswith("HTTP/1.1 400")
    assert provider.ledger() == []


def test_unknown_paths(provider: ScriptedProvider) -> None:
    """404 in JSON, unless a script says what is there."""
    provider.script(Script(), Script(body=b"{}", headers={"content-type": "application/json"}))
    with Raw(provider).send("/v1/embeddings") as raw:
        assert raw.head().startswith("HTTP/1.1 404")
        assert b"nothing answers POST /v1/embeddings" in raw.until(b"}}")
        raw.send("/v1/embeddings")
        assert raw.head().startswith("HTTP/1.1 200")
        assert raw.until(b"{}") == b"{}"


# --- scripts and the ledger --------------------------------------------------------------------------------------


def test_the_ledger_keeps_what_was_asked(provider: ScriptedProvider) -> None:
    """Headers as received, path with its query, hash and length of the body."""
    with Raw(provider).send(CHAT + "?a=1", b'{"x": 1}', head="X-Secret: s\r\nidempotency-key: k\r\n") as raw:
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
    with Raw(provider).send(head=f"x-script: {own}\r\n") as raw:
        raw.head()
        assert raw.body() == b"data: 1\n\n"
        raw.send(head='x-script: {"speed": 9}\r\n')
        assert raw.head().startswith("HTTP/1.1 400")
        assert b"not a script" in raw.until(b"}}")
        raw.send()
        raw.head()
        raw.body()
    assert provider.ledger()[2].tokens_billed == 1


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
    with Raw(provider) as raw:
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
    with Raw(provider).send() as raw:
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
        with Raw(provider).send() as raw:
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
        with ScriptedProvider() as provider, Raw(provider).send() as raw:
            assert raw.rest()[0] == b""

    with pytest.RaisesGroup(ZeroDivisionError):
        run()


# --- replaying ---------------------------------------------------------------------------------------------------


def recordings() -> list[str]:
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))


@pytest.fixture(scope="module")
def replaying() -> Iterator[ScriptedProvider]:
    """A provider that has the shared recordings."""
    if not recordings():
        pytest.skip("shared recordings are not beside this checkout")
    with ScriptedProvider(fixtures=RECORDINGS) as running:
        yield running


@pytest.mark.parametrize("chunking", ["events", "random:1", (1000, 1, 30)], ids=str)
@pytest.mark.parametrize("name", recordings() or ["none"])
def test_recordings_are_replayed_byte_for_byte(replaying: ScriptedProvider, name: str, chunking: Any) -> None:
    """Whatever the chunking; with the recorded content type."""
    replaying.reset()
    replaying.script(Script(fixture=name, chunking=chunking, framing="chunked"))
    with Raw(replaying).send("/anything") as raw:
        head, body = raw.head(), raw.body()
    recorded = json.loads((RECORDINGS / f"{name}.json").read_bytes())["response"]
    (file,) = (path for path in RECORDINGS.glob(f"{name}.*") if path.suffix != ".json")
    assert body == file.read_bytes()
    assert f"content-type: {recorded['headers']['content-type']}" in head


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=repr)
def test_fixtures(tmp_path: Path, end: bytes) -> None:
    """A transcript is `NAME.json` and a body; its events are told apart whatever their line ends."""
    body = b"data: 1" + end + b"data: 2" + end + b"data: half"
    (tmp_path / "mine.sse").write_bytes(body)
    headers = {"Content-Type": "text/event-stream", "transfer-encoding": "chunked", "x-from": "there"}
    (tmp_path / "mine.json").write_text(json.dumps({"response": {"status": 201, "headers": headers}}))
    with ScriptedProvider(fixtures=tmp_path) as provider, Raw(provider) as raw:
        provider.script(Script(fixture="mine", hold_at=2), Script(fixture="../mine"), Script(fixture="other"))
        raw.send()
        (call,) = provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        assert (call.bytes_sent, call.events_sent, call.tokens_billed) == (body.index(b"data: half"), 2, 2)
        provider.release()
        head = raw.head()
        assert head.startswith("HTTP/1.1 201")
        assert "x-from: there" in head
        assert raw.body() == body
        for _ in range(2):
            raw.send()
            assert raw.head().startswith("HTTP/1.1 400")
            raw.until(b"}}")


def test_sizes_cut_the_body(provider: ScriptedProvider) -> None:
    """Each size is one chunk on the wire, in turn."""
    provider.script(Script(body=bytes(range(10)), framing="chunked", chunking=(3, 1)), Script(tokens=3))
    with Raw(provider).send(head="connection: close\r\n") as raw:
        raw.head()
        assert [len(chunk) for chunk in chunks(raw.rest()[0])] == [3, 1, 3, 1, 2]
    with Raw(provider).send(head="connection: close\r\n") as raw:
        raw.head()
        assert all(chunk.endswith(b"\n\n") for chunk in chunks(raw.rest()[0]))


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
    with Raw(provider).send() as raw:
        (before,) = provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        provider.release()
        raw.head()
        raw.body()
        assert before.held
        assert dataclasses.replace(before) != provider.ledger()[0]
