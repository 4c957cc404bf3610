"""Your own generator as a source: what it yields becomes payload."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import anyio

from .errors import SourceFailed
from .model import Event, Head

logger = logging.getLogger("resumestream")

SourceCallable = Callable[[], AsyncIterator[Any] | AbstractAsyncContextManager[AsyncIterator[Any]]]
"""Zero arguments; returns an async iterator, or an async context manager that yields one."""

CLOSE_S = 5
"""How long a generator may take to clean up after it was stopped."""


class GeneratorSource:
    """Implements ports.Source over a callable, which runs in the drain, in a copy of the caller's context."""

    upstream = ""

    def __init__(self, source: SourceCallable, *, media_type: str) -> None:
        self._source, self._media_type = source, media_type

    async def open(self) -> GeneratorAnswer:
        """Call the source, and enter it if it is a context manager. Raises SourceFailed."""
        stack = AsyncExitStack()
        try:
            made = self._source()
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(made)
            if not isinstance(made, AsyncIterator):
                raise TypeError(f"source() returned {type(made).__name__}, not an async iterator or context manager")
            if (aclose := getattr(made, "aclose", None)) is not None:
                stack.push_async_callback(aclose)
        except Exception as error:
            await stack.aclose()
            raise _failed(error) from error
        return GeneratorAnswer(made, stack, self._media_type)


class GeneratorAnswer:
    """Implements ports.Answer: one payload chunk for each value the generator yields."""

    framed = True

    def __init__(self, values: AsyncIterator[Any], stack: AsyncExitStack, media_type: str) -> None:
        self.head = Head(200, (("content-type", media_type),))
        self._values, self._stack = values, stack

    async def receive(self) -> bytes:
        """The next value as payload; empty ones are skipped. Raises anyio.EndOfStream, SourceFailed."""
        while True:
            try:
                data = encode(await anext(self._values))
            except StopAsyncIteration:
                raise anyio.EndOfStream from None
            except Exception as error:
                raise _failed(error) from error
            if data:
                return data

    async def aclose(self) -> None:
        """Close the generator and leave its context manager, in the task that opened it."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            try:
                await self._stack.aclose()
            except Exception:
                logger.exception("a source failed while it was closed")


def encode(value: Any) -> bytes:
    """bytes and str are payload as written; Event, dict, list, dataclass and pydantic model become one SSE event."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    event = value if isinstance(value, Event) else Event(value)
    if event is not value and not _is_model(value):
        raise TypeError(f"a source yielded {type(value).__name__}; yield bytes, str, Event, a dict or a model")
    if event.event is not None and ("\n" in event.event or "\r" in event.event):
        raise TypeError("Event.event must be one line")
    text = event.data if isinstance(event.data, str) else _json(event.data)
    name = f"event: {event.event}\n" if event.event else ""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return (name + "".join(f"data: {line}\n" for line in lines) + "\n").encode()


def _is_model(value: Any) -> bool:
    return isinstance(value, dict | list) or hasattr(value, "model_dump_json") or dataclasses.is_dataclass(value)


def _json(value: Any) -> str:
    if (dump := getattr(value, "model_dump_json", None)) is not None:
        return str(dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _failed(error: Exception) -> SourceFailed:
    logger.error("a source raised %s; its stream is sealed", type(error).__name__, exc_info=error)
    return SourceFailed(type(error).__name__)
