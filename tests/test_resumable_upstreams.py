"""Upstreams that go on without us: a lost connection, or a lost worker, costs no second call and no byte."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from resumestream import Policy, Upstream
from resumestream.testing import Script, ScriptedProvider

from .wire import CHAT, Client, Reply, served

TOKENS = 8
RESPONSES = "/openai/v1/responses"
ASKED = {"model": "m", "input": "hello", "stream": True, "background": True}
OWN = {"authorization": "Bearer of-the-operator"}
POLICY = Policy(drain_s=0, stall_s=5)
SERVERS = pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=TOKENS)) as provider:
        yield provider


@contextlib.contextmanager
def before(provider: ScriptedProvider, server: str, store: str = "memory:", **upstream: Any) -> Iterator[Client]:
    upstreams = {"openai": Upstream(provider.url, resume="responses", **upstream)}
    with served(provider, store=store, policy=POLICY, server=server, upstreams=upstreams) as client:
        yield client


def ask(client: Client, key: str = "k", body: Any = ASKED, **headers: str) -> Reply:
    return client.ask("POST", RESPONSES, body, idempotency_key=key, **headers)


def whole(provider: ScriptedProvider) -> bytes:
    """What the first call would have sent."""
    provider.reset()
    with served(provider, policy=POLICY) as client:
        return ask(client, "whole").body


def made(provider: ScriptedProvider) -> list[tuple[str, str]]:
    return [(call.method, call.path) for call in provider.ledger()]


@SERVERS
@pytest.mark.parametrize("fault", ["fin", "rst", "garbage"])
@pytest.mark.parametrize("place", [{"at_event": 1}, {"at_event": 6}, {"at_byte": 3001}])
def test_a_lost_connection_is_read_on(
    server: str, fault: Any, place: dict[str, int], provider: ScriptedProvider
) -> None:
    """The same segment, the same bytes, one bill; readers see nothing of it."""
    expected = whole(provider)
    provider.reset()
    provider.script(Script(tokens=TOKENS, fault=fault, **place))
    with before(provider, server) as client:
        reply = ask(client)
        assert (reply.status, reply.cut, reply.body) == (200, False, expected)
        first, second = provider.ledger()
        assert (first.method, second.method) == ("POST", "GET")
        assert second.path.startswith("/v1/responses/resp_000001?stream=true&starting_after=")
        assert dict(second.headers)["authorization"] == dict(first.headers)["authorization"]
        assert second.tokens_billed == 0
        info = client.get(f"/streams/{reply.stream}/info").json
        assert (info["outcome"], len(info["segments"]), len(info["attempts"])) == ("completed", 1, 1)


@SERVERS
def test_many_losses(server: str, provider: ScriptedProvider) -> None:
    expected = whole(provider)
    provider.reset()
    provider.script(*[Script(tokens=TOKENS, fault="rst", at_event=2)] * 6)
    with before(provider, server) as client:
        assert ask(client).body == expected
    assert [method for method, _ in made(provider)] == ["POST", *["GET"] * 6]


@SERVERS
def test_losses_that_bring_nothing_come_to_an_end(server: str, provider: ScriptedProvider) -> None:
    """What was kept stays, with its failure."""
    provider.script(Script(tokens=TOKENS, fault="rst", at_event=5), default=Script(fault="rst", at_byte=0))
    with before(provider, server) as client:
        reply = ask(client)
        assert b'"error"' in reply.body
        assert client.get(f"/streams/{reply.stream}/info").json["outcome"] == "truncated"
    assert 2 < len(provider.ledger()) < 10


@SERVERS
@pytest.mark.parametrize(
    ("body", "calls"), [({**ASKED, "background": False}, 1), ({"model": "m", "input": "x", "stream": True}, 1)]
)
def test_what_does_not_go_on_is_not_asked_for(server: str, body: Any, calls: int, provider: ScriptedProvider) -> None:
    provider.script(Script(tokens=TOKENS, fault="fin", at_event=5))
    with before(provider, server) as client:
        assert b'"error"' in ask(client, body=body).body
    assert len(provider.ledger()) == calls


@SERVERS
def test_a_stop_reaches_what_goes_on(server: str, provider: ScriptedProvider) -> None:
    """Closing the connection would not stop it."""
    provider.script(Script(tokens=TOKENS, hold_at=5))
    with before(provider, server) as client:
        reading = client.open("POST", RESPONSES, ASKED, idempotency_key="k")
        reading.read(10)
        assert client.ask("POST", f"/streams/{reading.headers['stream-id']}/cancel").status == 202
        provider.wait_for(lambda calls: len(calls) == 2 and calls[1].ended)
        assert made(provider)[1] == ("POST", "/v1/responses/resp_000001/cancel")
        assert b"cancelled" in reading.rest().body


@SERVERS
@pytest.mark.parametrize("kind", ["sqlite", "file"])
@pytest.mark.parametrize("own", [True, False])
def test_a_lost_worker_is_gone_on_for(
    server: str, kind: str, own: bool, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """Where the credential is the server's; else nobody could ask. What a killed process leaves is a copy of its store
    in the middle of the answer."""
    expected = whole(provider)
    provider.reset()
    provider.script(Script(tokens=TOKENS, hold_at=6), default=Script(tokens=TOKENS))
    headers = {"headers": OWN} if own else {}
    live, left = tmp_path / "live", tmp_path / "left"
    live.mkdir()

    def store(folder: Path) -> str:
        return f"{folder}/streams.db" if kind == "sqlite" else f"file://{folder}/log"

    with before(provider, server, store(live), **headers) as client:
        reading = client.open("POST", RESPONSES, ASKED, idempotency_key="k")
        logged = reading.read(sum(len(block) + 2 for block in expected.split(b"\n\n")[:6]))
        stream = reading.headers["stream-id"]
        shutil.copytree(live, left, ignore=shutil.ignore_patterns("*.sock"))
        reading.close()
    with before(provider, server, store(left), **headers) as client:
        reply = client.get(f"/streams/{stream}?live=tail")
        info = client.get(f"/streams/{stream}/info").json
        if own:
            assert reply.body == expected
            assert (info["outcome"], len(info["attempts"])) == ("completed", 1)
            assert made(provider)[-1] == ("GET", "/v1/responses/resp_000001?stream=true&starting_after=5")
        else:
            assert reply.body == logged
            assert info["outcome"] == "interrupted"
    assert sum(method == "POST" for method, _ in made(provider)) == 1


# --- resumestream behind resumestream -------------------------------------------------------------------------------


class Cutting:
    """A TCP proxy that resets a connection after so many bytes from the server; one entry of `cuts` a connection, and
    none after them."""

    def __init__(self, url: str, *cuts: int) -> None:
        where = urlsplit(url)
        self._to, self._cuts = (where.hostname, where.port), list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{where.path}"
        self.connections = 0
        self._sockets, self._threads = [self._listener], list[threading.Thread]()

    def __enter__(self) -> Cutting:
        self._run(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def _run(self, target: Any, *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                self.connections += 1
                given = socket.create_connection(self._to)
                self._sockets += taken, given
                cut = self._cuts.pop(0) if self._cuts else None
                self._run(self._pump, taken, given, None)
                self._run(self._pump, given, taken, cut)

    def _pump(self, source: socket.socket, sink: socket.socket, cut: int | None) -> None:
        left = cut
        with contextlib.suppress(OSError):
            while data := source.recv(65536 if left is None else min(left, 65536)):
                sink.sendall(data)
                if left is not None and (left := left - len(data)) == 0:
                    break
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@SERVERS
@pytest.mark.parametrize("cuts", [(900,), (1500, 700), (2100,)])
def test_resumestream_behind_resumestream(server: str, cuts: tuple[int, ...], provider: ScriptedProvider) -> None:
    """One call at the provider, one stream at each, the same bytes at both, wherever the connection between them was
    cut."""
    with (
        served(provider, policy=POLICY) as inner,
        Cutting(f"{inner.base}/openai", *cuts) as proxy,
        served(
            provider, policy=POLICY, server=server, upstreams={"openai": Upstream(proxy.url, resume="resumestream")}
        ) as outer,
    ):
        reply = outer.post("k")
        assert (reply.status, reply.cut) == (200, False)
        assert reply.body.endswith(b"data: [DONE]\n\n")
        assert proxy.connections == 1 + len(cuts)
        assert len(provider.ledger()) == 1
        assert reply.body == provider.sent(1)
        (kept,) = inner.get("/streams").json["streams"]
        assert inner.get(f"/streams/{kept['id']}").body == reply.body


@SERVERS
def test_a_failure_behind_is_one_in_front(server: str, provider: ScriptedProvider) -> None:
    """The partial is the same, and no end is made up."""
    provider.script(default=Script(tokens=TOKENS, fault="fin", at_event=4))
    with (
        served(provider, policy=POLICY) as inner,
        served(
            provider,
            policy=POLICY,
            server=server,
            upstreams={"openai": Upstream(f"{inner.base}/openai", resume="resumestream")},
        ) as outer,
    ):
        reply = outer.post("k")
        assert b"truncated" in reply.body
        assert reply.body.startswith(provider.sent(1))
        assert len(provider.ledger()) == 1


@SERVERS
def test_a_stop_goes_through_both(server: str, provider: ScriptedProvider) -> None:
    provider.script(default=Script(tokens=TOKENS, hold_at=4))
    with (
        served(provider, policy=POLICY) as inner,
        served(
            provider,
            policy=POLICY,
            server=server,
            upstreams={"openai": Upstream(f"{inner.base}/openai", resume="resumestream")},
        ) as outer,
    ):
        reading = outer.open("POST", CHAT, {"model": "m", "stream": True, "messages": []}, idempotency_key="k")
        reading.read(10)
        assert outer.ask("POST", f"/streams/{reading.headers['stream-id']}/cancel").status == 202
        provider.wait_for(lambda calls: calls[0].disconnected)
        (kept,) = inner.get("/streams").json["streams"]
        assert kept["cancel_requested"] or kept["outcome"] == "cancelled"
        assert b"cancelled" in reading.rest().body
