"""A store that several processes serve, a provider behind them, and readers of what comes."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import anyio

from resumestream.model import Entry, StreamId, StreamInfo
from resumestream.policy import Policy
from resumestream.stores import open_store
from resumestream.testing.provider import Calls, ScriptedProvider

from .clients.plain import Plain, Reply
from .workers import DEADLINE_S, STORES, UPSTREAM, Fault, Job, Jump, Worker, Zygote

CHAT = f"/{UPSTREAM}/v1/chat/completions"
BODY = b'{"model": "scripted", "stream": true, "messages": []}'
ENDED = b"event: resumestream.end\n"
FAILED = b'data: {"error"'
SERVED = list(product(STORES, ["asyncio", "trio"]))
"""What of `serving` every test is for: a store, and a loop in the workers."""


class Reader:
    """One request and its answer as it comes, read in a thread. `cut`: it ended otherwise than as framed."""

    def __init__(self, worker: Worker, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> None:
        self._client = Plain(worker.url)
        self._asked = method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        self._changed = threading.Condition()
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self.cut = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with self._client:
                response = self._client.begin(*self._asked)
                self._show(status=response.status, headers={k.lower(): v for k, v in response.getheaders()})
                while piece := response.read1():
                    self._show(body=self.body + piece)
                self.cut = bool(response.length)
        except (http.client.HTTPException, OSError):
            self.cut = True
        self._show(ended=True)

    def _show(self, **seen: Any) -> None:
        with self._changed:
            self.__dict__.update(seen)
            self._changed.notify_all()

    ended = False

    def head(self) -> Reader:
        """Wait for its status line."""
        return self.until(0)

    def until(self, size: int) -> Reader:
        """Wait for so many bytes of its body, or its end."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: self.ended or (self.status is not None and len(self.body) >= size), DEADLINE_S
            )
        assert there, f"{self._asked[:2]} has {len(self.body)} of {size} bytes"
        return self

    def end(self, within_s: float = DEADLINE_S) -> Reader:
        """Wait for its end."""
        self._thread.join(within_s)
        assert self.ended, f"{self._asked[:2]} has not ended after {within_s:g} s"
        return self

    @property
    def stream(self) -> str:
        return self.headers["stream-id"]

    @property
    def failed(self) -> bool:
        """Whether it was told that the stream did not end as it should."""
        return self.cut or ENDED in self.body or FAILED in self.body

    @property
    def payload(self) -> bytes:
        """Its body without what no offset counts."""
        body = self.body.partition(ENDED)[0].partition(FAILED)[0]
        return re.sub(rb"id: [0-9]+\n", b"", body)


class Service:
    def __init__(self, zygote: Zygote, provider: ScriptedProvider, kind: str, backend: str, directory: Path) -> None:
        self._zygote, self.provider, self._backend, self._directory = zygote, provider, backend, directory
        self.store = STORES[kind].format(directory)

    def worker(self, *faults: Fault, jump: Jump | None = None, **policy: Any) -> Worker:
        policy = {"drain_s": 0.3, "settle_s": 0.05, "lease_s": 60, **policy}
        log = self._directory / "workers.log"
        return self._zygote.start(
            Job(
                store=self.store,
                provider=self.provider.url,
                log=log,
                backend=self._backend,
                policy=policy,
                faults=faults,
                jump=jump,
            )
        )

    def workers(self, count: int, **policy: Any) -> list[Worker]:
        return [self.worker(**policy) for _ in range(count)]

    def post(self, worker: Worker, key: str, **headers: str) -> Reader:
        return Reader(worker, CHAT, "POST", BODY, idempotency_key=key, x_key=key, **headers)

    def calls(self, key: str) -> Calls:
        """What the provider saw of that key."""
        return of(key, self.provider.ledger())

    def sent(self, key: str) -> bytes:
        (call,) = self.calls(key)
        return self.provider.sent(call.number)

    def trigger(self, name: str = "trigger") -> Path:
        """A file that is not there yet."""
        return self._directory / name

    # --- beside the servers --------------------------------------------------------------------------------------

    def record(self, stream: str) -> StreamInfo:
        return self._look(stream)[0]

    def payload(self, stream: str) -> bytes:
        return self._look(stream)[1]

    def entries(self, stream: str) -> list[Entry]:
        """Its calls in the store's ledger."""
        return self._look(stream)[2]

    def _look(self, stream: str) -> tuple[StreamInfo, bytes, list[Entry]]:
        async def look() -> tuple[StreamInfo, bytes, list[Entry]]:
            async with open_store(self.store, policy=Policy(), serving=False) as store:
                info, payload = await store.stat(StreamId(stream)), b""
                while not info.gone and len(payload) < info.tail:
                    payload += await store.read(info.id, len(payload), info.tail)
                entries = [entry for entry in await store.ledger() if entry.stream == stream]
                return info, payload, entries

        return anyio.run(look)

    def sealed(self, stream: str, *workers: Worker, within_s: float = DEADLINE_S) -> StreamInfo:
        """The record once it is sealed: the same offline and through each of the workers, and the payload too."""
        deadline = time.monotonic() + within_s
        while not (record := self.record(stream)).sealed:
            assert time.monotonic() < deadline, f"{stream} is not sealed after {within_s:g} s"
            time.sleep(0.02)
        payload = self.payload(stream)
        assert record.seal
        assert len(payload) == record.tail
        assert len(self.entries(stream)) == 1
        outcome = record.seal.outcome
        for worker in workers:
            head, page = ask(worker, "HEAD", f"/streams/{stream}"), ask(worker, "GET", f"/streams/{stream}")
            assert (head.headers["stream-state"], head.headers["stream-outcome"]) == ("sealed", outcome)
            assert page.body == payload
            told = info(worker, stream)
            assert (told["outcome"], told["bytes"]) == (outcome, record.tail)
        return record

    def asked_again(self, worker: Worker, key: str) -> Reader:
        """A POST with the key: what there is, without a call; or the one call, where nothing was claimed."""
        before = len(self.calls(key))
        reader = self.post(worker, key).end()
        record = self.sealed(reader.stream)
        assert len(self.calls(key)) == (max(1, before) if record.head else before)
        if reader.status == 200:
            assert reader.failed is not record.completed
        else:
            assert (reader.status, reader.headers["x-should-retry"], record.tail) == (502, "false", 0)
        return reader


def of(key: str, calls: Calls) -> Calls:
    return [call for call in calls if ("x-key", key) in call.headers]


def ask(worker: Worker, method: str, path: str) -> Reply:
    with Plain(worker.url) as client:
        return client.ask(method, path)


def info(worker: Worker, stream: str) -> Any:
    return json.loads(ask(worker, "GET", f"/streams/{stream}/info").body)


@contextmanager
def serving(zygote: Zygote, directory: Path, kind: str, backend: str) -> Iterator[Service]:
    with ScriptedProvider() as provider:
        try:
            yield Service(zygote, provider, kind, backend, directory)
        finally:
            zygote.kill_all()
