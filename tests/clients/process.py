"""A caller in a process of its own, which can be killed at an exact place.

Processes are forked from one that has imported the SDKs, since an import costs a second or more; none of them shares a
connection, a client or a loop with another.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

from .sdks import Say

DEADLINE_S = 20

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["openai", "anthropic", "google.genai", "pydantic_ai.models.openai", "trio", "pytest"]
)


class Caller:
    """`with Caller(ask, *args) as caller`: runs `ask(*args, say)` in a new process. Killed on exit, if not ended."""

    def __init__(self, ask: Callable[..., None], *args: Any) -> None:
        self._said, theirs = _PROCESSES.Pipe(duplex=False)
        self._process = _PROCESSES.Process(target=_call, args=(theirs, ask, args), daemon=True)
        self._theirs = theirs
        self.text = ""
        """All that it said so far."""

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._said.close()
        self._process.close()

    def reads(self, text: str) -> None:
        """Wait until all that it said is exactly `text`. Fails as soon as it says anything else, ends or is late."""
        while self.text != text:
            assert text.startswith(self.text), f"it said {self.text!r}, expected was {text!r}"
            more = self._next()
            assert more is not None, f"it ended after {self.text!r}, expected was {text!r}"
            self.text += more

    def ends(self) -> str:
        """Wait for its end; all that it said. Fails if it raised or is late."""
        while (more := self._next()) is not None:
            self.text += more
        return self.text

    def kill(self) -> None:
        """SIGKILL, and wait until the process is no more."""
        self._process.kill()  # SIGKILL; it may have ended by itself
        self._process.join(DEADLINE_S)
        assert not self._process.is_alive()

    def _next(self) -> str | None:
        assert self._said.poll(DEADLINE_S), f"silent for {DEADLINE_S} s after {self.text!r}"
        said: str | Exception | None = self._said.recv()
        if isinstance(said, Exception):
            raise said
        return said


def _call(said: Connection, ask: Callable[..., None], args: tuple[Any, ...]) -> None:
    say: Say = said.send
    try:
        ask(*args, say)
    except Exception as error:
        said.send(AssertionError(f"the caller raised {type(error).__name__}: {error}"))
    else:
        said.send(None)
