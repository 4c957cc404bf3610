"""What we add to a provider's stream, as the unmodified SDKs read it: failures raise, keep-alives are not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors

from resumestream.dialects import named
from resumestream.framing import Splitter, with_id

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


SDKS: list[tuple[str, Callable[[bytes], list[Any]], type[Exception]]] = [
    ("openai-chat", read_chat, openai.APIError),
    ("openai-responses", read_responses, openai.APIError),
    ("anthropic", read_anthropic, anthropic.APIStatusError),
    ("gemini", read_gemini, genai_errors.ServerError),
]


@pytest.mark.parametrize(("name", "read", "raises"), SDKS, ids=[sdk[0] for sdk in SDKS])
def test_the_sdk_raises_our_error_frame(name: str, read: Callable[[bytes], list[Any]], raises: type[Exception]) -> None:
    """After half a stream the frame becomes the SDK's own exception, with our message in it."""
    blocks = Splitter().feed((FIXTURES / f"{name}.sse").read_bytes())
    frame = named(name).error_frame("truncated", "cut after 12 events")
    assert frame is not None
    with pytest.raises(raises, match="cut after 12 events") as caught:
        read(b"".join(blocks[:5]) + frame)
    assert "truncated" in str(caught.value.__dict__)


@pytest.mark.parametrize(("name", "read", "raises"), SDKS, ids=[sdk[0] for sdk in SDKS])
def test_the_sdk_does_not_see_keepalives(
    name: str, read: Callable[[bytes], list[Any]], raises: type[Exception]
) -> None:
    """Two between any two events change nothing of what the SDK hands on, also where the provider's events have ids."""
    body, keepalive = (FIXTURES / f"{name}.sse").read_bytes(), named(name).keepalive
    assert keepalive is not None
    plain, blocks = read(body), Splitter().feed(body)
    assert len(plain) > 10
    assert read((2 * keepalive).join([b"", *blocks, b""])) == plain
    if name != "gemini":  # its SDK refuses ids
        assert read((2 * keepalive).join([b"", *(with_id(block, b"7") for block in blocks), b""])) == plain
