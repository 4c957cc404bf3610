"""Processes that a scenario starts, freezes and kills, and what they write."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

DEADLINE_S = 20.0


class Failed(Exception):
    """A process did not do in time what it was started for."""


class Process:
    """`with Process(command, log) as process:`. What it writes is in `log`; it and its children are dead on exit."""

    starting: ClassVar[bool] = False
    """One is there, maybe, and `kill_all` does not know it yet."""
    _running: ClassVar[set[Process]] = set()

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command, self.log = list(command), log
        self._start_at = log.stat().st_size if log.exists() else 0
        Process.starting = True
        try:
            with log.open("ab") as out:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=dict(environment) if environment else None,
                    start_new_session=True,
                )
            self.pid = self._process.pid
            self._running.add(self)
        finally:
            Process.starting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    @property
    def written(self) -> str:
        """By this process, not by one before it with the same log."""
        return self.log.read_bytes()[self._start_at :].decode(errors="replace")

    def wait_for(self, pattern: str, count: int = 1, *, within_s: float = DEADLINE_S) -> list[re.Match[str]]:
        """All matches in what it wrote, as soon as there are `count`. Raises Failed; see `wait_until`."""

        def found() -> list[re.Match[str]]:
            return list(re.finditer(pattern, self.written, re.MULTILINE))

        self.wait_until(lambda: len(found()) >= count, f"written {pattern!r}", within_s=within_s)
        return found()

    def wait_until(self, met: Callable[[], bool], what: str, *, within_s: float = DEADLINE_S) -> None:
        """Raises Failed: it has not `what`, or has ended. Whatever this raises, the process is dead then: who waits for
        its start has nobody yet to end it."""
        deadline = time.monotonic() + within_s
        try:
            while not met():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{' '.join(self.command)} has not {what}, but written: {self.written[-2000:]}")
                time.sleep(0.005)
        except BaseException:
            self.kill()
            raise

    def send(self, number: signal.Signals) -> None:
        """To the process alone."""
        if self._process.poll() is None:
            os.kill(self.pid, number)

    def members(self) -> list[int]:
        """Its id and those of its children: a server may do its work in one. Itself alone where there is no /proc."""
        found = {self.pid}
        for each in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(each.name)) == self.pid:
                    found.add(int(each.name))
        return sorted(found)

    def freeze(self) -> None:
        """With its children. Stopped on return; raises Failed."""
        os.killpg(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + DEADLINE_S
        while not all(map(_stopped, self.members())):
            if time.monotonic() > deadline:
                raise Failed(f"{' '.join(self.command)} does not stop")
            time.sleep(0.001)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def end(self, *, within_s: float = DEADLINE_S) -> int:
        """Wait for its end; its exit code. Raises Failed."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(self.command)} has not ended after {within_s:g} s") from None
        self._running.discard(self)
        return code

    def kill(self) -> None:
        """The whole group of it, dead on return."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)
        self._running.discard(self)

    @classmethod
    def kill_all(cls) -> None:
        """All that were started here, dead on return: for a signal handler that ends this process. Nothing of the
        interrupted code is asked, which may hold the lock of a wait."""
        for process in list(cls._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)


def _stopped(pid: int) -> bool:
    """Whether a signal has stopped it, as far as /proc tells; it may be on its way to that."""
    told = Path(f"/proc/{pid}/stat")
    return not told.exists() or told.read_text().rpartition(")")[2].split()[0] in "TZ"
