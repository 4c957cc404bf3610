"""Whose a stream of your own generator is, and how browsers read it: EventSource, tickets, principals."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from fastapi import Depends, FastAPI, Header
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from resumestream import ConfigError, Event, Guard, Principal
from resumestream.errors import Unauthorized

from .asgi import Passing, calling
from .own import ME, Talk, answering, resume_stream, served, starlette

pytestmark = pytest.mark.anyio


# --- EventSource and tickets ------------------------------------------------------------------------------------


async def test_an_event_source_reconnects() -> None:
    """With `events`, each event has an id; a reconnect goes on behind the last one, and the end stops it."""
    talk = Talk(Event("a"), Event({"b": 1}, event="delta"))
    async with answering(talk, events=True) as callers:
        first = callers.open("/chat")
        await first.until(b"delta")
        await first.until(b"}\nid: ")
        first.leave()
        await first.ended()
        assert first.events == [("", "a"), ("delta", '{"b":1}')]
        again = callers.open("/chat", last_event_id=f"{len('data: a') + 2:016}")
        talk.say(Event("c"), None)
        await again.ended()
        assert again.events == [("delta", '{"b":1}'), ("", "c")]
        assert not again.cut
        done = await callers.get("/chat", last_event_id=again.last_event_id)
        foreign = await callers.get("/chat", last_event_id="17")
    assert (done.status, done.body) == (204, b"")
    assert [text for _, text in foreign.events] == ["a", '{"b":1}', "c"]
    assert talk.runs == 1


async def test_an_event_source_hears_how_a_stream_failed() -> None:
    """In its last event, whose id makes the reconnect a 204."""
    async with answering(Talk(Event("a"), LookupError()), events=True) as callers:
        first = await callers.get("/chat")
        late = await callers.get("/chat", last_event_id=f"{len('data: a') + 2:016}")
        done = await callers.get("/chat", last_event_id=late.last_event_id)
    end = ("resumestream.end", '{"outcome": "provider_error", "detail": "source_failed:LookupError"}')
    assert (first.events, late.events) == ([("", "a"), end], [end])
    assert done.status == 204


async def test_events_of_what_has_none_is_a_406() -> None:
    """Bytes of another media type cannot be told apart into events."""
    async with answering(Talk(b"x", None), events=True, media_type="application/octet-stream") as callers:
        assert (await callers.get("/chat")).status == 406


async def test_tickets() -> None:
    """One stream, these actions, so long: a reader that cannot send headers needs nothing else."""
    streams, talk = resume_stream(authorize=nobody), Talk(Event("a"))
    async with answering(talk, streams=streams) as callers:
        stream = (await streams.start(key="k", source=talk, principal=ME)).id
        other = (await streams.start(source=Talk(), principal=ME)).id
        at = f"/llm/streams/{stream}"
        assert (await callers.get(at)).status == 404

        ticket = streams.ticket(stream)
        reader = callers.open(f"{at}?live=events&ticket={ticket}", origin="https://app.example")
        await reader.until(b"data: a\nid: ")
        assert (await callers.get(f"{at}/info?ticket={ticket}")).status == 200
        assert (await callers.get(f"/llm/streams/{other}?ticket={ticket}")).status == 404
        assert (await callers.get(f"{at}/cancel?ticket={ticket}", method="POST")).status == 404
        assert (await callers.get(f"/llm/streams?ticket={ticket}")).status == 401
        for bad in ("", "x", ticket[:-1], ticket + "0", f"v1.x.{ticket.rpartition('.')[2]}", "%F0%9F%8E%AB"):
            assert (await callers.get(f"{at}?ticket={bad}")).status == 404
        assert (await callers.get(f"{at}?ticket={streams.ticket(stream, ttl_s=0)}")).status == 404
        assert (await callers.get(f"{at}?ticket={streams.ticket(stream, ttl_s=60)}")).status == 200

        stop = streams.ticket(stream, allow=["stop"])
        assert (await callers.get(f"{at}?ticket={stop}")).status == 404
        assert (await callers.get(f"{at}/cancel?ticket={stop}", method="POST")).status == 202
        await reader.ended()
        assert reader.events[-1][0] == "resumestream.end"
        for allow in ("read", [], ["everything"]):
            with pytest.raises(ConfigError, match="allow"):
                streams.ticket(stream, allow=allow)  # type: ignore[arg-type]


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_missing_guard_is_said_before_it_hurts(guarded: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Once for all answers, of endpoints and of the faces: here a failed stream may end as if it were whole."""
    streams = resume_stream()

    async def chat(request: Request) -> Response:
        return await streams.response(key="k", source=Talk("data: 1\n\n", LookupError()), request=request)

    app = Starlette(routes=[Route("/chat", chat)], lifespan=streams.lifespan)
    app.mount("/llm", streams.asgi)
    app.add_middleware(Passing)
    with anyio.fail_after(10):
        async with app.router.lifespan_context(app), calling(Guard(app) if guarded else app) as callers:
            for path in ("/chat", "/chat", "/llm/streams"):
                reply = await callers.get(path)
                assert reply.cut == (guarded and path == "/chat")
                assert caplog.text.count("without its guard") == (0 if guarded else 1)


