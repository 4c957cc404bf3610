"""`demo`: a caller is killed in mid-answer and loses nothing. Real processes, real sockets, no key, no network."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console

from ..errors import ResumeStreamError
from .child import Child
from .report import checks, scoreboard
from .signals import stop_signals
from .stage import stage
from .story import EVENTS, PROMPT_TOKENS, TOKEN_S, TOKENS, Story
from .web import Web

PIPE_WIDTH = 200
"""Columns for whoever is no terminal."""

START_S, STORY_S = 30.0, 60.0


def demo(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The server's; 0 picks a free one.")] = 0,
    leave: Annotated[bool, typer.Option("--exit", help="Leave after the report.")] = False,
) -> None:
    """Kill a caller in mid-answer and watch the next one resume: no key, no network, about 15 seconds."""
    stay = not leave and sys.stdin.isatty() and sys.stdout.isatty()
    raise typer.Exit(anyio.run(_Demo(port, stay=stay).run))


class _Demo:
    def __init__(self, port: int, *, stay: bool) -> None:
        self._port, self._stay = port, stay
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
        self._code: int | None = None
        """The exit code, once there is one."""

    async def run(self) -> int:
        """Everything it started has ended on return, also after an error or a signal."""
        hang_up = () if sys.platform == "win32" else (signal.SIGHUP,)
        with stop_signals(signal.SIGINT, signal.SIGTERM, *hang_up) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._interrupted, signals, tasks.cancel_scope)
                try:
                    await self._perform()
                except* ResumeStreamError as errors:
                    self._failed(str(errors.exceptions[0]))
                except* TimeoutError:
                    self._failed(f"the demo was not through within {STORY_S:g} s")
                tasks.cancel_scope.cancel()
        return self._code or 0

    async def _interrupted(self, signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
        number = await anext(signals)
        if self._code is None:
            self._code = 128 + number
        scope.cancel()

    def _failed(self, why: str) -> None:
        self._code = 1
        print(f"resumestream: {why}", file=sys.stderr)

    async def _perform(self) -> None:
        self._console.print("\nA caller asks for a long answer, is killed half-way, and asks again.\n", style="bold")
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resumestream-demo-")))
            script = json.dumps({"tokens": TOKENS, "prompt_tokens": PROMPT_TOKENS, "delay_s": TOKEN_S})
            provide = ["-m", "resumestream.testing.provider", "--default", script]
            provider = await _start(stack, provide, folder / "provider.log")
            serve = ["-m", "resumestream", "serve", "--upstream", f"demo={provider.base_url}", "--drain-s", "1"]
            serve += ["--store", str(folder / "streams.db"), "--port", str(self._port)]
            server = await _start(stack, serve, folder / "server.log")
            tasks = await stack.enter_async_context(anyio.create_task_group())
            with stage(self._console, EVENTS) as shown, anyio.fail_after(STORY_S):
                story = Story(shown, provider, server, folder)
                tasks.start_soon(story.watch)
                figures = await story.play()
            self._console.print(scoreboard(figures))
            self._code = 0 if all(check.held for check in checks(figures)) else 1
            if self._stay:
                self._invite(server.base_url, folder / "streams.db")
                await anyio.sleep_forever()

    def _invite(self, url: str, store: Path) -> None:
        lines = f"""
Try it by hand, until Ctrl-C. Break it off, run it again: same key, same bytes, no second call.

  curl -N {url}/demo/v1/chat/completions -H 'Idempotency-Key: mine' \\
       -H 'Content-Type: application/json' -d '{{"stream": true, "messages": []}}'
  curl {url}/streams
  resumestream ls --store {store}
"""
        self._console.print(lines, markup=False, soft_wrap=True)


async def _start(stack: AsyncExitStack, args: list[str], log: Path) -> Web:
    """Start a process that says where it serves, as the last word of its first line."""
    process = await stack.enter_async_context(Child(args, log))
    line = await process.first_line(START_S)
    return await stack.enter_async_context(Web(line.split()[-1]))
