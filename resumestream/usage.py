"""Tokens of one provider call: in the provider's own words, and under five names that mean the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

MOST_CHARS = 4096
"""Of `Usage.verbatim`; a longer one loses its nested parts."""
_MOST_TOKENS = 2**53
"""Beyond it a JSON number is not exact, and no count of tokens is that high."""

# Each name of ours is the first of these groups that says anything: the sum of the parts that are there. A dot leads
# into an object. Cached tokens are input, reasoning is output, as with OpenAI; others count them beside.
_GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_tokens": (
        ("prompt_tokens",),  # OpenAI chat
        ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),  # Responses; Anthropic with a cache
        ("promptTokenCount", "toolUsePromptTokenCount"),  # Gemini
        ("total_input_tokens", "total_tool_use_tokens"),  # Gemini Interactions
        ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),  # Bedrock with a cache; AI SDK
        ("inputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"),  # Bedrock's invocation metrics
        ("prompt_eval_count",),  # Ollama
    ),
    "output_tokens": (
        ("completion_tokens",),
        ("output_tokens",),
        ("candidatesTokenCount", "thoughtsTokenCount"),
        ("total_output_tokens", "total_thought_tokens"),
        ("outputTokens",),
        ("outputTokenCount",),
        ("eval_count",),
    ),
    "total_tokens": (("total_tokens",), ("totalTokenCount",), ("totalTokens",)),
    "cached_input_tokens": (
        ("prompt_tokens_details.cached_tokens",),
        ("input_tokens_details.cached_tokens",),
        ("cache_read_input_tokens",),
        ("prompt_cache_hit_tokens",),  # DeepSeek
        ("cachedContentTokenCount",),
        ("total_cached_tokens",),
        ("cacheReadInputTokens",),
        ("cacheReadInputTokenCount",),
        ("inputTokenDetails.cacheReadTokens",),  # AI SDK from 6 on
        ("cachedInputTokens",),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details.reasoning_tokens",),
        ("output_tokens_details.reasoning_tokens",),
        ("output_tokens_details.thinking_tokens",),
        ("thoughtsTokenCount",),
        ("total_thought_tokens",),
        ("outputTokenDetails.reasoningTokens",),
        ("reasoningTokens",),
    ),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call took. None: the provider did not say."""

    verbatim: str
    """The provider's own object as JSON, at most MOST_CHARS long."""
    input_tokens: int | None = None
    """All that was read, from a cache or not."""
    output_tokens: int | None = None
    """All that was written, reasoning included."""
    total_tokens: int | None = None
    cached_input_tokens: int | None = None
    """Of the input tokens."""
    reasoning_tokens: int | None = None
    """Of the output tokens."""

    @classmethod
    def of(cls, told: object) -> Self | None:
        """What a provider's usage object says; None if it is none, or empty. Never raises on what a JSON parser gives;
        what is no count of tokens is left out."""
        if not isinstance(told, dict) or not told:
            return None
        usage = cls(_verbatim(told), **{name: _first(told, groups) for name, groups in _GROUPS.items()})
        read, written, reasoning = usage.input_tokens, usage.output_tokens, usage.reasoning_tokens
        if read is None or written is None:
            return usage
        if usage.total_tokens is None:
            return replace(usage, total_tokens=read + written)
        if reasoning and usage.total_tokens == read + written + reasoning:  # xAI counts it beside its completion
            return replace(usage, output_tokens=written + reasoning)
        return usage


def _first(told: Mapping[str, Any], groups: tuple[tuple[str, ...], ...]) -> int | None:
    for group in groups:
        counts = [count for path in group if (count := _count(told, path)) is not None]
        if counts:
            return sum(counts)
    return None


def _count(told: Mapping[str, Any], path: str) -> int | None:
    name, _, inner = path.partition(".")
    value = told.get(name)
    if inner:
        return _count(value, inner) if isinstance(value, dict) else None
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return value if is_count else None


def _verbatim(told: Mapping[str, Any]) -> str:
    for kept in (told, {name: value for name, value in told.items() if isinstance(value, int | None)}):
        try:
            text = json.dumps(kept, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        except (ValueError, RecursionError):
            continue
        if len(text) <= MOST_CHARS:
            # JSON may hold halves of characters, which no answer of ours could be written with.
            return text.encode("utf-8", "replace").decode()
    return "{}"
