"""The scripted upstream as one check sees it: its own calls, and nobody else's."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable

from resumestream.testing.provider import Call, Calls, Script, ScriptedProvider

from .verdicts import Failed

HEADER = "x-script"
"""The request header that says which scripts a call gets. Servers hand it on, as all that is not theirs."""


class ScriptedUpstream:
    def __init__(self, provider: ScriptedProvider, name: str, until: float) -> None:
        """`name` is no other check's. `until`: the deadline of every wait, on the monotonic clock."""
        self._provider, self._name, self._until = provider, name, until
        self._numbers = itertools.count(1)
        self._changed = False

    def script(self, *scripts: Script) -> str:
        """The name, for the header `x-script`, of calls that get these in turn, and the last of them from then on."""
        name = f"{self._name}.{next(self._numbers)}"
        self._provider.script(*scripts, name=name)
        return name

    def otherwise(self, script: Script) -> None:
        """What requests without that header get from now on, which a server makes on its own behalf, to the end of the
        check: for one that runs alone."""
        self._changed = True
        self._provider.script(default=script)

    def calls(self, script: str = "") -> Calls:
        """The check's calls so far, or those of that name."""
        return [call for call in self._provider.ledger() if self._mine(call, script)]

    def wait_for(self, met: Callable[[Calls], bool], what: str) -> Calls:
        """The check's calls once that is so. Raises Failed."""

        def mine(calls: Calls) -> Calls:
            return [call for call in calls if self._mine(call)]

        try:
            left_s = max(0.01, self._until - time.monotonic())
            return mine(self._provider.wait_for(lambda calls: met(mine(calls)), timeout_s=left_s))
        except TimeoutError:
            seen = ", ".join(map(_told, self.calls())) or "no call"
            raise Failed(f"at the upstream {what}", seen) from None

    def count_is(self, count: int) -> Calls:
        """There were so many calls. Look when all requests are answered. Raises Failed."""
        calls = self.calls()
        if len(calls) != count:
            raise Failed(f"{count} calls at the upstream", ", ".join(map(_told, calls)) or "none")
        return calls

    def sent(self, call: Call) -> bytes:
        """The body bytes that this call has been sent so far."""
        return self._provider.sent(call.number)

    def release(self) -> None:
        """Let each of the check's calls pass one hold or stall: the present one or, if none, the next."""
        for call in self.calls():
            if not call.ended:
                self._provider.release(call.number)

    def everything(self) -> Calls:
        """All calls of all checks: for requests that a server makes on its own behalf, without the caller's headers."""
        return self._provider.ledger()

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the provider has ended
            self.release()
            if self._changed:
                self._provider.script(default=Script())

    def _mine(self, call: Call, script: str = "") -> bool:
        named = dict(call.headers).get(HEADER, "")
        return named == script if script else named.startswith(f"{self._name}.")


def _told(call: Call) -> str:
    end = "which its client left" if call.disconnected else "ended" if call.ended else "going on"
    return f"{call.method} {call.path} ({call.status}, {call.bytes_sent} bytes, {end})"
