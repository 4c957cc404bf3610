"""The shim, compiled, and jobs for a zygote that it is preloaded into."""

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
    """How many of them until the store was closed for the first time."""
    kills: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """At each operation: how much had been said, and what was found; nothing where the look at it failed."""
    ended: int = 0
    """Exit code of its process; below 0: the signal that killed it."""


class Jobs:
    def __init__(self, zygote: subprocess.Popen[bytes]) -> None:
        self._zygote = zygote

    def do(self, **job: Any) -> Done:
        stdin, stdout = self._zygote.stdin, self._zygote.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps(job, default=str).encode() + b"\n")
        stdin.flush()
        done = Done()
        while True:
            line = stdout.readline()
            assert line, "the zygote is gone"
            said = json.loads(line)
            if "what" in said:
                done.said.append((said["what"], said["stream"], said["at"]))
            elif "looked" in said:
                done.kills.append((len(done.said), done.found))
                done.found = {}
            else:
                for name, value in said.items():
                    setattr(done, name, value)
            if "ended" in said:
                return done


class Pool:
    """Zygotes, each on a core of its own."""

    def __init__(self, zygotes: list[Jobs]) -> None:
        self._zygotes = zygotes

    def do(self, **job: Any) -> Done:
        return self._zygotes[0].do(**job)

    def each(self, things: Iterable[T], look: Callable[[Jobs, T], list[str]]) -> list[str]:
        """All that `look` finds. The next thing is made when there is somebody to look at it."""
        rest, turn = iter(things), threading.Lock()

        def some(zygote: Jobs) -> list[str]:
            found: list[str] = []
            while True:
                with turn:
                    thing = next(rest, None)
                if thing is None:
                    return found
                found += look(zygote, thing)

        with ThreadPoolExecutor(len(self._zygotes)) as threads:
            return [line for share in threads.map(some, self._zygotes) for line in share]


@contextmanager
def pool(preload: Path | None = None) -> Iterator[Pool]:
    with ExitStack() as stack:
        yield Pool([stack.enter_context(_zygote(preload)) for _ in range(WORKERS)])


@contextmanager
def _zygote(preload: Path | None = None) -> Iterator[Jobs]:
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path} | ({"LD_PRELOAD": str(preload)} if preload else {})
    command = [sys.executable, "-m", "tests.disk.zygote"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=HERE.parents[1]
    ) as zygote:
        try:
            yield Jobs(zygote)
        finally:
            zygote.kill()
