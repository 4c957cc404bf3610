"""Everything that a scenario acts on, wired up: provider <- link <- server <- link <- callers and readers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from .exchange import Cut, Reply, Silent, ask
from .history import Bounds, History, Record, Turn
from .process import Failed
from .provider import TURN, Provider
from .reader import Form, Reader, Request
from .server import Configuration, Options, Server, Worker
from .toxics import Toxiproxy

CREDENTIAL = "Bearer canary-credential-of-the-caller"
PROMPT = "canary-prompt-of-the-caller"
CANARIES = (CREDENTIAL.removeprefix("Bearer ").encode(), PROMPT.encode())
UPSTREAM = "main"
PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/scripted:streamGenerateContent?alt=sse",
}
"""Dialect to the path that the scripted provider answers in it."""


class Stage:
    """`with Stage(...) as stage:` starts all of it; what it saw is in `history`, once `settle` was called."""

    def __init__(
        self,
        directory: Path,
        configuration: Configuration,
        options: Options | None = None,
        *,
        workers: int = 1,
        upstreams: tuple[str, ...] = (UPSTREAM,),
        bounds: Bounds | None = None,
    ) -> None:
        self.directory, self.configuration = directory, configuration
        self._options, self._count, self._names = options or Options(), workers, upstreams
        self.history = History(canaries=CANARIES, bounds=bounds or Bounds())
        self._readers: list[Reader] = []
        self._faulted_s: float | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.provider = stack.enter_context(Provider(self.directory))
            self.proxy = stack.enter_context(Toxiproxy(self.directory / "toxiproxy.log"))
            self.upstreams = {name: self.proxy.link(f"to-{name}", self.provider.url) for name in self._names}
            addresses = {name: link.url for name, link in self.upstreams.items()}
            self.server = stack.enter_context(
                Server(self.configuration, self._options, addresses, self.directory, self._count)
            )
            self.clients = [self.proxy.link(f"to-worker-{w.number}", w.url) for w in self.server.workers]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        for reader in self._readers:
            reader.leave()
        self._stack.close()

    @property
    def workers(self) -> list[Worker]:
        return self.server.workers

    # --- who asks ------------------------------------------------------------------------------------------------

    def turn(self, name: str, **expected: Any) -> Turn:
        """Say what may come of a key."""
        turn = Turn(name=name, **{"outcomes": frozenset({"completed"}), **expected})
        self.history.turns.append(turn)
        return turn

    def post(
        self,
        turn: str,
        *,
        worker: int = 0,
        dialect: str = "openai-chat",
        upstream: str = UPSTREAM,
        through_link: bool = True,
        **headers: str,
    ) -> Reader:
        """A caller of that turn. Headers by their names with underscores."""
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": PROMPT}], "input": PROMPT}
        return self._reader(
            Request(
                turn=turn,
                method="POST",
                path=f"/{upstream}{PATHS[dialect]}",
                body=json.dumps(body).encode(),
                headers=self._headers(
                    {"idempotency-key": turn, "content-type": "application/json", "stream-exact": "true", TURN: turn},
                    headers,
                ),
            ),
            worker,
            through_link,
        )

    def read(
        self,
        turn: str,
        stream: str,
        *,
        worker: int = 0,
        offset: int | str = 0,
        form: Form = "bytes",
        through_link: bool = True,
        slow_s: float = 0,
        **headers: str,
    ) -> Reader:
        """A live reader of a stream."""
        live = "events" if form == "events" else "tail"
        path = f"/streams/{stream}?live={live}&offset={offset}"
        request = Request(turn=turn, path=path, headers=self._headers({}, headers), form=form)
        return self._reader(request, worker, through_link, slow_s)

    def _reader(self, request: Request, worker: int, through_link: bool, slow_s: float = 0) -> Reader:
        link, direct = self.clients[worker].url + "/llm", self.workers[worker].url
        name = f"{request.method.lower()} {len(self._readers) + 1} of {request.turn}"
        reader = Reader(name, link if through_link else direct, request, slow_s=slow_s)
        self._readers.append(reader)
        return reader

    @staticmethod
    def _headers(own: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
        return {"authorization": CREDENTIAL, **own, **{name.replace("_", "-"): value for name, value in more.items()}}

    def ask(self, method: str, path: str, *, worker: int = 0, **headers: str) -> Reply:
        """A short exchange with a worker, past all links."""
        return ask(self.workers[worker].url, method, path, headers=self._headers({}, headers))

    # --- the faults that end streams -----------------------------------------------------------------------------

    def faulted(self) -> None:
        """From now on a stream of a dead worker has to be sealed within `Bounds.settle_s`."""
        self._faulted_s = time.monotonic()

    # --- afterwards ----------------------------------------------------------------------------------------------

    def settle(self, *, within_s: float = 40) -> History:
        """Wait until every stream is sealed and every reader has ended; write down all that is to be seen."""
        deadline = time.monotonic() + within_s
        for reader in self._readers:
            reader.join(within_s=max(0.1, deadline - time.monotonic()))
        self.history.reads = [reader.read() for reader in self._readers]
        streams = {reader.stream: reader.request.turn for reader in self._readers if reader.stream}
        for stream, turn in streams.items():
            after = self._sealed(stream, deadline)
            for worker in self.workers:
                self.history.records.append(self._record(stream, turn, worker, after))
        self.history.calls = self.provider.calls()
        self._gather()
        return self.history

    def _sealed(self, stream: str, deadline: float) -> float | None:
        """Waits for the seal. How long after the fault it came."""
        while True:
            try:
                if self.ask("HEAD", f"/streams/{stream}").headers.get("stream-state") == "sealed":
                    return time.monotonic() - self._faulted_s if self._faulted_s else None
            except (Cut, Silent, OSError):
                pass
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)

    def _record(self, stream: str, turn: str, worker: Worker, after: float | None) -> Record:
        info = json.loads(self.ask("GET", f"/streams/{stream}/info", worker=worker.number - 1).body)
        segments = [segment["segment"] for segment in info.get("segments", [])] or [1]
        return Record(
            stream=stream,
            turn=turn,
            asked=f"worker {worker.number}",
            state=info["state"],
            outcome=info.get("outcome") or "",
            detail=(info.get("detail") or {}).get("code", ""),
            payload={segment: self._payload(stream, segment, worker) for segment in segments},
            sealed_after_s=after,
        )

    def _payload(self, stream: str, segment: int, worker: Worker) -> bytes:
        payload = b""
        prefix = f"s{segment:02}." if segment > 1 else ""
        while True:
            path = f"/streams/{stream}?offset={prefix}{len(payload):016}"
            page = self.ask("GET", path, worker=worker.number - 1)
            if page.status != 200:
                raise Failed(f"worker {worker.number} answers {page.status} to {path}: {page.body[:500]!r}")
            payload += page.body
            if page.headers.get("stream-closed") or not page.body:
                return payload

    def _gather(self) -> None:
        """All that was written: logs, and the store's files."""
        for path in sorted(self.directory.rglob("*")):
            if path.is_file() and path.name not in ("provider.log",):
                self.history.traces[str(path.relative_to(self.directory))] = path.read_bytes()
