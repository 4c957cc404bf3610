"""A worker that takes a lost one's call over needs the operator's headers for it, which may fail, hang, or depend on
who asks. What a killed process leaves is a copy of its store in the middle of the answer."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import anyio
import pytest

from resumestream import Policy, Principal, Upstream
from resumestream.errors import ConfigError
from resumestream.model import Remote
from resumestream.testing import Script, ScriptedProvider
from resumestream.upstream import Call, Pool, RawHeaders

from .wire import CHAT, Client, Reply, served

RESPONSES = "/openai/v1/responses"
ASKED = {"model": "m", "input": "hello", "stream": True, "background": True}
POLICY = Policy(drain_s=0, stall_s=5)
SERVERS = pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])
Headers = Callable[[Principal], Awaitable[Mapping[str, str]]]


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=8)) as provider:
        yield provider


async def fine(principal: Principal) -> Mapping[str, str]:
    return {"authorization": f"Bearer of-{','.join(principal.labels)}"}


async def authorize(conn: object, action: str) -> Principal:
    return Principal("p", labels=("team-a",))


@contextlib.contextmanager
def before(provider: ScriptedProvider, server: str, folder: Path, headers: Headers) -> Iterator[Client]:
    upstreams = {"openai": Upstream(provider.url, resume="responses", headers=headers)}
    store = f"{folder}/streams.db"
    with served(
        provider, store=store, policy=POLICY, server=server, upstreams=upstreams, authorize=authorize
    ) as client:
        yield client


def killed(provider: ScriptedProvider, server: str, tmp_path: Path) -> tuple[Path, str]:
    """The store that a worker left which was killed after six events, and the stream."""
    live, left = tmp_path / "live", tmp_path / "left"
    live.mkdir()
    provider.script(Script(tokens=8, hold_at=6))
    with before(provider, server, live, fine) as client:
        reading = client.open("POST", RESPONSES, ASKED, idempotency_key="k", stream_label="team-b")
        reading.read(10)
        stream = reading.headers["stream-id"]
        while client.get(f"/streams/{stream}/info").json["events"] < 6:
            pass
        shutil.copytree(live, left, ignore=shutil.ignore_patterns("*.sock"))
        reading.close()
    provider.wait_for(lambda calls: calls[-1].ended)
    return left, stream


def end(client: Client, stream: str) -> tuple[Reply, str]:
    reply = client.get(f"/streams/{stream}?live=tail")
    return reply, client.get(f"/streams/{stream}/info").json["outcome"]


@SERVERS
def test_the_headers_are_those_of_the_principal(server: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    """Not of the labels that its caller chose: they would choose whose key pays."""
    left, stream = killed(provider, server, tmp_path)
    seen = len(provider.ledger())
    with before(provider, server, left, fine) as client:
        _, outcome = end(client, stream)
    assert outcome == "completed"
    (call,) = provider.ledger()[seen:]
    assert dict(call.headers)["authorization"] == "Bearer of-team-a"


@SERVERS
def test_headers_that_fail_seal_the_stream(server: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    """They do not stop the server from starting."""

    async def failing(principal: Principal) -> Mapping[str, str]:
        raise RuntimeError("the secrets manager is down")

    left, stream = killed(provider, server, tmp_path)
    with before(provider, server, left, failing) as client:
        reply, outcome = end(client, stream)
        assert (outcome, reply.cut) == ("interrupted", True)


@SERVERS
def test_headers_that_hang_keep_nobody_waiting(server: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    async def hanging(principal: Principal) -> Mapping[str, str]:
        await anyio.sleep(60)
        raise AssertionError

    left, stream = killed(provider, server, tmp_path)
    began = time.monotonic()
    with before(provider, server, left, hanging) as client:
        assert client.get(f"/streams/{stream}/info").json["state"] == "streaming"
        assert client.ask("POST", f"/streams/{stream}/cancel").status == 202
        _, outcome = end(client, stream)
        assert outcome == "cancelled"
    assert time.monotonic() - began < 10


@SERVERS
@pytest.mark.parametrize("answer", [Script(status=404), Script(before_head=True, fault="stall"), Script(status=429)])
def test_a_provider_that_has_no_more_of_it_seals_it(
    server: str, answer: Script, provider: ScriptedProvider, tmp_path: Path
) -> None:
    left, stream = killed(provider, server, tmp_path)
    provider.script(default=answer)
    with before(provider, server, left, fine) as client:
        reply, outcome = end(client, stream)
        assert reply.cut
        assert outcome == ("stalled" if answer.fault else "interrupted")
    assert not [call for call in provider.ledger()[1:] if call.method == "POST" and "cancel" not in call.path]


@pytest.mark.anyio
async def test_an_answer_that_cannot_be_taken_in_holds_no_connection(provider: ScriptedProvider) -> None:
    def found(headers: RawHeaders) -> Remote | None:
        raise ConfigError("this is not to be found")

    provider.script(Script(hold_at=1))
    upstream = Upstream(provider.url)
    body = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
    call = Call("a", upstream, Pool(), "POST", CHAT.removeprefix("/openai").encode(), [], body, found=found)
    with pytest.raises(ConfigError):
        await call.open()
    await anyio.to_thread.run_sync(provider.wait_for, lambda calls: calls[0].disconnected)
