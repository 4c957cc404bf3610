"""The command line as real processes, every wait under a deadline."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from resumestream.testing.provider import ScriptedProvider

from .clients.plain import Plain

DEADLINE_S = 20
ROOT = Path(__file__).parents[1]
CHAT = "/demo/v1/chat/completions"
BODY = {"model": "scripted", "stream": True, "messages": []}


def environment() -> dict[str, str]:
    """This checkout is what runs, whatever is installed, and no store of the user's own is touched."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if name != "RESUMESTREAM_STORE"}
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "resumestream", *map(str, args)]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(command(*args), env=environment(), capture_output=True, text=True, timeout=DEADLINE_S)


@dataclass
class Process:
    """A command that runs. What it writes is gathered as it comes."""

    process: subprocess.Popen[bytes]
    out: list[bytes] = field(default_factory=list)
    err: list[bytes] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads = [
            threading.Thread(target=self._gather, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    def _gather(self, stream: IO[bytes], into: list[bytes]) -> None:
        while data := os.read(stream.fileno(), 65536):
            with self._changed:
                into.append(data)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def stdout(self) -> bytes:
        return b"".join(self.out)

    @property
    def stderr(self) -> str:
        return b"".join(self.err).decode()

    def wait_for_out(self, size: int) -> bytes:
        """Standard output as soon as it has so many bytes."""
        with self._changed:
            ready = self._changed.wait_for(
                lambda: len(self.stdout) >= size or not self._threads[0].is_alive(), DEADLINE_S
            )
        assert ready, f"only {self.stdout!r} within {DEADLINE_S} s; {self.stderr}"
        assert len(self.stdout) >= size, f"ended with {self.stdout!r}; {self.stderr}"
        return self.stdout

    def wait_for_line(self) -> str:
        while b"\n" not in self.stdout:
            self.wait_for_out(len(self.stdout) + 1)
        return self.stdout.partition(b"\n")[0].decode()

    def wait_for_err(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """All matches in standard error as soon as there are `count`."""
        found: list[re.Match[str]] = []

        def enough() -> bool:
            found[:] = re.finditer(pattern, self.stderr)
            return len(found) >= count

        with self._changed:
            assert self._changed.wait_for(enough, DEADLINE_S), f"{len(found)} times {pattern!r} in {self.stderr}"
        return found

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, within_s: float = DEADLINE_S) -> int:
        """Its exit code, and all it wrote is there."""
        code = self.process.wait(within_s)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.end()


@contextmanager
def started(*args: object) -> Iterator[Process]:
    process = subprocess.Popen(
        command(*args),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running = Process(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        running.end()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def serving(provider: ScriptedProvider, store: Path | str, *options: object) -> Iterator[Process]:
    """`resumestream serve` with the upstream `demo`, ready."""
    with started("serve", "--upstream", f"demo={provider.url}", "--store", store, "--port", 0, *options) as process:
        line = process.wait_for_line()
        assert line.startswith("resumestream: serving http://127.0.0.1:")
        process.url = line.split()[-1]
        yield process


def read_some(client: Plain, key: str, size: int = 1) -> tuple[bytes, str]:
    """Post a chat and read until `size` bytes are there: them and the stream's id. The answer stays open."""
    response = client.begin("POST", CHAT, b'{"stream": true, "messages": []}', {"idempotency-key": key})
    body = b""
    while len(body) < size:
        body += response.read1()
    return body, response.headers["stream-id"]
