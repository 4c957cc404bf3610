"""`retain_s=0` keeps nothing after the answer; but who asked before the end gets it whole, everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resumestream import Policy, ResumeStream
from resumestream.claims import Terms, decide
from resumestream.hub import Hub
from resumestream.model import Gone
from resumestream.testing import Script, ScriptedProvider, running

from . import fakes
from .fakes import DONE, FakeSource, new_stream, outgoing, sealed
from .wire import CHAT, Client, served

STORES = {"memory": "memory:", "sqlite": "sqlite:///{}/streams.db", "file": "file://{}/store"}
SERVERS = ["uvicorn", "hypercorn-trio"]
CALLS = 8


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=3)) as provider:
        yield provider


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("store", STORES)
def test_who_asked_gets_the_answer(provider: ScriptedProvider, store: str, server: Any, tmp_path: Path) -> None:
    """Streamed, in one piece, and refused; once it is read, it is gone."""
    policy = Policy(drain_s=0, retain_s=0)
    with served(provider, store=STORES[store].format(tmp_path), policy=policy, server=server) as client:
        for number in range(CALLS):
            for keyed in ("", f"k{number}"):
                streamed = client.post(keyed and f"{keyed}s")
                assert (streamed.status, streamed.cut) == (200, False)
                assert streamed.body.endswith(b"data: [DONE]\n\n")
                whole = client.ask("POST", CHAT, {"model": "m"}, idempotency_key=keyed and f"{keyed}w")
                assert (whole.status, whole.json["object"]) == (200, "chat.completion")
                provider.script(Script(status=400))
                assert client.post(keyed and f"{keyed}r").status == 400
        for reply in (streamed, whole):
            assert client.get(f"/streams/{reply.stream}").status == 410


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("store", STORES)
def test_who_runs_a_generator_gets_what_it_said(store: str, server: Any, tmp_path: Path) -> None:
    """Even where the endpoint takes its time to send the answer."""
    streams = ResumeStream(STORES[store].format(tmp_path), policy=Policy(drain_s=0, retain_s=0))

    async def source() -> Any:
        yield "data: all of it\n\n"

    async def chat(request: Request) -> Response:
        answer = await streams.response(source=source, principal="me")
        await anyio.sleep(1.2)  # longer than a sweep
        return answer

    app = Starlette(routes=[Route("/chat", chat)])
    streams.install(app, "/llm")
    with running(app, server=server) as base:
        reply = Client(base).get("/chat")
        assert (reply.status, reply.body) == (200, b"data: all of it\n\n")
        assert Client(base).get(f"/llm/streams/{reply.stream}").status in (404, 410)


async def claimed(hub: Hub, source: FakeSource) -> Any:
    new = new_stream(hub.store.now, key="k", retain_s=0.0)
    return await hub.claim(new, outgoing(source), partial(decide, Terms(), now=hub.store.now()))


@pytest.mark.anyio
async def test_a_claim_holds_the_answer() -> None:
    """From the claim on, for who started and for who attached, whatever looks at it before they read. Then it goes."""
    async with fakes.running() as hub:
        source = FakeSource()
        first, second = await claimed(hub, source), await claimed(hub, source)
        assert (first.started, second.started) == (True, False)
        source.send(DONE)
        source.end()
        new = new_stream(hub.store.now, id=first.stream)
        await sealed(hub, new)
        del first
        assert (await hub.stat(new.id)).gone is Gone.EXPIRED  # nobody who comes now
        with hub.reads.reading(second.stream):
            info = await hub.answered(second.stream)
            del second
            assert (await hub.stat(new.id)).gone is Gone.EXPIRED
            page = await hub.reads.tail(new.id, 0, known=info).receive()
            assert (page.data, info.gone) == (DONE, None)
        await hub.stat(new.id)
        assert (await hub.store.stat(new.id)).gone is Gone.EXPIRED
