"""Everything that a scenario acts on, wired up: provider <- link <- server <- link <- callers and readers."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from .callers import Caller
from .dialects import Dialect
from .exchange import Cut, Reply, Silent, ask
from .history import Probe
from .process import DEADLINE_S, Failed
from .provider import Provider
from .reader import Reader, Request
from .server import EMBEDDED, Configuration, Elsewhere, Options, Server, Target, Worker
from .toxics import Link, Toxiproxy

CREDENTIAL = "canary-credential-of-the-caller"
PROMPT = "canary-prompt-of-the-caller"
OURS = {"authorization": f"Bearer {CREDENTIAL}"}
STRANGER = {"authorization": "Bearer canary-credential-of-a-stranger"}
CALLERS = "callers"
"""Where, below a stage's directory, caller processes write."""
ENDED_STATES = ("sealed", "expired")
UPSTREAM = "main"


@dataclass(frozen=True, slots=True)
class Between:
    """A whole number that the cell draws, the same on every run. Stands wherever a step has a number."""

    low: int
    high: int


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
        seed: str = "",
    ) -> None:
        """`seed`: what its draws come from."""
        self.directory, self._target = directory, target
        self.dialect: Dialect = configuration.dialect
        self.ours = {"x-goog-api-key": CREDENTIAL} if self.dialect == "gemini" else OURS
        """The credential as the dialect's SDK sends it."""
        self._random = random.Random(seed)
        self._configuration, self._options, self._count, self._names = configuration, options, workers, upstreams
        self._run = secrets.token_hex(4)
        self.readers: dict[str, Reader] = {}
        self.callers: dict[str, Caller] = {}
        """Those that are processes."""
        self.background: list[Future[None]] = []
        """What goes on beside the steps."""
        self.probes: list[Probe] = []
        self._over = False
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
            self._before = {worker.pid: worker.resident_bytes() for worker in self.workers if worker.pid}
            stack.callback(self._leave)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _leave(self) -> None:
        self._over = True
        for reader in list(self.readers.values()):
            reader.leave()
        for caller in self.callers.values():
            caller.kill()

    def _server(self) -> AbstractContextManager[Server | Elsewhere]:
        if self._target.url:
            return Elsewhere(self._target.url, self.directory)
        addresses = {name: link.url for name, link in self._links.items()}
        return Server(self._configuration, self._options, addresses, self.directory, self._count, app=self._target.app)

    def draw(self, value: Any) -> Any:
        """The value with a number for each `Between` in it."""
        if isinstance(value, Between):
            return self._random.randint(value.low, value.high)
        return {name: self.draw(one) for name, one in value.items()} if isinstance(value, dict) else value

    def growth(self) -> dict[str, int]:
        """How many bytes of memory the workers hold more than at first; those that were not restarted."""
        return {
            f"worker {worker.number}": worker.resident_bytes() - self._before[worker.pid]
            for worker in self.workers
            if worker.pid in self._before
        }

    def worker(self, number: int) -> Worker:
        return self.workers[number - 1]

    def link(self, name: str) -> Link:
        return self._links[name]

    def begin(self, label: str, worker: int, request: Request, *, slow_s: float = 0, direct: bool = False) -> None:
        """A reader through the link in front of a worker; `direct`: past it. Raises Failed where all is over."""
        if self._over:  # for what goes on in the background
            raise Failed(f"{label} came too late")
        if label in self.readers:
            raise ValueError(f"two readers are called {label}")
        url = self.worker(worker).url if direct else self._front(worker)
        self.readers[label] = Reader(f"{label} of {request.turn}", url, request, slow_s=slow_s)

    def call(self, label: str, worker: int, turn: str, headers: Mapping[str, str]) -> None:
        """A caller's process, through the same link."""
        if label in self.callers:
            raise ValueError(f"two callers are called {label}")
        log = self.directory / CALLERS / f"{label}.log"
        log.parent.mkdir(exist_ok=True)
        url = f"{self._front(worker)}/{UPSTREAM}"
        self.callers[label] = Caller(label, turn, log, self.dialect, url, CREDENTIAL, PROMPT, json.dumps(dict(headers)))

    def _front(self, worker: int) -> str:
        return self.link(f"worker-{worker}").url + urlsplit(self.worker(worker).url).path

    def key(self, name: str) -> str:
        """The idempotency key of that name: a server may know those of an earlier run."""
        return f"{name}-{self._run}"

    def ask(self, worker: int, method: str, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """A short exchange with a worker, past all links; `headers`: None for our credential. Raises Failed."""
        headers = self.ours if headers is None else headers
        try:
            return ask(self.worker(worker).url, method, path, headers=headers)
        except (Cut, Silent, OSError) as error:
            raise Failed(f"worker {worker} does not answer {method} {path}: {error!r}") from error

    def faulted(self) -> None:
        self.faulted_s = time.monotonic()

    def ended(self, reader: Reader, states: Sequence[str] = ENDED_STATES, *, within_s: float = DEADLINE_S) -> float:
        """Wait until any worker says that a reader's stream is in one of these states; when that was. Raises Failed."""
        deadline = time.monotonic() + within_s
        while True:
            for worker in self.workers:
                if worker.frozen:
                    continue
                try:
                    reply = self.ask(worker.number, "HEAD", f"/streams/{reader.stream}", reader.request.credential)
                except Failed:
                    continue
                state = "expired" if reply.status == 410 else reply.headers.get("stream-state")
                if state in states:
                    return time.monotonic()
            if time.monotonic() > deadline:
                raise Failed(f"{reader.stream} is in none of the states {', '.join(states)} after {within_s:g} s")
            time.sleep(0.02)
