"""`demo`: a caller is killed in mid-answer and loses nothing. Real processes, real sockets, no key, no network."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console

from ..errors import ResumeStreamError
from . import caller
from .child import Child
from .report import Billed, Figures, Received, checks, scoreboard
from .signals import stop_signals
from .stage import Stage, stage
from .web import Web

TOKENS, PROMPT_TOKENS, TOKEN_S = 180, 1_200, 0.05
EVENTS = TOKENS + 3
"""The role, the tokens, the finish reason, `[DONE]`."""
KILL_AT, UNREAD = 70, 40
"""Events: the first caller dies with so many; so many more come before the second one."""
KEY = "turn-42"

PIPE_WIDTH = 200
"""Columns for whoever is no terminal."""

START_S, STORY_S, POLL_S = 30.0, 60.0, 0.05
KILLED = 1 if sys.platform == "win32" else -signal.SIGKILL


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
                story = _Story(shown, provider, server, folder)
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


class _Story:
    """The play itself, in order."""

    def __init__(self, shown: Stage, provider: Web, server: Web, folder: Path) -> None:
        self._shown, self._provider, self._server, self._folder = shown, provider, server, folder
        self._stream = ""
        self._over = False

    async def play(self) -> Figures:
        say = self._shown.say
        say("provider", f"{self._provider.base_url}, scripted: {TOKENS} tokens, {1 / TOKEN_S:g} a second")
        say("resumestream", f"{self._server.base_url}, a process of its own between the callers and the provider")
        killed, kill_code = await self._first_caller()
        billed_at_kill, log_at_kill = _billed(await self._ledger()), await self._logged()
        say("resumestream", "nobody reads now, and the answer goes on")
        log_unread = await self._logged_unread(log_at_kill + UNREAD)
        resumed = await self._caller("caller 2", log_unread)
        self._over = True
        say(
            "caller 2",
            f"caught up with {log_unread} events in {resumed.caught_up_s * 1000:.0f} ms, then live: "
            f"{resumed.events} events in {resumed.seconds:.1f} s",
        )
        replay = await self._caller("caller 3", resumed.events)
        say("caller 3", f"the whole answer by replay, in {replay.seconds * 1000:.1f} ms")
        head, _ = await self._server.ask("HEAD", f"/streams/{self._stream}")
        _, sent = await self._provider.ask("GET", "/_sent", [("call", "1")])
        calls = await self._ledger()
        return Figures(
            scripted_tokens=TOKENS,
            killed=killed,
            kill_code=kill_code,
            expected_kill_code=KILLED,
            log_at_kill=log_at_kill,
            log_unread=log_unread,
            resumed=resumed,
            replay=replay,
            calls=len(calls),
            billed_at_kill=billed_at_kill,
            billed=_billed(calls),
            sent_bytes=len(sent),
            sent_sha256=hashlib.sha256(sent).hexdigest(),
            sent_before_kill_sha256=hashlib.sha256(sent[: killed.bytes]).hexdigest(),
            outcome=head.get("stream-outcome") or "none",
        )

    async def _first_caller(self) -> tuple[Received, int]:
        received = Received()
        async with self._calling("caller 1") as process:
            while received.events < KILL_AT and (line := await process.line()) is not None:
                received = self._heard("caller 1", received, line)
            if received.events < KILL_AT:
                raise ResumeStreamError(f"the first caller ended after {received.events} events: {process.said}")
            pid, code = process.running.pid, await process.kill()
        self._shown.dead("caller 1")
        self._shown.say("caller 1", f"kill -9 {pid} after {received.events} of {EVENTS} events")
        return received, code

    async def _caller(self, who: str, logged: int) -> Received:
        """`logged`: the events that are in the log before it."""
        received = Received()
        async with self._calling(who) as process:
            while (line := await process.line()) is not None:
                received = self._heard(who, received, line)
                if not received.caught_up_s and received.events >= logged:
                    received = replace(received, caught_up_s=received.seconds)
        return received

    def _calling(self, who: str) -> Child:
        same = "" if who == "caller 1" else "the same request again: "
        self._shown.say(who, f"{same}POST /demo/v1/chat/completions, Idempotency-Key: {KEY}")
        # By its path and isolated: the caller has Python's own library and nothing else.
        args = ["-I", caller.__file__, f"{self._server.base_url}/demo/v1/chat/completions", KEY]
        return Child(args, self._folder / f"{who}.log")

    def _heard(self, who: str, before: Received, line: str) -> Received:
        """What a caller's line adds to what it had."""
        told: dict[str, Any] = json.loads(line)
        if "status" in told:
            self._stream = told["stream"] or self._stream
            return replace(before, replayed=told["replayed"])
        if "done" in told:
            return replace(before, whole=True)
        self._shown.at(who, told["events"])
        return replace(before, **told)

    async def watch(self) -> None:
        """Show how far those are that tell nobody by themselves, until the last live event."""
        while not self._over:
            with suppress(ResumeStreamError):
                self._shown.at("provider", sum(call["events_sent"] for call in await self._ledger()))
                if self._stream:
                    self._shown.at("resumestream", await self._logged())
            await anyio.sleep(POLL_S)

    async def _logged(self) -> int:
        """Events in the log."""
        return int((await self._record())["events"])

    async def _logged_unread(self, enough: int) -> int:
        """As soon as there are enough, or will be no more."""
        while not (record := await self._record())["closed"] and record["events"] < enough:
            await anyio.sleep(POLL_S)
        return int(record["events"])

    async def _record(self) -> dict[str, Any]:
        _, body = await self._server.ask("GET", f"/streams/{self._stream}/info")
        record: dict[str, Any] = json.loads(body)
        return record

    async def _ledger(self) -> list[dict[str, Any]]:
        _, body = await self._provider.ask("GET", "/_ledger")
        calls: list[dict[str, Any]] = json.loads(body)["calls"]
        return calls


async def _start(stack: AsyncExitStack, args: list[str], log: Path) -> Web:
    """Start a process that says where it serves, as the last word of its first line."""
    process = await stack.enter_async_context(Child(args, log))
    line = await process.first_line(START_S)
    return await stack.enter_async_context(Web(line.split()[-1]))


def _billed(calls: list[dict[str, Any]]) -> Billed:
    return Billed(
        prompt=sum(call["prompt_tokens_billed"] for call in calls), output=sum(call["tokens_billed"] for call in calls)
    )
