"""A server under attack: what is behind it, who it is for, and whom it must never call."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from resumestream import Policy, ResumeStream, Upstream
from resumestream.testing import Script, ScriptedProvider, running

from .wire import Client

SERVERS = ["uvicorn", "hypercorn-trio"]
LIMITS = {"max_request_bytes": 100_000, "receive_s": 0.3, "max_head_bytes": 12_000}


class Evil:
    """Whoever redirects, Host tricks and odd paths would have us call."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.called = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._listener.accept()[0].close()
                self.called += 1

    def close(self) -> None:
        self._listener.close()


@dataclass
class Site:
    """A server under attack. `client` is who it is for."""

    provider: ScriptedProvider
    streams: ResumeStream
    base: str
    evil: Evil
    upstream: str

    def client(self, credential: str = "test") -> Client:
        return Client(f"{self.base}/llm", authorization=f"Bearer {credential}")

    @property
    def calls(self) -> int:
        return len(self.provider.ledger())

    def serves(self) -> None:
        """One normal call and its replay, whatever the attack left of the provider's script."""
        self.provider.reset()
        first, again = self.client().post("normal"), self.client().post("normal")
        assert (first.status, again.status, again.headers["idempotent-replayed"]) == (200, 200, "true")
        assert first.body == again.body
        assert self.evil.called == 0


@contextlib.contextmanager
def site(server: Any, authorize: Any = None) -> Iterator[Site]:
    with contextlib.closing(Evil()) as evil, ScriptedProvider(default=Script(tokens=3)) as provider:
        upstreams = {
            "openai": Upstream(f"{provider.url}/base"),
            "paid": Upstream(f"{provider.url}/base", headers={"authorization": "Bearer operators"}),
        }
        policy = Policy(drain_s=0, settle_s=0.05, first_byte_s=5, **LIMITS)  # type: ignore[arg-type]
        streams = ResumeStream("memory:", upstreams, policy, authorize)
        host = Starlette()
        streams.install(host, "/llm")
        with running(host, server=server) as base:
            yield Site(provider, streams, base, evil, provider.url.removeprefix("http://"))
