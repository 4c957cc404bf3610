"""A Python process of ours, for as long as a block lasts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from ..errors import ResumeStreamError

END_S = 3.0
LINE_BYTES = 65_536
KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL  # there, SIGTERM is as hard


class Child:
    """`python *args`, its standard error in the file `log`; ended when the block is left, by its process id.

    In a session of its own, so that Ctrl-C reaches only who started it, which then ends it in order.
    """

    def __init__(self, args: Sequence[str], log: Path) -> None:
        self._args, self._log = args, log
        self._process: anyio.abc.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await anyio.open_process(
                [sys.executable, *self._args], stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        assert self._process.stdout is not None
        self._out = BufferedByteReceiveStream(self._process.stdout)
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._end()

    @property
    def running(self) -> anyio.abc.Process:
        if self._process is None:
            raise RuntimeError("the process is started on entering")
        return self._process

    async def line(self) -> str | None:
        """The next line of its standard output, None at the end of that."""
        try:
            return (await self._out.receive_until(b"\n", LINE_BYTES)).decode()
        except anyio.IncompleteRead:
            return None

    async def first_line(self, within_s: float) -> str:
        """Raises ResumeStreamError, with what it logged, where there is none in time."""
        with anyio.move_on_after(within_s):
            if (line := await self.line()) is not None:
                return line
        raise ResumeStreamError(f"`python {' '.join(self._args)}` did not start: {self.said}")

    @property
    def said(self) -> str:
        """The end of what it logged."""
        return self._log.read_text(errors="replace").strip()[-2000:] or "it said nothing"

    async def kill(self) -> int:
        """The exit code; `-SIGKILL` where that is what ended it."""
        self._send(KILL)
        return await self.running.wait()

    def _send(self, number: signal.Signals) -> None:
        # Not by the process object: that reaps a child which has just ended, before asyncio does, which then misses it.
        with suppress(ProcessLookupError):
            os.kill(self.running.pid, number)

    async def _end(self) -> None:
        process = self.running
        if process.returncode is None:
            self._send(signal.SIGTERM)
            with anyio.move_on_after(END_S):
                await process.wait()
        if process.returncode is None:
            self._send(KILL)
        await process.aclose()
