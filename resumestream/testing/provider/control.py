"""Which script a call gets, what is kept of it, and what a test may ask. Belongs to one asyncio loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import h11

from .answers import Grammar
from .ledger import Call, Calls, Ledger
from .plan import Plan, plan
from .script import Script


@dataclass(slots=True)
class Playing:
    """A call, and what only the loop needs of it."""

    call: Call
    script: Script
    plan: Plan | None = None
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    @property
    def sent(self) -> bytes:
        return self.plan.body[: self.call.bytes_sent] if self.plan else b""


class Control:
    """A provider but for its sockets."""

    def __init__(self, default: Script, fixtures: Path | None) -> None:
        self._fixtures = fixtures
        self._first_default = self._default = default
        self._queue = deque[Script]()
        self._named: dict[str, deque[Script]] = {}
        self._ledger = Ledger()
        self._calls: list[Playing] = []
        self._background: dict[str, Grammar] = {}
        self._busy: dict[int, asyncio.Task[None]] = {}
        """Connection number to the task that plays a call on it."""

    # --- what a test asks ---------------------------------------------------------------------------------------

    def script(self, queue: tuple[Script, ...], default: Script | None, name: str | None = None) -> None:
        if name is None:
            self._queue.extend(queue)
        else:
            self._named[name] = deque(queue)
        self._default = default or self._default

    def release(self, number: int | None) -> None:
        for playing in self._calls:
            if not playing.call.ended and number in (None, playing.call.number):
                playing.gate.release()

    def calls(self) -> Calls:
        return self._ledger.copy()

    async def wait_for(self, met: Callable[[Calls], bool], timeout_s: float) -> Calls:
        return await self._ledger.wait_for(met, timeout_s)

    def sent(self, number: int) -> bytes:
        return self._calls[number - 1].sent

    def reset(self) -> None:
        for task in self._busy.values():
            task.cancel()
        kept = self._busy, self._queue, self._named, self._calls, self._background, self._ledger.calls
        for forgotten in kept:
            forgotten.clear()
        self._default = self._first_default
        self._ledger.touch()

    async def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """The same over HTTP. Raises ValueError, LookupError on a bad request."""
        path, _, query = target.partition("?")
        asked = dict(parse_qsl(query))
        match method, path:
            case "POST", "/_script":
                values = json.loads(body)
                default = Script.from_values(values["default"]) if "default" in values else None
                self.script(tuple(map(Script.from_values, values.get("queue", ()))), default, values.get("name"))
            case "POST", "/_release":
                self.release(int(asked["call"]) if "call" in asked else None)
            case "POST", "/_reset":
                self.reset()
            case "GET", "/_sent":
                return 200, self.sent(int(asked["call"]))
            case "GET", "/_ledger":
                timeout_s = float(asked.pop("timeout_s", 5))
                least = {name: int(value) for name, value in asked.items()}
                try:
                    return 200, _json(await self.wait_for(lambda calls: _reached(calls, least), timeout_s))
                except TimeoutError:
                    return 504, _json(self.calls())
            case _:
                raise LookupError(f"no control endpoint {method} {path}")
        return 200, b"{}"

    # --- what a connection tells --------------------------------------------------------------------------------

    def began(self, connection: int, task: asyncio.Task[None], request: h11.Request) -> Playing:
        """A request's head is here: choose its script."""
        call = Call(
            number=len(self._calls) + 1,
            connection=connection,
            method=request.method.decode(),
            path=request.target.decode("latin-1"),
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers],
            started_at=asyncio.get_running_loop().time(),
        )
        own = next((value for name, value in call.headers if name == "x-script"), None)
        try:
            script = self._next(own)
        except ValueError as error:
            script = _unplayable(error)
        playing = Playing(call, script)
        self._calls.append(playing)
        self._ledger.calls.append(call)
        self._busy[connection] = task
        self.changed()
        return playing

    def _next(self, own: str | None) -> Script:
        """What the request's own header says or names, else the next queued, else the default. Raises ValueError."""
        if not own:
            return self._queue.popleft() if self._queue else self._default
        if own.startswith("{"):
            return Script.from_json(own)
        if not (named := self._named.get(own)):
            raise ValueError(f"no scripts have the name {own!r}")
        return named.popleft() if len(named) > 1 else named[0]

    def plan(self, playing: Playing, body: bytes) -> Plan:
        """The request's body is here: write the answer."""
        call = playing.call
        call.request_bytes, call.request_sha256 = len(body), hashlib.sha256(body).hexdigest()
        request = (call.number, call.method, call.path, body, self._fixtures, self._background)
        try:
            playing.plan = plan(playing.script, *request)
        except LookupError as error:
            playing.plan = plan(_unplayable(error), *request)
        return playing.plan

    def changed(self) -> None:
        self._ledger.touch()

    def ended(self, playing: Playing, *, disconnected: bool) -> None:
        call = playing.call
        call.finished, call.disconnected, call.held = not disconnected, disconnected, False
        call.sent_sha256 = hashlib.sha256(playing.sent).hexdigest()
        call.ended_at = asyncio.get_running_loop().time()
        self._busy.pop(call.connection, None)
        self.changed()


def _unplayable(error: Exception) -> Script:
    return Script(status=400, body=json.dumps({"error": {"message": f"not playable: {error}"}}).encode())


def _json(calls: Calls) -> bytes:
    return json.dumps({"calls": [asdict(call) for call in calls]}).encode()


def _reached(calls: Calls, least: dict[str, int]) -> bool:
    """`?calls=2&disconnected=1&events_sent=7`: how many calls, or the sum of a field over them."""
    sums = {name: len(calls) if name == "calls" else sum(getattr(call, name) for call in calls) for name in least}
    return all(sums[name] >= value for name, value in least.items())
