"""The grammars of the providers, one file each, and how one is chosen."""

from __future__ import annotations

from ..errors import ConfigError
from ..model import Head, NewStream, Seal
from ..ports import Dialect
from .anthropic import Anthropic
from .bedrock import Bedrock
from .gemini import Gemini
from .gemini_interactions import GeminiInteractions
from .guess import Guess
from .langgraph import LangGraph
from .ollama import Ollama
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .plain import Plain
from .ui_message_stream import UIMessageStream
from .unknown import Unknown

__all__ = ["DIALECTS", "PLAIN", "expected", "named", "spoken", "spoken_in"]

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


def spoken(name: str, head: Head, *, guessed: bool = False, seal: Seal | None = None) -> Dialect:
    """The dialect of an answer of which `name` was expected, where its media type allows that; else the one that its
    headers tell. What nobody knows is events or bytes.

    `guessed` from the path, it yields to the headers, and to the answer itself: until there is a `seal`, which says
    what that came to, it is a Guess. A wrong one costs what a dialect adds, never a byte.
    """
    able = {each.name: each for each in _ALL if head.media_type in each.framing.media_types}
    told = next((each for each in able.values() if each.header and head.get(each.header)), None)
    wanted = able.get(name) if name != UNKNOWN.name else None
    nobodys = UNKNOWN if head.is_sse else PLAIN
    if wanted is None or (guessed and told):
        return told or nobodys
    if not guessed:
        return wanted
    if seal is None:
        return Guess(wanted)
    return nobodys if seal.foreign else wanted


def spoken_in(new: NewStream, head: Head, seal: Seal | None = None) -> Dialect:
    """The dialect of that stream's answer, or of one of its segments."""
    return spoken(new.dialect, head, guessed=new.dialect_guessed, seal=seal)
