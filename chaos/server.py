"""The server under test: as processes that we start and may kill, or as a URL that somebody else runs."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .dialects import Dialect
from .ports import Port
from .process import DEADLINE_S, Process

StoreKind = Literal["memory", "sqlite", "filesystem"]
Loop = Literal["asyncio", "trio"]

STORES: Mapping[StoreKind, str] = {
    "memory": "memory:",
    "sqlite": "sqlite:///{}/streams.db",
    "filesystem": "file://{}/log",
}
GRACE_S = "1"
"""How long a server waits for open answers before it tells the application that it ends."""
_UVICORN = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--timeout-graceful-shutdown", GRACE_S]
_HYPERCORN = ["-m", "hypercorn", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "--graceful-timeout", GRACE_S]
COMMANDS: Mapping[Loop, list[str]] = {
    "asyncio": [sys.executable, *_UVICORN, "{app}"],
    "trio": [sys.executable, *_HYPERCORN, "{app}"],
}
SERVES = r"(?i)running on http://127\.0\.0\.1:\d+"
MOUNT = "/llm"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One column of the table: what the server runs on. What its callers speak differs from row to row."""

    store: StoreKind
    loop: Loop
    dialect: Dialect = "openai-chat"

    def __str__(self) -> str:
        return f"{self.store}-{self.loop}"


CONFIGURATIONS = [Configuration(store, loop) for store in STORES for loop in COMMANDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a scenario needs of the server; names and units are those of its policy."""

    upstreams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of an upstream, what is beside its address."""
    policy: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is tested: an application that we serve, or a server that somebody else runs."""

    app: str = "chaos.targets.embedded:app"
    """As an ASGI server names it."""
    url: str = ""
    """Of the mount point of a server that somebody else runs. Empty: we serve `app`."""
    port: int = 0
    """Where that server's first upstream is, on this machine; the next ones follow."""


EMBEDDED = Target()


class Worker:
    """One process of the server, on a port of its own that it keeps over restarts."""

    def __init__(self, number: int, command: list[str], environment: Mapping[str, str], log: Path, url: str) -> None:
        self.number, self.log, self.url = number, log, url
        self._command, self._environment = command, environment
        self._process: Process | None = None
        self.frozen = False

    @property
    def pid(self) -> int:
        """0: none of ours."""
        return self._process.pid if self._process else 0

    def resident_bytes(self) -> int:
        """How much memory it holds; 0 where the machine does not tell (no /proc)."""
        told = [Path(f"/proc/{member}/statm") for member in self.members()]
        pages = sum(int(each.read_text().split()[1]) for each in told if each.exists())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def members(self) -> list[int]:
        """Its process and that one's children."""
        assert self._process
        return self._process.members()

    def start(self) -> None:
        """It serves on return."""
        self._process = Process(self._command, self.log, self._environment)
        self._process.wait_for(SERVES)

    def freeze(self) -> None:
        assert self._process
        self._process.freeze()
        self.frozen = True

    def thaw(self) -> None:
        assert self._process
        self._process.thaw()
        self.frozen = False

    def kill(self) -> None:
        """Dead on return."""
        if self._process:
            self._process.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process
        self._process.send(signal.SIGTERM)

    def end(self, *, within_s: float = DEADLINE_S) -> int:
        """Wait for its end; its exit code. Raises Failed."""
        assert self._process
        return self._process.end(within_s=within_s)


class Server:
    """`with Server(...) as server:`: workers on one store. All are dead on exit."""

    def __init__(
        self,
        configuration: Configuration,
        options: Options,
        addresses: Mapping[str, str],
        directory: Path,
        workers: int,
        *,
        app: str = EMBEDDED.app,
    ) -> None:
        """`addresses`: upstream to its URL. `app`: what the ASGI servers serve."""
        self.store = STORES[configuration.store].format(directory)
        target = {
            "store": self.store,
            "upstreams": {
                name: {"base_url": url, **options.upstreams.get(name, {})} for name, url in addresses.items()
            },
            "policy": options.policy,
        }
        environment = {**os.environ, "CHAOS_TARGET": json.dumps(target)}
        self.workers, self._ports = [], [Port() for _ in range(workers)]
        for number, port in enumerate(self._ports, 1):
            command = [part.format(port=port.number, app=app) for part in COMMANDS[configuration.loop]]
            log = directory / f"worker-{number}.log"
            self.workers.append(Worker(number, command, environment, log, f"http://127.0.0.1:{port.number}{MOUNT}"))

    def __enter__(self) -> Server:
        try:
            for worker in self.workers:
                worker.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self.workers:
            worker.kill()
        for port in self._ports:
            port.close()


class Elsewhere:
    """A server that somebody else runs: there is no process to start, or to end."""

    def __init__(self, url: str, directory: Path) -> None:
        self.workers = [Worker(1, [], {}, directory / "worker-1.log", url.rstrip("/"))]

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *exc: object) -> None:
        pass
