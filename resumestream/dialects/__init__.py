"""The grammars of the providers, one file each, and how one is chosen."""

from __future__ import annotations

from ..errors import ConfigError
from ..model import Head
from ..ports import Dialect
from .anthropic import Anthropic
from .gemini import Gemini
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .unknown import Unknown

__all__ = ["DIALECTS", "expected", "named", "spoken"]

_ALL: tuple[Dialect, ...] = (OpenAIChat(), OpenAIResponses(), Anthropic(), Gemini(), Unknown())

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in _ALL}

_ENDPOINTS = {
    "/completions": "openai-chat",  # chat and legacy
    "/responses": "openai-responses",
    "/messages": "anthropic",
    ":streamGenerateContent": "gemini",
}


def named(name: str) -> Dialect:
    """The dialect of that name. Raises ConfigError."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise ConfigError(f"dialect {name!r} is not known; known are {', '.join(DIALECTS)}") from None


def expected(configured: str | None, path: str) -> str:
    """The name of the dialect an event stream from `path` will speak: the configured one, else by endpoint.
    Raises ConfigError on an unknown configured name."""
    if configured:
        return named(configured).name
    endpoint = path.partition("?")[0].rstrip("/")
    return next((name for suffix, name in _ENDPOINTS.items() if endpoint.endswith(suffix)), "unknown")


def spoken(name: str, head: Head) -> Dialect:
    """The dialect of an answer of which `name` was expected: only an event stream has events to end it, so a JSON
    answer of the same endpoint (`stream: false`) is unknown."""
    return named(name) if head.is_sse else DIALECTS["unknown"]
