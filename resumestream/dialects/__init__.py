"""The grammars of the providers, one file each, and how one is chosen."""

from __future__ import annotations

from ..errors import ConfigError
from ..model import Head
from ..ports import Dialect
from .anthropic import Anthropic
from .bedrock import Bedrock
from .gemini import Gemini
from .gemini_interactions import GeminiInteractions
from .langgraph import LangGraph
from .ollama import Ollama
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .plain import Plain
from .ui_message_stream import UIMessageStream
from .unknown import Unknown

__all__ = ["DIALECTS", "PLAIN", "expected", "named", "spoken"]

UNKNOWN, PLAIN = Unknown(), Plain()

_ALL: tuple[Dialect, ...] = (
    OpenAIChat(),
    OpenAIResponses(),
    Anthropic(),
    Gemini(),
    GeminiInteractions(),
    UIMessageStream(),
    LangGraph(),
    Ollama(),
    Bedrock(),
    UNKNOWN,
    PLAIN,
)

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in _ALL}


def named(name: str) -> Dialect:
    """The dialect of that name. Raises ConfigError."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise ConfigError(f"dialect {name!r} is not known; known are {', '.join(DIALECTS)}") from None


def expected(configured: str | None, path: str) -> str:
    """The name of the dialect a streamed answer from `path` will speak: the configured one, else by endpoint.
    Raises ConfigError on an unknown configured name."""
    if configured:
        return named(configured).name
    endpoint = path.partition("?")[0].rstrip("/")
    return next((each.name for each in _ALL if each.endpoint and each.endpoint.search(endpoint)), UNKNOWN.name)


def spoken(name: str, head: Head) -> Dialect:
    """The dialect of an answer of which `name` was expected, where its media type allows that; else the one that its
    headers tell. What nobody knows is events or bytes: a wrong guess costs what a dialect adds, never a byte."""
    able = {each.name: each for each in _ALL if head.media_type in each.framing.media_types}
    told = (each for each in able.values() if each.header and head.get(each.header))
    if name in able and name != UNKNOWN.name:
        return able[name]
    return next(told, UNKNOWN if head.is_sse else PLAIN)
