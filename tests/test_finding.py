"""Lists, and DELETE by label: whole over every page, and by the state that a stream has by now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette

from resumestream import Policy, ResumeStream
from resumestream.http import streams as face
from resumestream.model import Gone, StreamId, StreamInfo
from resumestream.stores import MemoryStore

from .asgi import Callers
from .own import Talk, data, sealed, served

pytestmark = pytest.mark.anyio

TOTAL = 5


class Clock:
    at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streams(clock: Clock) -> ResumeStream:
    policy = Policy(drain_s=0, retain_s=60, tombstone_s=60)
    return ResumeStream(MemoryStore(clock=clock), policy=policy)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "PAGE", 2)


@asynccontextmanager
async def asking(streams: ResumeStream) -> AsyncIterator[Callers]:
    app = Starlette()
    streams.install(app)
    async with served(app) as callers:
        yield callers


async def made(streams: ResumeStream, *labels: str, **how: Any) -> str:
    """A sealed stream."""
    stream = (await streams.start(source=Talk(*data(1), None), labels=labels, **how)).id
    await sealed(streams, stream)
    return stream


async def listed(callers: Callers, query: str = "") -> list[str]:
    """The ids of every page, by its own `next`."""
    found, after = [], ""
    while True:
        page = (await callers.get(f"/llm/streams?{query}{after}")).json
        found += [stream["id"] for stream in page["streams"]]
        if "next" not in page:
            return found
        after = f"&after={page['next']}"


async def test_delete_by_label_forgets_over_every_page(streams: ResumeStream) -> None:
    """It forgets what its own pages would go on after; only what has the label goes."""
    async with asking(streams) as callers:
        kept = await made(streams, "treasure")
        gone = [await made(streams, "rubbish") for _ in range(TOTAL)]
        reply = await callers.get("/llm/streams?label=rubbish&forget=true", method="DELETE")
        assert (reply.status, reply.body) == (204, b"")
        assert await listed(callers) == [kept]
        assert {(await callers.get(f"/llm/streams/{stream}")).status for stream in gone} == {404}


async def test_delete_by_label_deletes_over_every_page(streams: ResumeStream) -> None:
    """Tombstones stay; asked again, they are what is forgotten."""
    async with asking(streams) as callers:
        gone = [await made(streams, "rubbish") for _ in range(TOTAL)]
        for query, status in (("", 410), ("", 410), ("&forget=true", 404)):
            assert (await callers.get(f"/llm/streams?label=rubbish{query}", method="DELETE")).status == 204
            assert {(await callers.get(f"/llm/streams/{stream}")).status for stream in gone} == {status}


class Slow(MemoryStore):
    """Lets others run before each drop."""

    async def purge(self, stream: StreamId, why: Gone) -> StreamInfo:
        await anyio.lowlevel.checkpoint()
        return await super().purge(stream, why)


async def test_two_who_forget_at_once_both_succeed() -> None:
    """What the other had forgotten already is what was asked for."""
    streams = ResumeStream(Slow(), policy=Policy(drain_s=0))
    async with asking(streams) as callers:
        for _ in range(TOTAL):
            await made(streams, "rubbish")
        both = [callers.open("/llm/streams?label=rubbish&forget=true", "DELETE") for _ in range(2)]
        assert [(await reply.ended()).status for reply in both] == [204, 204]
        assert await listed(callers) == []


async def test_a_cursor_that_is_no_more_is_a_400(streams: ResumeStream) -> None:
    """Forgotten, never minted and another's alike: it says to start again, not that the list is not there."""
    async with asking(streams) as callers:
        await made(streams)
        forgotten, foreign = await made(streams), await made(streams, principal="ann")
        await callers.get(f"/llm/streams/{forgotten}?forget=true", method="DELETE")
        replies = [await callers.get(f"/llm/streams?after={after}") for after in (forgotten, foreign, "x" * 24)]
        replies.append(await callers.get(f"/llm/streams?label=a&after={forgotten}", method="DELETE"))
    assert [reply.status for reply in replies] == [400] * 4
    assert {(reply.json["type"], reply.json["detail"]) for reply in replies} == {
        ("urn:resumestream:problem:invalid-query", replies[0].json["detail"])
    }
    assert "after" in replies[0].json["detail"]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", ""])
