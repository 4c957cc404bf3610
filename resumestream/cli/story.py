"""The demo's play: who does what in which order, and what is measured on the way."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from ..errors import ResumeStreamError
from . import caller
from .child import KILL, Child
from .report import Billed, Figures, Received
from .stage import Stage
from .web import Web

TOKENS, PROMPT_TOKENS, TOKEN_S = 180, 1_200, 0.05
EVENTS = TOKENS + 3
"""The role, the tokens, the finish reason, `[DONE]`."""
KILL_AT, UNREAD = 70, 40
"""Events: the first caller dies with so many; so many more come before the second one."""
KEY = "turn-42"

POLL_S = 0.05
KILLED = int(KILL) if sys.platform == "win32" else -KILL
"""The exit code that says so."""


class Story:
    """A caller dies in mid-answer, nobody reads for a while, a second caller takes over, a third one replays."""

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
        while True:
            record = await self._record()
            if record["closed"] or record["events"] >= enough:
                return int(record["events"])
            await anyio.sleep(POLL_S)

    async def _record(self) -> dict[str, Any]:
        _, body = await self._server.ask("GET", f"/streams/{self._stream}/info")
        record: dict[str, Any] = json.loads(body)
        return record

    async def _ledger(self) -> list[dict[str, Any]]:
        _, body = await self._provider.ask("GET", "/_ledger")
        calls: list[dict[str, Any]] = json.loads(body)["calls"]
        return calls


def _billed(calls: list[dict[str, Any]]) -> Billed:
    return Billed(
        prompt=sum(call["prompt_tokens_billed"] for call in calls), output=sum(call["tokens_billed"] for call in calls)
    )
