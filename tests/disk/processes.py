"""The shim, compiled, and jobs for the processes that it is preloaded into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

HERE = Path(__file__).parent
WORKERS = max(2, os.cpu_count() or 1)


def compiled(where: Path) -> Path:
    """The shim's library; without Linux or a C compiler the test is skipped."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if sys.platform != "linux" or compiler is None:
        pytest.skip("disk faults are injected on Linux, by a shim that a C compiler makes")
    library = where / "shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


@dataclass
class Done:
    """How a job went."""

    said: list[tuple[str, str, int]] = field(default_factory=list)
    """What, of which stream, up to which offset; see `stores.Workload`."""
    found: dict[str, Any] = field(default_factory=dict)
    broke: str = ""
    """An exception that is no StoreError."""
    operations: int = 0
    first: int = 0
    """How many of them through the first handle, but for closing it."""
    kills: list[tuple[int, Done]] = field(default_factory=list)
    """At each operation: how much had been said, and the look at what was there."""
    ended: int = 0
    """Exit code of its process; below 0: the signal that killed it."""

    def tell(self, told: dict[str, Any]) -> None:
        if "what" in told:
            self.said.append((told["what"], told["stream"], told["at"]))
        for name in told.keys() & {"found", "broke", "operations", "first", "ended"}:
            setattr(self, name, told[name])


class Jobs:
    """One at a time. What a job is, `zygote` says."""

    def __init__(self, preload: Path | None) -> None:
        path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = os.environ | {"PYTHONPATH": path} | ({"LD_PRELOAD": str(preload)} if preload else {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()

    def work(self, **job: Any) -> Done:
        """Do the workload."""
        done = Done()
        for told in self._answers("fork" if job.get("dies") else "work", job):
            done.tell(told)
        return done

    def kills(self, *, root: Path, url: str, **job: Any) -> Done:
        """The workload, and at each operation a look at what a kill would leave: a copy of the directory while its
        process is stopped. What the system has of it then, it would have for ever."""
        done, copy = Done(), root.with_name(f"{root.name} killed")
        copied = {"root": copy, "url": url.replace(str(root), str(copy))}
        for told in self._answers("fork", {"root": root, "url": url, "fault": "stop"} | job):
            done.tell(told)
            if "stopped" in told:
                shutil.copytree(root, copy, ignore=shutil.ignore_patterns("*.sock"))
                done.kills.append((len(done.said), self.look(**copied, **job)))
                shutil.rmtree(copy)
                _send(self._processes["fork"], b"")
        return done

    def look(self, **job: Any) -> Done:
        """Look at what is in a store, and go on in it."""
        done = Done()
        for told in self._answers("look", job):
            done.tell(told)
        return done

    def _answers(self, what: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        process = self._processes.get(what) or self._started(what)
        _send(process, json.dumps(job, default=str).encode())
        assert process.stdout
        for line in process.stdout:
            yield (told := json.loads(line))
            if "ended" in told:
                return
        process.communicate()
        del self._processes[what]
        yield {"ended": process.returncode}

    def _started(self, what: str) -> subprocess.Popen[bytes]:
        command, pipe = [sys.executable, "-m", "tests.disk.zygote", what], subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=self._environment, cwd=HERE.parents[1])
        self._processes[what] = process
        return process


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin
    process.stdin.write(line + b"\n")
    process.stdin.flush()


class Pool:
    """Jobs side by side, as many as there are cores."""

    def __init__(self, jobs: list[Jobs]) -> None:
        self._jobs = jobs
        self.first = jobs[0]

    def each(self, things: Iterable[T], look: Callable[[Jobs, T], list[str]]) -> list[str]:
        """All that `look` finds. The next thing is made when there is somebody to look at it."""
        rest, turn = iter(things), threading.Lock()

        def some(jobs: Jobs) -> list[str]:
            found: list[str] = []
            while True:
                with turn:
                    thing = next(rest, None)
                if thing is None:
                    return found
                found += look(jobs, thing)

        with ThreadPoolExecutor(len(self._jobs)) as threads:
            return [line for share in threads.map(some, self._jobs) for line in share]


@contextmanager
def pool(preload: Path | None = None) -> Iterator[Pool]:
    with ExitStack() as stack:
        jobs = [Jobs(preload) for _ in range(WORKERS)]
        for one in jobs:
            stack.callback(one.close)
        yield Pool(jobs)
