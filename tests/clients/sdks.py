"""The official SDKs, unmodified, each sync, on asyncio and, where it runs there, on trio. They get a base URL and
headers; everything else is as their own documentation shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anthropic
import anyio
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

Say = Callable[[str], None]
"""Told the text of each event as it arrives."""

Headers = Mapping[str, str]

CREDENTIAL = "key-of-the-caller"
MODEL = "scripted"
QUESTION = "What is a log?"
TIMEOUT_S = 20
TURNS: Any = [{"role": "user", "content": QUESTION}]


@dataclass(frozen=True, kw_only=True)
class Sdk:
    """One API of one SDK."""

    sync: Callable[[str, Headers], Any]
    """From the gateway's URL to a client that is a context manager."""
    asynchronous: Callable[[str, Headers], Any]
    stream: Callable[[Any], Any]
    """From a client to its iterable of events, or an awaitable of that."""
    text: Callable[[Any], str]
    credential: tuple[str, str]
    """The header that carries it: who shows the same one is the same principal."""
    path: str
    """Of the request, below the gateway's URL."""
    events_before_text: int
    """How many events of the scripted provider come before its first token."""
    error: type[Exception]
    """What it raises for a failure within a stream."""
    refusal: type[Exception]
    """What it raises for an error status."""
    loops: tuple[str, ...] = ("sync", "asyncio", "trio")


def _openai(make: Any, url: str, headers: Headers) -> Any:
    return make(base_url=f"{url}/openai/v1", api_key=CREDENTIAL, default_headers=headers, timeout=TIMEOUT_S)


def _anthropic(make: Any, url: str, headers: Headers) -> Any:
    return make(base_url=f"{url}/anthropic", auth_token=CREDENTIAL, default_headers=headers, timeout=TIMEOUT_S)


def _gemini(url: str, headers: Headers) -> genai.Client:
    options = genai_types.HttpOptions(
        base_url=f"{url}/gemini", api_version="v1beta", headers=dict(headers), timeout=TIMEOUT_S * 1000
    )
    return genai.Client(api_key=CREDENTIAL, http_options=options)


def _chat_text(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def _response_text(event: Any) -> str:
    return str(event.delta) if event.type == "response.output_text.delta" else ""


def _message_text(event: Any) -> str:
    return str(event.delta.text) if event.type == "content_block_delta" else ""


_OPENAI: Any = {
    "sync": partial(_openai, openai.OpenAI),
    "asynchronous": partial(_openai, openai.AsyncOpenAI),
    "credential": ("authorization", f"Bearer {CREDENTIAL}"),
    "error": openai.APIError,
    "refusal": openai.APIStatusError,
}

SDKS = {
    "openai-chat": Sdk(
        **_OPENAI,
        stream=lambda client: client.chat.completions.create(model=MODEL, messages=TURNS, stream=True),
        text=_chat_text,
        path="/openai/v1/chat/completions",
        events_before_text=1,
    ),
    "openai-responses": Sdk(
        **_OPENAI,
        stream=lambda client: client.responses.create(model=MODEL, input=QUESTION, stream=True),
        text=_response_text,
        path="/openai/v1/responses",
        events_before_text=4,
    ),
    "anthropic": Sdk(
        sync=partial(_anthropic, anthropic.Anthropic),
        asynchronous=partial(_anthropic, anthropic.AsyncAnthropic),
        stream=lambda client: client.messages.create(model=MODEL, messages=TURNS, max_tokens=1000, stream=True),
        text=_message_text,
        credential=("authorization", f"Bearer {CREDENTIAL}"),
        path="/anthropic/v1/messages",
        events_before_text=3,
        error=anthropic.APIStatusError,
        refusal=anthropic.APIStatusError,
    ),
    "gemini": Sdk(
        sync=_gemini,
        asynchronous=lambda url, headers: _gemini(url, headers).aio,
        stream=lambda client: client.models.generate_content_stream(model=MODEL, contents=QUESTION),
        text=lambda chunk: chunk.text or "",
        credential=("x-goog-api-key", CREDENTIAL),
        path="/gemini/v1beta/models/scripted:streamGenerateContent?alt=sse",
        events_before_text=0,
        error=genai_errors.ServerError,
        refusal=genai_errors.APIError,
        loops=("sync", "asyncio"),
    ),
}

SDK_WARNINGS = (
    "ignore:Async generator '(openai|anthropic|httpx2|httpcore2):ResourceWarning",  # left to the garbage collector
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",  # google-genai, where aiohttp is installed
)
"""What the SDKs themselves are warned about, as pytest filters."""

CALLERS = [f"{name}/{loop}" for name, sdk in SDKS.items() for loop in sdk.loops]
"""Every SDK on everything it runs on."""


def sdk_of(caller: str) -> Sdk:
    return SDKS[caller.partition("/")[0]]


def ask(caller: str, url: str, headers: Headers, say: Say) -> None:
    """One streamed call, to its end. Raises what the SDK raises."""
    sdk, loop = sdk_of(caller), caller.partition("/")[2]
    if loop == "sync":
        with sdk.sync(url, headers) as client:
            for event in sdk.stream(client):
                say(sdk.text(event))
    else:
        anyio.run(_ask, sdk, url, headers, say, backend=loop)


async def _ask(sdk: Sdk, url: str, headers: Headers, say: Say) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with sdk.asynchronous(url, headers) as client:
            async for event in await sdk.stream(client):
                say(sdk.text(event))