async def test_a_page_has_at_least_one_record(streams: ResumeStream, limit: str) -> None:
    """And at most a thousand."""
    async with asking(streams) as callers:
        await made(streams)
        reply = await callers.get(f"/llm/streams?limit={limit}")
    assert (reply.status, reply.json["type"]) == (400, "urn:resumestream:problem:invalid-query")
    assert "from 1 to 1000" in reply.json["detail"]


async def test_states_are_those_of_now(streams: ResumeStream, clock: Clock) -> None:
    """What ran out is `expired` and no longer `sealed`, before anybody looked, too; pages are full all the same."""
    async with asking(streams) as callers:
        short = [await made(streams, retain_s=10) for _ in range(3)]
        kept = [await made(streams) for _ in range(3)]
        live = (await streams.start(source=Talk(*data(1)), key="live")).id
        async with streams.tail(live) as tail:
            await tail.receive()
        clock.at += 30
        assert await listed(callers, "state=sealed") == kept[::-1]
        assert await listed(callers, "state=expired") == short[::-1]
        assert await listed(callers, "state=streaming") == [live]
        assert await listed(callers, "state=pending") == []
        assert await listed(callers) == [live, *kept[::-1], *short[::-1]]
        page = (await callers.get("/llm/streams?state=expired")).json
        assert (len(page["streams"]), page["next"]) == (2, short[1])


async def test_delete_by_label_and_state(streams: ResumeStream, clock: Clock) -> None:
    """By now's state, too: what expired keeps that reason on its tombstone."""
    async with asking(streams) as callers:
        short, kept = await made(streams, "a", retain_s=10), await made(streams, "a")
        clock.at += 30
        assert (await callers.get("/llm/streams?label=a&state=sealed", method="DELETE")).status == 204
        why = [(await callers.get(f"/llm/streams/{stream}/info")).json["gone"]["why"] for stream in (short, kept)]
    assert why == ["expired", "deleted"]


# --- what a read finds when it begins -----------------------------------------------------------------------------


class Vanishing(MemoryStore):
    """Once told so, drops a payload as soon as somebody has looked at its record."""

    why: Gone | None = None

    async def stat(self, stream: StreamId) -> StreamInfo:
        info = await super().stat(stream)
        if self.why:
            await self.purge(stream, self.why)
        return info


@pytest.mark.parametrize("why", [Gone.DELETED, Gone.EXPIRED])
@pytest.mark.parametrize("live", ["tail", "events"])
async def test_a_stream_that_goes_before_its_answer_begins(live: str, why: Gone) -> None:
    """410, as a moment later: not a 200 that breaks at once."""
    store = Vanishing()
    streams = ResumeStream(store, policy=Policy(drain_s=0))
    async with asking(streams) as callers:
        stream = await made(streams)
        store.why = why
        reply = await callers.get(f"/llm/streams/{stream}?live={live}")
    assert (reply.status, reply.cut, reply.headers["stream-outcome"]) == (410, False, "completed")


class Dripping(MemoryStore):
    """Gives one byte a read."""

    async def read(self, stream: StreamId, at: int, max_bytes: int) -> bytes:
        return await super().read(stream, at, 1)


async def test_a_boundary_is_found_however_little_a_read_gives() -> None:
    """A store may return fewer bytes than are there."""
    streams = ResumeStream(Dripping(), policy=Policy(drain_s=0))
    async with asking(streams) as callers:
        stream = (await streams.start(source=Talk("data: 1\r\n\r\n", "data: 2\n\n", None))).id
        await sealed(streams, stream)
        second = await callers.get(f"/llm/streams/{stream}?live=events&offset=11")
        within = await callers.get(f"/llm/streams/{stream}?live=events&offset=9")
    assert (second.status, second.events) == (200, [("", "2")])
    assert within.status == 400
