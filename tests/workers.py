"""Server processes that share a store, as tests start, freeze and kill them.

They are forked, one a command, from a process that has imported everything and has neither a thread nor a loop: a
start takes a tenth of a second. That process reaps a worker only when asked to, so a worker's pid stays its own for as
long as a test may send it signals. Workers die with it, and it dies with the test.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial, reduce
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Literal, Self

DEADLINE_S = 20
ROOT = Path(__file__).parents[1]
STORES = {"sqlite": "sqlite:///{}/streams.db", "filesystem": "file://{}/store"}
"""Name → URL, with a place for the test's directory. What several processes can serve."""
UPSTREAM = "provider"


@dataclass(frozen=True)
class Fault:
    """A signal that a worker sends itself at the first call after `trigger` came to be: right before, or right after.

    `call` is a method of its store, or any other as `module:Class.method`.
    """

    call: str
    when: Literal["before", "after"]
    signal: signal.Signals
    trigger: Path


@dataclass(frozen=True)
class Jump:
    """While `trigger` is there, a worker's wall clock is so many seconds off."""

    seconds: float
    trigger: Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker does."""

    store: str
    provider: str
    log: Path
    backend: str = "asyncio"
    policy: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    jump: Jump | None = None


class Worker:
    """`url` is empty where it ended before it served."""

    def __init__(self, zygote: Zygote, pid: int, url: str) -> None:
        self._zygote, self.pid, self.url = zygote, pid, url
        self.code: int | None = None
        """How it ended: an exit code, or a signal's number, negative."""

    def signal(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Dead on return."""
        self.signal(signal.SIGKILL)
        self.end()

    def freeze(self) -> None:
        """Stopped on return."""
        self.signal(signal.SIGSTOP)
        self.stopped()

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def stopped(self) -> None:
        """Wait until a signal has stopped it."""
        assert self._zygote.ask("wait", self.pid) is None

    def end(self) -> int:
        """Wait for its end; how it ended."""
        while self.code is None:
            self.code = self._zygote.ask("wait", self.pid)
        return self.code


class Zygote:
    """`with Zygote() as zygote: zygote.start(job)`. All workers are dead on exit."""

    def __enter__(self) -> Self:
        self._connection, theirs = Pipe()
        self._asking = threading.Lock()
        self._workers: list[Worker] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()
        self._process.wait(DEADLINE_S)

    def start(self, job: Job) -> Worker:
        """It serves, or has ended, on return."""
        worker = Worker(self, *self.ask("fork", job))
        self._workers.append(worker)
        if not worker.url:
            worker.end()
        return worker

    def kill_all(self) -> None:
        """What is not dead yet."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def ask(self, what: str, about: Any) -> Any:
        with self._asking:
            self._connection.send((what, about))
            assert self._connection.poll(DEADLINE_S), f"no answer to {what} {about} within {DEADLINE_S} s"
            return self._connection.recv()


# --- the process that forks ------------------------------------------------------------------------------------------

IMPORTED = (
    "resumestream.cli.serve",
    "resumestream.stores.sqlite",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
    "hypercorn.trio.run",
    "anyio._backends._asyncio",
    "anyio._backends._trio",
)


def _zygote(connection: Connection) -> None:
    for module in IMPORTED:
        import_module(module)
    children = set[int]()
    try:
        while True:
            match connection.recv():
                case "fork", job:
                    assert threading.active_count() == 1
                    pid, url = _forked(job, connection)
                    children.add(pid)
                    connection.send((pid, url))
                case "wait", pid:
                    _, status = os.waitpid(pid, os.WUNTRACED)
                    stopped = os.WIFSTOPPED(status)
                    if not stopped:
                        children.discard(pid)
                    connection.send(None if stopped else os.waitstatus_to_exitcode(status))
    except EOFError:
        pass
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _forked(job: Job, connection: Connection) -> tuple[int, str]:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            connection.close()
            _work(job, theirs)
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(theirs)
    with open(ours, encoding="ascii") as said:
        return pid, said.readline().strip().rpartition(" ")[2]


def _work(job: Job, ready: int) -> None:
    import anyio

    from resumestream.cli import servers
    from resumestream.cli.serving import Serving
    from resumestream.cli.signals import Stop
    from resumestream.embed import ResumeStream
    from resumestream.policy import Policy
    from resumestream.stores import open_store

    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    os.dup2(ready, 1)  # what it prints is that it serves
    os.close(ready)
    logging.basicConfig(level=logging.INFO, format="%(process)d %(asctime)s %(levelname)s %(message)s")
    if job.jump:
        _jumping(job.jump)
    policy = Policy(**job.policy)
    store = open_store(job.store, policy=policy, serving=True)
    for fault in job.faults:
        _inject(fault, store)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    streams = ResumeStream(store, {UPSTREAM: job.provider}, policy)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server: Any = servers.server("trio" if job.backend == "trio" else "asyncio")
    serving = Serving(streams, store, server, listener, url, Stop.by_signals)
    anyio.run(serving.run, backend=job.backend)


def _jumping(jump: Jump) -> None:
    from resumestream.stores.clock import StoreClock

    real = time.time

    def wall() -> float:
        return real() + (jump.seconds if jump.trigger.exists() else 0)

    time.time = wall
    defaults = StoreClock.__init__.__kwdefaults__
    assert defaults is not None
    defaults["wall"] = wall  # bound when the module was imported


def _inject(fault: Fault, store: object) -> None:
    module, colon, path = fault.call.rpartition(":")
    *owners, name = path.split(".")
    owner = reduce(getattr, owners, import_module(module)) if colon else store
    real = getattr(owner, name)
    hit = partial(_hit, fault)
    wrapped = _around_async if inspect.iscoroutinefunction(real) else _around
    setattr(owner, name, wrapped(real, hit))


def _hit(fault: Fault, when: str) -> None:
    if when == fault.when:
        with suppress(FileNotFoundError):
            fault.trigger.unlink()  # once
            # To this very thread, which goes not one step further: sent to the process, any of them may be first
            signal.pthread_kill(threading.get_ident(), fault.signal)


def _around(real: Callable[..., Any], hit: Callable[[str], None]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        hit("before")
        result = real(*args, **kwargs)
        hit("after")
        return result

    return call


def _around_async(real: Callable[..., Any], hit: Callable[[str], None]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        hit("before")
        result = await real(*args, **kwargs)
        hit("after")
        return result

    return call


if __name__ == "__main__":
    # By its name, as what comes through the pipe knows it
    import_module("tests.workers")._zygote(Connection(int(sys.argv[1])))
