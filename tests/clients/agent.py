"""A pydantic-ai agent that makes two model calls in one run: one that asks for a tool, one that answers."""

from __future__ import annotations

import anyio
import openai
from pydantic_ai import Agent, AgentRunResultEvent, FunctionToolCallEvent, PartDeltaEvent, PartStartEvent, TextPartDelta
from pydantic_ai.messages import TextPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from .sdks import CREDENTIAL, MODEL, TIMEOUT_S, Headers, Say

TOOL = {"name": "capital_of", "arguments": {"country": "Norway"}}


def run(url: str, headers: Headers, say: Say) -> None:
    """Says each text delta, `[tool]` when it calls the tool, and `[result]` with the final answer behind it.

    On asyncio: `run_stream_events` runs on nothing else.
    """
    anyio.run(_run, url, headers, say, backend="asyncio")


async def _run(url: str, headers: Headers, say: Say) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{url}/openai/v1", api_key=CREDENTIAL, default_headers=headers, timeout=TIMEOUT_S
    ) as client:
        agent = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client)))

        @agent.tool_plain
        def capital_of(country: str) -> str:
            return {"Norway": "Oslo"}[country]

        async with agent.run_stream_events("What is the capital of Norway?") as events:
            async for event in events:
                match event:
                    case PartStartEvent(part=TextPart(content=text)):
                        say(text)
                    case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                        say(text)
                    case FunctionToolCallEvent():
                        say("[tool]")
                    case AgentRunResultEvent(result=result):
                        say(f"[result]{result.output}")
