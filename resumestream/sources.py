"""Sources that need no connection: your own generator, and an answer that is here already."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .errors import ConfigError, SourceFailed
from .model import Event, Head, Remote
from .ports import Answer

logger = logging.getLogger("resumestream")

SourceCallable = Callable[[], AsyncIterator[Any] | AbstractAsyncContextManager[AsyncIterator[Any]]]
"""Zero arguments; returns an async iterator, or an async context manager that yields one."""


class GeneratorSource:
    """Implements ports.Source over a callable, which runs in the drain's care, in a copy of the caller's context.
    Raises ConfigError for what is no callable."""

    upstream = ""

    def __init__(self, source: SourceCallable, *, media_type: str) -> None:
        if not callable(source):
            raise ConfigError(
                f"source is a {type(source).__name__}; give the function that makes it: source=lines, not lines()"
            )
        self._source, self._media_type = source, media_type

    async def open(self) -> GeneratorAnswer:
        """Call the source, and enter it if it is a context manager. Raises SourceFailed."""
        async with AsyncExitStack() as stack:
            give, take = anyio.create_memory_object_stream[bytes]()
            stack.enter_context(give)
            stack.enter_context(take)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            run = _Run(self._source, give)
            tasks.start_soon(run)
            await run.opened.wait()
            if run.entered:
                return GeneratorAnswer(run, take, stack.pop_all(), self._media_type)
        assert run.failed is not None
        raise run.failed


class GeneratorAnswer:
    """Implements ports.Answer: one payload chunk for each value the generator yields."""

    framed = True
    remote: Remote | None = None

    def __init__(
        self, run: _Run, values: MemoryObjectReceiveStream[bytes], stack: AsyncExitStack, media_type: str
    ) -> None:
        self.head = Head(200, (("content-type", media_type),))
        self._run, self._values, self._stack = run, values, stack

    async def receive(self) -> bytes:
        """The next value as payload. Raises anyio.EndOfStream, SourceFailed."""
        try:
            return await self._values.receive()
        except anyio.EndOfStream:
            if self._run.failed:
                raise self._run.failed from None
            raise

    async def cancel(self) -> None:
        pass

    async def aclose(self) -> None:
        """Stop the generator where it still runs, as a cancelled task stops: what its clean-up awaits must be shielded.
        Returns when it has ended."""
        try:
            await self._stack.aclose()
        except Exception:
            logger.exception("a source failed while it was stopped")


class Opened:
    """Implements ports.Source: an answer that is here already."""

    def __init__(self, answer: Answer, upstream: str) -> None:
        self._answer, self.upstream = answer, upstream

    async def open(self) -> Answer:
        return self._answer


class _Run:
    """One run of a source, in a task of its own. Its cancel scopes and task groups, which it may hold over a `yield`,
    can cancel nothing but itself there, and a cancellation of another task that it awaits stays its own failure."""

    def __init__(self, source: SourceCallable, values: MemoryObjectSendStream[bytes]) -> None:
        self._source, self._values = source, values
        self.opened = anyio.Event()
        """It was entered, or failed before that."""
        self.entered = False
        self.failed: SourceFailed | None = None

    async def __call__(self) -> None:
        with self._values:
            try:
                await self._pour()
            except BaseException as error:  # whatever it is (`sys.exit()`, say), it is this stream's and nobody else's
                stopped = anyio.current_effective_deadline() == -math.inf
                if stopped and isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
                self.failed = _failed(error)
            finally:
                self.opened.set()

    async def _pour(self) -> None:
        ended = False
        async with AsyncExitStack() as stack:
            values = await self._enter(stack)
            self.entered = True
            self.opened.set()
            async for value in values:
                if data := encode(value):
                    await self._values.send(data)
            ended = True
        if not ended:  # a timeout around its `yield`, say: what was cut short must not look complete
            raise RuntimeError("the source's context manager swallowed what ended it early")

    async def _enter(self, stack: AsyncExitStack) -> AsyncIterator[Any]:
        made: Any = self._source()
        if isinstance(made, AbstractAsyncContextManager):
            made = await stack.enter_async_context(made)
        if not isinstance(made, AsyncIterator):
            if inspect.iscoroutine(made):
                made.close()
            raise TypeError(f"the source gave {type(made).__name__}, not an async iterator or a context manager of one")
        if (aclose := getattr(made, "aclose", None)) is not None:
            stack.push_async_callback(aclose)
        return made


def encode(value: Any) -> bytes:
    """bytes and str are payload as written; Event, dict, list, dataclass and pydantic model become one SSE event.

    Raises TypeError, and ValueError for what JSON cannot say.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    event = value if isinstance(value, Event) else Event(value)
    if event is not value and not (isinstance(value, dict | list) or _is_model(value)):
        raise TypeError(f"a source yielded {type(value).__name__}; yield bytes, str, Event, dict, list or a model")
    if event.event is not None and ("\n" in event.event or "\r" in event.event):
        raise TypeError("Event.event must be one line")
    text = event.data if isinstance(event.data, str) else _json(event.data)
    name = f"event: {event.event}\n" if event.event else ""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return (name + "".join(f"data: {line}\n" for line in lines) + "\n").encode()


def _is_model(value: Any) -> bool:
    return not isinstance(value, type) and (hasattr(value, "model_dump_json") or dataclasses.is_dataclass(value))


def _json(value: Any) -> str:
    if (dump := getattr(value, "model_dump_json", None)) is not None:
        return str(dump())
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A model within a value, or a dataclass, as JSON knows it."""
    if not _is_model(value):
        raise TypeError(f"{type(value).__name__} has no JSON form")
    dump = getattr(value, "model_dump", None)
    return dataclasses.asdict(value) if dump is None else dump(mode="json")


def _failed(error: BaseException) -> SourceFailed:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # a task group around the one real reason
    logger.error("a source raised %s; its stream is sealed", type(error).__name__, exc_info=error)
    return SourceFailed(type(error).__name__)
