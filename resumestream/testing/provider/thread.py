"""The provider in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from .control import Control
from .ledger import Calls
from .script import Script
from .server import serve

T = TypeVar("T")
_STOP_S = 5.0


class ScriptedProvider:
    """A context manager; on exit every connection is cut. Its methods block briefly (`wait_for`, up to its timeout:
    under a loop call it in a worker thread) and may be called from any thread."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        default: Script | None = None,
        fixtures: Path | str | None = None,
    ) -> None:
        self._control = Control(default or Script(), Path(fixtures) if fixtures is not None else None)
        self._address = host, port
        self._started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]]
        self._ended: concurrent.futures.Future[None]
        self.url = ""
        """`http://HOST:PORT`, valid once entered."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(self._address, backlog=512)
        self._listener.setblocking(False)
        self._started, self._ended = concurrent.futures.Future(), concurrent.futures.Future()
        threading.Thread(target=self._run, name="scripted provider", daemon=True).start()
        self._loop, self._task = self._started.result(_STOP_S)
        self.url = f"http://{self._address[0]}:{self._listener.getsockname()[1]}"
        return self

    def __exit__(self, *exc: object) -> None:
        """Raises what broke the provider, if anything did."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._ended.result(_STOP_S)

    def _run(self) -> None:
        async def main() -> None:
            serving = asyncio.create_task(serve(self._control, self._listener))
            self._started.set_result((asyncio.get_running_loop(), serving))
            await asyncio.wait([serving])
            if not serving.cancelled():
                serving.result()

        try:
            # The one loop with `add_reader` on every platform.
            with self._listener, asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(main())
        except BaseException as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    def _ask(self, answer: Callable[[], T]) -> T:
        async def ask() -> T:
            return answer()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    def script(self, *queue: Script, default: Script | None = None, name: str | None = None) -> None:
        """The next calls' answers, in the order in which their requests come in; `default` is for those after.

        With a `name` they are for the calls with the header `x-script: NAME` alone, the last for all after it, and
        replace what that name had."""
        self._ask(lambda: self._control.script(queue, default, name))

    def release(self, call: int | None = None) -> None:
        """Let this call, or each one in progress, pass one hold or stall: the present one or, if none, the next."""
        self._ask(lambda: self._control.release(call))

    def ledger(self) -> Calls:
        """Copies of the records, oldest call first."""
        return self._ask(self._control.calls)

    def wait_for(self, met: Callable[[Calls], bool], *, timeout_s: float = 20.0) -> Calls:
        """The ledger as soon as `met` holds. Raises TimeoutError, with the ledger in its message."""
        return asyncio.run_coroutine_threadsafe(self._control.wait_for(met, timeout_s), self._loop).result()

    def sent(self, call: int) -> bytes:
        """The body bytes that this call has been sent so far."""
        return self._ask(lambda: self._control.sent(call))

    def reset(self) -> None:
        """Forget all calls and scripts; calls in progress are cut."""
        self._ask(self._control.reset)
