"""Tokens under our five names, from every provider's own words."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.usage import MOST_CHARS, Usage

COUNTS: list[tuple[str, dict[str, Any], tuple[int | None, ...]]] = [
    (
        "openai-chat",
        {
            "prompt_tokens": 9,
            "completion_tokens": 104,
            "total_tokens": 113,
            "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64},
        },
        (9, 104, 113, 3, 64),
    ),
    (
        "openai-responses",
        {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 104,
            "output_tokens_details": {"reasoning_tokens": 64},
            "total_tokens": 113,
        },
        (9, 104, 113, 0, 64),
    ),
    (
        "anthropic: what was cached comes beside",
        {
            "input_tokens": 5,
            "cache_creation_input_tokens": 200,
            "cache_read_input_tokens": 1000,
            "cache_creation": {"ephemeral_5m_input_tokens": 200},
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
            "service_tier": "standard",
        },
        (1205, 50, 1255, 1000, 20),
    ),
    (
        "gemini: thoughts and tools come beside",
        {
            "promptTokenCount": 10,
            "toolUsePromptTokenCount": 5,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 30,
            "thoughtsTokenCount": 20,
            "totalTokenCount": 65,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
        },
        (15, 50, 65, 4, 20),
    ),
    (
        "gemini: nothing but thoughts so far",
        {"promptTokenCount": 10, "thoughtsTokenCount": 20, "totalTokenCount": 30},
        (10, 20, 30, None, 20),
    ),
    (
        "gemini-interactions",
        {
            "total_input_tokens": 12,
            "total_cached_tokens": 4,
            "total_output_tokens": 37,
            "total_tool_use_tokens": 3,
            "total_thought_tokens": 8,
            "total_tokens": 60,
        },
        (15, 45, 60, 4, 8),
    ),
    (
        "bedrock: what was cached comes beside",
        {"inputTokens": 5, "outputTokens": 50, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20},
        (125, 50, 175, 100, None),
    ),
    ("bedrock: invocation metrics", {"inputTokenCount": 12, "outputTokenCount": 37}, (12, 37, 49, None, None)),
    (
        "bedrock: invocation metrics with a cache",
        {"inputTokenCount": 5, "outputTokenCount": 7, "cacheReadInputTokenCount": 100, "cacheWriteInputTokenCount": 20},
        (125, 7, 132, 100, None),
    ),
    (
        "xai: reasoning comes beside",
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        (32, 103, 135, None, 94),
    ),
    ("ollama", {"prompt_eval_count": 12, "eval_count": 37, "eval_duration": 7}, (12, 37, 49, None, None)),
    ("ollama: the prompt was cached", {"eval_count": 37}, (None, 37, None, None, None)),
    (
        "deepseek",
        {"prompt_tokens": 6, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 2},
        (6, 2, 8, 4, None),
    ),
    (
        "ai sdk",
        {"inputTokens": 12, "outputTokens": 37, "totalTokens": 49, "reasoningTokens": 5, "cachedInputTokens": 4},
        (12, 37, 49, 4, 5),
    ),
    (
        "ai sdk from 6 on",
        {
            "inputTokens": 12,
            "inputTokenDetails": {"noCacheTokens": 8, "cacheReadTokens": 4},
            "outputTokens": 37,
            "outputTokenDetails": {"textTokens": 32, "reasoningTokens": 5},
            "totalTokens": 49,
        },
        (12, 37, 49, 4, 5),
    ),
    ("ollama: embeddings", {"prompt_eval_count": 12}, (12, None, None, None, None)),
    (
        "a gateway that speaks like openai about anthropic",
        {"prompt_tokens": 1205, "completion_tokens": 50, "cache_read_input_tokens": 1000},
        (1205, 50, 1255, 1000, None),
    ),
    ("nothing known", {"type": "duration", "seconds": 7}, (None, None, None, None, None)),
]


@pytest.mark.parametrize(("told", "counts"), [row[1:] for row in COUNTS], ids=[row[0] for row in COUNTS])
def test_every_providers_words(told: dict[str, Any], counts: tuple[int | None, ...]) -> None:
    """Input is all that was read, output all that was written; the provider's own object stays beside them."""
    usage = Usage.of(told)
    assert usage is not None
    assert astuple(usage)[1:] == counts
    assert json.loads(usage.verbatim) == told


@pytest.mark.parametrize("told", [None, {}, [], [1], "x", 7, True])
def test_what_is_no_object_is_no_usage(told: object) -> None:
    """Nor an empty one."""
    assert Usage.of(told) is None


@pytest.mark.parametrize("value", [-1, 1.5, 12.0, "12", True, None, [], {}, 2**53, 10**400, float("nan")])
def test_what_is_no_count_is_left_out(value: object) -> None:
    """Negative, broken, beyond what JSON can say exactly, or no number at all."""
    usage = Usage.of({"prompt_tokens": value, "completion_tokens": 3, "completion_tokens_details": value})
    assert usage is not None
    assert astuple(usage)[1:] == (None, 3, None, None, None)


def test_the_verbatim_object_is_short_and_json() -> None:
    """A long one keeps its own numbers; what JSON cannot say is left out with the rest that is no count."""
    long = Usage.of({"prompt_tokens": 7, "details": {"x": "y" * MOST_CHARS}})
    broken = Usage.of({"prompt_tokens": 7, "cost": float("inf")})
    many = Usage.of({f"n{number}": 1 for number in range(MOST_CHARS)})
    assert long
    assert broken
    assert many
    assert json.loads(long.verbatim) == json.loads(broken.verbatim) == {"prompt_tokens": 7}
    assert many.verbatim == "{}"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
names = st.sampled_from(sorted({name.partition(".")[0] for _, told, _ in COUNTS for name in told}))


@given(st.dictionaries(names, values, max_size=8))
def test_garbage_never_raises(told: dict[str, object]) -> None:
    """Counts are never negative, and the object can always be stored and read."""
    usage = Usage.of(told)
    if usage:
        assert all(count is None or count >= 0 for count in astuple(usage)[1:])
        assert len(usage.verbatim) <= MOST_CHARS
        assert isinstance(json.loads(usage.verbatim), dict)


def test_halves_of_characters_are_told_as_something_that_can_be_written() -> None:
    """JSON can hold a lone surrogate, and no answer of ours could."""
    usage = Usage.of({"prompt_tokens": 1, "note": "\ud800 é", "\udfff": 1})
    assert usage
    assert json.loads(usage.verbatim.encode()) == {"prompt_tokens": 1, "note": "? é", "?": 1}
