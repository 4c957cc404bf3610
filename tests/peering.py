"""A process that serves a store beside the test's own, as the tests of peers make and command it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from resumestream.model import StreamId
from resumestream.ports import Duties, Peers
from resumestream.stores.peers import FilePeers

ROOT = Path(__file__).parents[1]


class Said:
    """Duties that remember; `wait` is for one to come."""

    def __init__(self) -> None:
        self.all: list[tuple[str, ...]] = []
        self._more = anyio.Event()

    def _say(self, *what: str) -> None:
        self.all.append(what)
        more, self._more = self._more, anyio.Event()
        more.set()

    def followed(self, stream: StreamId, by: str) -> None:
        self._say("followed", stream, by)

    def left(self, stream: StreamId, by: str) -> None:
        self._say("left", stream, by)

    def look(self) -> None:
        self._say("look")

    async def wait(self, *what: str) -> None:
        with anyio.fail_after(20):
            while what not in self.all:
                await self._more.wait()


@contextmanager
def opened(directory: Path, *, lease_s: float = 60) -> Iterator[FilePeers]:
    """In this process; several on one directory are as good as several processes."""
    peers = FilePeers(directory, lease_s=lease_s)
    peers.open()
    try:
        yield peers
    finally:
        peers.close()


@asynccontextmanager
async def running(peers: Peers, duties: Duties | None = None) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peers.run, duties or Said())
        yield
        tasks.cancel_scope.cancel()


class Worker:
    """Another process. Lines go both ways: it is told what to do, and tells what it heard."""

    def __init__(self, directory: Path, *, lease_s: float = 60) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.peering", str(directory), str(lease_s)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.me = self.line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self) -> str:
        """The next it says."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def do(self, line: str) -> None:
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class _Aloud(Said):
    def _say(self, *what: str) -> None:
        print(*what, flush=True)


async def _beat(peers: FilePeers) -> None:
    while True:
        peers.beat()
        await anyio.sleep(0.01)


async def _serve(directory: Path, lease_s: float) -> None:
    with opened(directory, lease_s=lease_s) as peers:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peers.run, _Aloud())
            tasks.start_soon(_beat, peers)
            print(peers.me, flush=True)
            async for line in anyio.wrap_file(sys.stdin):
                match line.split():
                    case ["changed", stream]:
                        peers.changed(StreamId(stream))
                    case ["follow", stream, worker]:
                        tasks.start_soon(_follow, peers, StreamId(stream), worker)
            tasks.cancel_scope.cancel()


async def _follow(peers: FilePeers, stream: StreamId, worker: str) -> None:
    with peers.follow(stream, worker):
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve, Path(sys.argv[1]), float(sys.argv[2]))
