"""What comes of another connection to the same answer is logged only where it continues what is logged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from resumestream import Policy, Upstream, remote
from resumestream.claiming import Outgoing
from resumestream.errors import UpstreamLost
from resumestream.model import Head, Remote
from resumestream.remote import Behind, Place
from resumestream.route import only
from resumestream.stores import MemoryStore
from resumestream.testing import Script, ScriptedProvider
from resumestream.upstream import Logged, Resumable
from resumestream.upstream.resuming import Resuming

from .fakes import EVENTS, SSE, FakeSource, new_stream, running, sealed
from .wire import Client, Reply, served

TOKENS = 8
RESPONSES = "/openai/v1/responses"
ASKED = {"model": "m", "input": "hello", "stream": True, "background": True}
LOST = Script(tokens=TOKENS, fault="rst", at_event=5)
SERVERS = pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=TOKENS)) as provider:
        yield provider


@contextlib.contextmanager
def before(provider: ScriptedProvider, server: str, **policy: Any) -> Iterator[Client]:
    upstreams = {"openai": Upstream(provider.url, resume="responses")}
    wanted = Policy(**{"drain_s": 0, "stall_s": 5, **policy})
    with served(provider, policy=wanted, server=server, upstreams=upstreams) as client:
        yield client


def ask(client: Client, **headers: str) -> Reply:
    return client.ask("POST", RESPONSES, ASKED, idempotency_key="k", **headers)


def whole(provider: ScriptedProvider) -> bytes:
    """What the first call would have sent."""
    with before(provider, "uvicorn") as client:
        body = ask(client).body
    provider.reset()
    return body


def events(data: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]


@SERVERS
@pytest.mark.parametrize(
    "other",
    [
        Script(body=b"<html>please log in</html>", headers={"content-type": "text/html"}),
        Script(body=b"{}", headers={"content-type": "application/json"}),
        Script(body=b"data: {}\n\n", headers={"content-encoding": "gzip"}),
    ],
)
def test_another_answer_is_not_the_rest_of_this_one(server: str, other: Script, provider: ScriptedProvider) -> None:
    provider.script(LOST, default=other)
    with before(provider, server) as client:
        reply = ask(client)
        info = client.get(f"/streams/{reply.stream}/info").json
        assert info["outcome"] == "truncated"
        assert client.get(f"/streams/{reply.stream}").body == provider.sent(1)


@SERVERS
@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_refusal_that_may_pass_is_waited_out(server: str, status: int, provider: ScriptedProvider) -> None:
    """It costs a connection, not an answer that is paid for."""
    expected = whole(provider)
    provider.script(LOST, Script(status=status, headers={"retry-after": "0"}), Script(status=status))
    with before(provider, server) as client:
        assert ask(client).body == expected
    assert len(provider.ledger()) == 4


@SERVERS
@pytest.mark.parametrize("refusal", [Script(status=404), Script(status=429, headers={"retry-after": "3600"})])
def test_a_refusal_that_will_not_pass_is_the_end(server: str, refusal: Script, provider: ScriptedProvider) -> None:
    provider.script(LOST, default=refusal)
    with before(provider, server) as client:
        assert b'"error"' in ask(client).body
    assert [call.method for call in provider.ledger()] == ["POST", "GET", "POST"]  # the last has it stop


@SERVERS
def test_an_end_without_a_frame_is_a_loss(server: str, provider: ScriptedProvider) -> None:
    expected = whole(provider)
    provider.script(Script(tokens=TOKENS, framing="close", fault="fin", at_event=5))
    with before(provider, server) as client:
        assert ask(client).body == expected


@SERVERS
@pytest.mark.parametrize("place", [{"at_event": 6}, {"at_byte": 2400}])
def test_other_padding_on_another_connection(server: str, place: Any, provider: ScriptedProvider) -> None:
    """Whole events stay as they were logged; of one that was cut no byte is left."""
    provider.script(
        Script(tokens=TOKENS, padding="a" * 64, fault="rst", **place), Script(padding="b" * 7, fault="fin", at_byte=300)
    )
    provider.script(default=Script(padding="c" * 100))
    with before(provider, server) as client:
        reply = ask(client)
        body = reply.body
    expected = [event for call in (1, 2, 3) for event in events(provider.sent(call))]
    assert b"".join(expected) == body
    numbers = [json.loads(event.partition(b"data: ")[2])["sequence_number"] for event in events(body)]
    assert numbers == list(range(len(numbers)))
    assert b"aaa" in body
    assert b"ccc" in body


@SERVERS
def test_a_call_that_still_runs_is_waited_for(server: str, provider: ScriptedProvider) -> None:
    expected = whole(provider)
    provider.script(LOST, Script(hold_at=2))
    with before(provider, server) as client:
        reading = client.open("POST", RESPONSES, ASKED, idempotency_key="k")
        so_far = reading.read(sum(map(len, events(expected)[:7])))
        provider.wait_for(lambda calls: len(calls) == 2 and calls[1].held)
        assert client.get(f"/streams/{reading.headers['stream-id']}/info").json["state"] == "streaming"
        provider.release(2)
        assert so_far + reading.rest().body == expected


@SERVERS
@pytest.mark.parametrize(("first", "outcome"), [(0, "completed"), (5, "completed"), (6, "truncated")])
def test_events_that_come_again_are_dropped_and_none_may_be_missing(
    server: str, first: int, outcome: str, provider: ScriptedProvider
) -> None:
    """Some ignore where they were asked to go on."""
    expected = whole(provider)
    rest = b": a comment\n\n" + b"".join(events(expected)[first:])
    provider.script(LOST, default=Script(body=rest, chunking=(100,)))
    with before(provider, server) as client:
        reply = ask(client)
        info = client.get(f"/streams/{reply.stream}/info").json
        kept = client.get(f"/streams/{reply.stream}").body
    assert info["outcome"] == outcome
    if outcome == "completed":
        assert kept.replace(b": a comment\n\n", b"") == expected
    else:
        assert info["detail"]["code"] == "resume_gap"
        assert kept == b"".join(events(expected)[:5])


@SERVERS
def test_the_cap_on_an_event_holds_while_it_comes(server: str, provider: ScriptedProvider) -> None:
    provider.script(Script(body=b"data: " + b"x" * 100_000, fault="stall", at_byte=50_000))
    with before(provider, server, max_event_bytes=1000) as client:
        reply = ask(client)
        assert client.get(f"/streams/{reply.stream}/info").json["outcome"] == "overflow"


@SERVERS
def test_only_who_asks_is_told_again(server: str, provider: ScriptedProvider) -> None:
    """Nothing of the request may change what is read: a `Last-Event-ID` would win over the offset."""
    expected = whole(provider)
    provider.script(LOST)
    said = {
        "authorization": "Bearer x",
        "openai-project": "p",
        "last-event-id": "17",
        "x-more": "y",
        "range": "bytes=9-",
    }
    with before(provider, server) as client:
        assert ask(client, **{name.replace("-", "_"): value for name, value in said.items()}).body == expected
    sent = dict(provider.ledger()[1].headers)
    assert {name: sent[name] for name in sent.keys() & said.keys()} == {
        "authorization": "Bearer x",
        "openai-project": "p",
    }
    assert "content-type" not in sent


# --- pure -----------------------------------------------------------------------------------------------------------

HERE = {"location": "/llm/streams/abc?live=tail", "stream-offset": "0000000000000000", "stream-id": "abc"}


@pytest.mark.parametrize(
    "said",
    [
        {"location": "http://["},
        {"location": ""},
        {"location": "http://x//llm/streams/abc"},
        {"location": "streams/abc"},
        {"location": "/llm/str\xe4ms/abc"},
        {"location": "/llm streams/abc"},
        {"location": "/llm/streams/abcd"},
        {"stream-offset": "bogus"},
        {"stream-offset": "now"},
        {"stream-offset": ""},
        {"stream-id": ""},
        {"stream-id": "other"},
    ],
)
def test_what_cannot_be_asked_for_is_not_recorded(said: dict[str, str]) -> None:
    assert remote.begun("resumestream", "/v1/chat", b"{}", HERE) == Remote(
        "resumestream", "/llm/streams/abc", "0000000000000000"
    )
    assert remote.begun("resumestream", "/v1/chat", b"{}", HERE | said) is None


@pytest.mark.parametrize(
    ("said", "same"),
    [
        ({}, True),
        ({"content-type": "text/event-stream"}, True),
        ({"stream-offset": "0000000000000004"}, False),
        ({"stream-offset": "s02.0000000000004106"}, False),
        ({"stream-offset": ""}, False),
        ({"stream-id": "xabc"}, False),
        ({"stream-id": ""}, False),
        ({"content-type": "text/html"}, False),
        ({"content-encoding": "gzip"}, False),
        ({"content-encoding": "identity"}, True),
    ],
)
def test_the_same_stream_from_the_same_offset(said: dict[str, str], same: bool) -> None:
    where = Remote("resumestream", "/llm/streams/abc", "0000000000000010")
    head = {"stream-id": "abc", "stream-offset": "0000000000004106", "content-type": "text/event-stream; charset=utf-8"}
    now = Head(200, tuple((head | said).items()))
    assert remote.goes_on(where, Place(4096), SSE, now) is same


def event(number: int | None) -> bytes:
    return b"data: %s\n\n" % json.dumps({"sequence_number": number} if number is not None else {"x": 1}).encode()


def test_the_last_number_counts_not_the_last_event() -> None:
    assert remote.last_number(event(3) + event(4) + event(None) + b": x\n\n" + b'data: {"sequence_number": 5') == 4


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_behind_an_event(size: int) -> None:
    answer, behind, got = b"".join(map(event, range(9))) + b"data: ha", Behind(4), b""
    told = False
    for at in range(0, len(answer), size):
        piece = answer[at : at + size]
        new = piece if told else behind.feed(piece)
        told = new is not None
        got += new or b""
    assert got == b"".join(map(event, range(5, 9))) + b"data: ha"


def test_an_end_or_an_error_needs_no_number() -> None:
    assert Behind(4).feed(event(4) + event(None)) == event(None)
    with pytest.raises(UpstreamLost):
        Behind(4).feed(event(6))


# --- slow and cancelled ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_event_may_take_longer_than_a_silence() -> None:
    """Each piece of it is news."""
    async with running(stall_s=1) as hub:
        source = FakeSource()
        source.remote = Remote("responses", "/v1/responses")  # type: ignore[assignment]

        async def side(method: str, target: str) -> FakeSource:
            return FakeSource(Head(404))

        new = new_stream(hub.store.now, worker=hub.worker)
        call = Resumable(source, side, Logged(hub.store, new.id))
        await hub.claim(new, Outgoing(only(call, "the provider")), found=True)
        for piece in (EVENTS[0], b"da", b"ta: ", b"[DON", b"E]\n", b"\n"):
            await anyio.sleep(0.4)
            source.send(piece)
        source.end()
        assert (await sealed(hub, new)).completed


@pytest.mark.anyio
async def test_a_receive_that_was_cancelled_can_be_made_again() -> None:
    """In the middle of an answer and while it is attached: its connection is let go, and another takes its place."""
    async with MemoryStore() as store:
        new = new_stream(store.now)
        await store.create(new)
        sources = [FakeSource(SSE), FakeSource(), FakeSource()]
        sources[0].send(EVENTS[0])
        asked = []

        async def side(method: str, target: str) -> FakeSource:
            asked.append(target)
            source = sources[len(asked)]
            source.head = Head(200, (*SSE.headers, ("stream-id", "abc"), ("stream-offset", "0000000000000000")))
            return source

        where = Remote("resumestream", "/llm/streams/abc", "0000000000000000")
        sources[0].remote = where  # type: ignore[assignment]
        answer = await Resumable(sources[0], side, Logged(store, new.id)).open()
        assert isinstance(answer, Resuming)
        with anyio.fail_after(5):
            assert await answer.receive() == EVENTS[0]
            sources[1].hold_head = anyio.Event()
            for source in sources[:2]:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(answer.receive)
                        await source.opened.wait()
                        await anyio.wait_all_tasks_blocked()
                        scope.cancel()
            assert sources[0].closed.is_set()
            sources[2].send(EVENTS[1])
            assert await answer.receive() == EVENTS[1]
            assert len(asked) == 2
