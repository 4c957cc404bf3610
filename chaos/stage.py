"""Everything that a scenario acts on, wired up: provider <- link <- server <- link <- callers and readers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from .exchange import Cut, Reply, Silent, ask
from .process import DEADLINE_S, Failed
from .provider import Provider
from .reader import Reader, Request
from .server import EMBEDDED, Configuration, Elsewhere, Options, Server, Target, Worker
from .toxics import Link, Toxiproxy

CREDENTIAL = "canary-credential-of-the-caller"
PROMPT = "canary-prompt-of-the-caller"
OURS = {"authorization": f"Bearer {CREDENTIAL}"}
STRANGERS = {"authorization": "Bearer credential-of-a-stranger"}
UPSTREAM = "main"


class Stage:
    """`with Stage(...) as stage:` starts all of it; all of it is dead on exit."""

    def __init__(
        self,
        directory: Path,
        configuration: Configuration,
        options: Options,
        *,
        workers: int = 1,
        upstreams: Sequence[str] = (UPSTREAM,),
        target: Target = EMBEDDED,
    ) -> None:
        self.directory, self._target = directory, target
        self._configuration, self._options, self._count, self._names = configuration, options, workers, upstreams
        self.run = secrets.token_hex(4)
        """In every key: a server may know those of an earlier run."""
        self.readers: dict[str, Reader] = {}
        self.faulted_s: float | None = None
        """When the last fault was that may have ended streams."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.provider = stack.enter_context(Provider(self.directory))
            proxy = stack.enter_context(Toxiproxy(self.directory / "toxiproxy.log"))
            self._links = {
                name: proxy.link(name, self.provider.url, port=self._target.port and self._target.port + index)
                for index, name in enumerate(self._names)
            }
            self.workers = stack.enter_context(self._server()).workers
            for worker in self.workers:
                name = f"worker-{worker.number}"
                self._links[name] = proxy.link(name, worker.url)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        for reader in self.readers.values():
            reader.leave()
        self._stack.close()

    def _server(self) -> AbstractContextManager[Server | Elsewhere]:
        if self._target.url:
            return Elsewhere(self._target.url, self.directory)
        addresses = {name: link.url for name, link in self._links.items()}
        return Server(self._configuration, self._options, addresses, self.directory, self._count, app=self._target.app)

    def worker(self, number: int) -> Worker:
        return self.workers[number - 1]

    def link(self, name: str) -> Link:
        return self._links[name]

    def begin(self, label: str, worker: int, request: Request, *, slow_s: float = 0) -> None:
        """A reader through the link in front of a worker."""
        if label in self.readers:
            raise ValueError(f"two readers are called {label}")
        url = self.link(f"worker-{worker}").url + urlsplit(self.worker(worker).url).path
        self.readers[label] = Reader(f"{label} of {request.turn}", url, request, slow_s=slow_s)

    def ask(self, worker: int, method: str, path: str, headers: Mapping[str, str] = OURS) -> Reply:
        """A short exchange with a worker, past all links. Raises Cut, Silent, OSError."""
        return ask(self.worker(worker).url, method, path, headers=headers)

    def faulted(self) -> None:
        self.faulted_s = time.monotonic()

    def sealed(self, stream: str, *, within_s: float = DEADLINE_S) -> float:
        """Wait until any worker says that it is sealed; when that was. Raises Failed."""
        deadline = time.monotonic() + within_s
        while True:
            for worker in self.workers:
                try:
                    reply = self.ask(worker.number, "HEAD", f"/streams/{stream}")
                except (Cut, Silent, OSError):
                    continue
                if reply.headers.get("stream-state") == "sealed":
                    return time.monotonic()
            if time.monotonic() > deadline:
                raise Failed(f"{stream} is not sealed after {within_s:g} s")
            time.sleep(0.02)