async def nobody(conn: HTTPConnection, action: str) -> None:
    return None


# --- whose it is ------------------------------------------------------------------------------------------------


async def test_the_principal_may_come_from_a_dependency() -> None:
    """Each user's key is their own."""
    streams, runs = resume_stream(), list[str]()

    async def user(x_user: str = Header()) -> str:
        return x_user

    app = FastAPI()

    @app.get("/chat", response_model=None)
    async def chat(name: str = Depends(user)) -> Response:
        async def source() -> AsyncIterator[str]:
            runs.append(name)
            yield f"data: {name}\n\n"

        return await streams.response(key="turn-1", source=source, principal=name)

    streams.install(app)
    async with served(app) as callers:
        replies = [await callers.get("/chat", x_user=name) for name in ("ann", "bob", "ann")]
    assert [reply.body for reply in replies] == [b"data: ann\n\n", b"data: bob\n\n", b"data: ann\n\n"]
    assert runs == ["ann", "bob"]


async def test_without_a_principal_it_is_the_requests() -> None:
    """Its credential's, else this machine's; `?key=` in an endpoint of your own is no credential."""
    runs: list[Talk] = []

    def source() -> AsyncIterator[str]:
        runs.append(Talk(None))
        return runs[-1]()

    async with answering(source, principal=None) as callers:
        local = [await callers.get(f"/chat{query}") for query in ("", "?key=turn-1")]
        holders = [await callers.get("/chat", authorization=f"Bearer {name}", peer=("192.0.2.1", 1)) for name in "ab"]
        refused = [
            await callers.get("/chat", peer=("192.0.2.1", 1)),
            await callers.get("/chat", origin="https://evil.example"),
            await callers.get("/chat", x_forwarded_for="192.0.2.1"),
        ]
        unstable = await callers.get("/chat", authorization="Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln")
    ids = [reply.headers["stream-id"] for reply in (*local, *holders)]
    assert ids[0] == ids[1]
    assert len({*ids}) == 3
    assert [reply.status for reply in refused] == [403, 403, 403]
    assert unstable.status == 400
    assert len(runs) == 3


async def test_the_hook_says_whose_it_is() -> None:
    """It is asked for the action that is meant; None is a 401."""
    asked: list[str] = []

    async def authorize(conn: HTTPConnection, action: str) -> Principal | None:
        asked.append(action)
        return Principal(ME) if "cookie" in conn.headers else None

    streams = resume_stream(authorize=authorize)

    async def chat(request: Request) -> Response:
        source = Talk(None) if request.method == "POST" else None
        return await streams.response(key="k", source=source, request=request)

    async with served(starlette(streams, chat)) as callers:
        assert (await callers.get("/chat")).status == 401
        assert (await callers.get("/chat", method="POST", cookie="a=b")).status == 200
        assert (await callers.get("/chat", cookie="a=b")).status == 200
        assert asked == ["read", "create", "read"]
        with pytest.raises(Unauthorized):
            await streams.find(key="k", request=Request({"type": "http", "headers": [], "query_string": b""}))
