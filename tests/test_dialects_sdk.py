"""What we add to a provider's stream, as the unmodified SDKs read it: failures raise, keep-alives are not seen."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai

from resumestream.dialects import named
from resumestream.framing import with_id

FIXTURES = Path(__file__).parents[1] / "fixtures"


def http(body: bytes) -> httpx2.Client:
    """A client whose every answer is this event stream."""
    return httpx2.Client(
        transport=httpx2.MockTransport(
            lambda request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)
        )
    )


def read_chat(body: bytes) -> list[Any]:
    """Everything the openai SDK makes of a chat stream."""
    client = openai.OpenAI(api_key="k", http_client=http(body), max_retries=0)
    return list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True))


def read_responses(body: bytes) -> list[Any]:
    """Everything the openai SDK makes of a Responses stream."""
    client = openai.OpenAI(api_key="k", http_client=http(body), max_retries=0)
    return list(client.responses.create(model="m", input="x", stream=True))


def read_anthropic(body: bytes) -> list[Any]:
    """Everything the anthropic SDK makes of a messages stream."""
    client = anthropic.Anthropic(api_key="k", http_client=http(body), max_retries=0)
    return list(
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True)
    )


def read_gemini(body: bytes) -> list[Any]:
    """Everything the google-genai SDK makes of a stream."""
    client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(httpx_client=http(body)))
    return [
        chunk.model_dump(exclude={"sdk_http_response"})
        for chunk in client.models.generate_content_stream(model="m", contents="x")
    ]


def read_interactions(body: bytes) -> list[Any]:
    """Everything the google-genai SDK makes of an interaction."""
    client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(httpx_client=http(body)))
    return [event.model_dump() for event in client.interactions.create(model="m", input="x", stream=True)]


def read_ollama(body: bytes) -> list[Any]:
    """Everything the ollama SDK makes of a chat."""
    httpx, ollama = pytest.importorskip("httpx"), pytest.importorskip("ollama")
    client = ollama.Client(
        transport=httpx.MockTransport(
            lambda request: httpx.Response(200, headers={"content-type": "application/x-ndjson"}, content=body)
        )
    )
    return list(client.chat(model="m", messages=[{"role": "user", "content": "x"}], stream=True))


class Raw(io.BytesIO):
    """A body as botocore reads it from urllib3."""

    def stream(self, amt: int = 1024) -> Iterator[bytes]:
        return iter(lambda: self.read(amt), b"")


def bedrock(body: bytes) -> Any:
    """A client whose every answer is these messages."""
    session = pytest.importorskip("botocore.session").Session()
    answer = pytest.importorskip("botocore.awsrequest").AWSResponse
    session.set_credentials("key", "secret")
    client = session.create_client("bedrock-runtime", region_name="us-east-1")
    headers = {"content-type": "application/vnd.amazon.eventstream"}
    client.meta.events.register("before-send.*.*", lambda request, **_: answer(request.url, 200, headers, Raw(body)))
    return client


def read_converse(body: bytes) -> list[Any]:
    """Everything botocore makes of ConverseStream."""
    messages = [{"role": "user", "content": [{"text": "x"}]}]
    return list(bedrock(body).converse_stream(modelId="m", messages=messages)["stream"])


def read_invoked(body: bytes) -> list[Any]:
    """Everything botocore makes of InvokeModelWithResponseStream."""
    return list(bedrock(body).invoke_model_with_response_stream(modelId="m", body=b"{}")["body"])


@dataclass(frozen=True)
class Sdk:
    dialect: str
    read: Callable[[bytes], list[Any]]
    raises: str
    """Name of the exception; empty: it hands the failure on as an event."""
    fixture: str

    def __str__(self) -> str:
        return self.fixture.partition(".")[0]

    def blocks(self) -> list[bytes]:
        splitter = named(self.dialect).framing.splitter
        assert splitter is not None
        return splitter().feed((FIXTURES / self.fixture).read_bytes())


SDKS = [
    Sdk("openai-chat", read_chat, "APIError", "openai-chat.sse"),
    Sdk("openai-responses", read_responses, "APIError", "openai-responses.sse"),
    Sdk("anthropic", read_anthropic, "APIStatusError", "anthropic.sse"),
    Sdk("gemini", read_gemini, "ServerError", "gemini.sse"),
    Sdk("gemini-interactions", read_interactions, "", "gemini-interactions.sse"),
    Sdk("ollama", read_ollama, "ResponseError", "ollama.bin"),
    Sdk("bedrock", read_converse, "EventStreamError", "bedrock.bin"),
    Sdk("bedrock", read_invoked, "EventStreamError", "bedrock-invoke.bin"),
]


@pytest.mark.parametrize("sdk", SDKS, ids=str)
def test_the_sdk_knows_our_error_frame(sdk: Sdk) -> None:
    """After half a stream the frame becomes the SDK's own exception, or its own event of a failure, with our message
    in it."""
    frame = named(sdk.dialect).error_frame("truncated", "cut after 12 events")
    assert frame is not None
    half = b"".join(sdk.blocks()[:5])
    if not sdk.raises:
        *before, last = sdk.read(half + frame)
        assert before == sdk.read(half)
        assert "error" in str(last)
        assert "truncated" in str(last)
        assert "cut after 12 events" in str(last)
        return
    with pytest.raises(Exception, match="cut after 12 events") as caught:
        sdk.read(half + frame)
    assert sdk.raises in [kind.__name__ for kind in type(caught.value).__mro__]
    if sdk.dialect not in ("ollama", "bedrock"):  # their clients keep the message only
        assert "truncated" in str(caught.value.__dict__)


@pytest.mark.parametrize("sdk", SDKS, ids=str)
def test_the_sdk_reads_the_fixture_to_its_end(sdk: Sdk) -> None:
    """Which shows that it is a stream that provider could send."""
    assert len(sdk.read((FIXTURES / sdk.fixture).read_bytes())) > 10


@pytest.mark.parametrize("sdk", [sdk for sdk in SDKS if named(sdk.dialect).keepalive], ids=str)
def test_the_sdk_does_not_see_keepalives(sdk: Sdk) -> None:
    """Two between any two events change nothing of what the SDK hands on, also where the provider's events have ids."""
    keepalive = named(sdk.dialect).keepalive
    assert keepalive is not None
    blocks = sdk.blocks()
    plain = sdk.read(b"".join(blocks))
    assert sdk.read((2 * keepalive).join([b"", *blocks, b""])) == plain
    if sdk.dialect != "gemini":  # its SDK refuses ids
        assert sdk.read((2 * keepalive).join([b"", *(with_id(block, b"7") for block in blocks), b""])) == plain
