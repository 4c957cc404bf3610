"""`/streams` over real sockets: reading, watching, finding, stopping, deleting, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import pytest

from resumestream import Policy
from resumestream.testing import Script, ScriptedProvider

from .wire import BODY, CHAT, Client, served

TOKENS = 5


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=TOKENS)) as provider:
        yield provider


@pytest.fixture(scope="module", params=["uvicorn", "hypercorn-trio"])
def client(
    request: pytest.FixtureRequest, provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """On asyncio and on trio."""
    store = str(tmp_path_factory.mktemp("store") / "streams.db")
    with served(provider, store=store, server=request.param) as client:
        yield client


@pytest.fixture(scope="module")
def done(client: Client) -> tuple[str, bytes]:
    """A completed stream: its id and payload."""
    reply = client.post("done")
    assert reply.status == 200
    return reply.stream, reply.body


def ends(payload: bytes) -> list[int]:
    """The offsets of the event boundaries."""
    return [0, *(at + 2 for at in range(len(payload)) if payload.startswith(b"\n\n", at))]


def held(client: Client, provider: ScriptedProvider, key: str, at: int = 2) -> str:
    """A live stream that waits after `at` events, which are in the log."""
    provider.script(Script(tokens=TOKENS, hold_at=at))
    reading = client.open("POST", CHAT, BODY, idempotency_key=key)
    whole = b""
    while whole.count(b"\n\n") < at:
        whole += reading.read(1)
    reading.close()
    return reading.headers["stream-id"]


# --- reading ----------------------------------------------------------------------------------------------------


def test_catch_up_from_every_offset(client: Client, done: tuple[str, bytes]) -> None:
    """The rest, with its place in the headers; padded and plain numbers mean the same."""
    stream, payload = done
    for at in ends(payload):
        for text in (f"{at:016}", str(at)):
            reply = client.get(f"/streams/{stream}?offset={text}")
            assert (reply.status, reply.body) == (200, payload[at:])
            assert reply.headers["stream-offset"] == f"{at:016}"
            assert reply.headers["stream-next-offset"] == f"{len(payload):016}"
            assert reply.headers["stream-closed"] == reply.headers["stream-up-to-date"] == "true"
            assert reply.headers["stream-outcome"] == "completed"
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.get(f"/streams/{stream}").body == client.get(f"/streams/{stream}?offset=-1").body == payload
    assert client.get(f"/streams/{stream}?offset=now").body == b""


def test_reading_by_event_count(client: Client, done: tuple[str, bytes]) -> None:
    """`from_event=N` begins behind the first N events."""
    stream, payload = done
    for count, at in enumerate(ends(payload)):
        assert client.get(f"/streams/{stream}?from_event={count}").body == payload[at:]
    assert client.get(f"/streams/{stream}?from_event={len(ends(payload))}").status == 416


def test_a_live_stream_is_caught_up_and_then_followed(client: Client, provider: ScriptedProvider) -> None:
    """A page ends at the tail; a tail goes on to the end."""
    stream = held(client, provider, "live")
    page = client.get(f"/streams/{stream}")
    assert page.body.count(b"\n\n") == 2
    assert page.headers["stream-up-to-date"] == "true"
    assert "stream-closed" not in page.headers
    assert "stream-outcome" not in page.headers
    head = client.ask("HEAD", f"/streams/{stream}")
    assert (head.headers["stream-state"], head.body) == ("streaming", b"")
    at = page.headers["stream-next-offset"]
    tail = client.open("GET", f"/streams/{stream}?live=tail&offset={at}")
    provider.release()
    rest = tail.rest()
    assert not rest.cut
    assert page.body + rest.body == client.get(f"/streams/{stream}").body
    assert rest.body.endswith(b"data: [DONE]\n\n")


def test_events_carry_the_offset_behind_them(client: Client, done: tuple[str, bytes]) -> None:
    """Each as sent, with `id:` as its last field; Last-Event-ID goes on behind it and wins over `offset`."""
    stream, payload = done
    boundaries = ends(payload)
    expected = [
        payload[start : end - 1] + f"id: {end:016}\n\n".encode() for start, end in itertools.pairwise(boundaries)
    ]
    assert client.get(f"/streams/{stream}?live=events").body == b"".join(expected)
    for index, at in enumerate(boundaries[:-1]):
        reply = client.get(f"/streams/{stream}?offset=0", last_event_id=f"{at:016}")
        assert reply.body == b"".join(expected[index:])
        assert reply.headers["content-type"] == "text/event-stream"
    for last_id in (f"{len(payload):016}", f"{len(payload):016}.end"):
        assert client.get(f"/streams/{stream}", last_event_id=last_id).status == 204


def test_a_failed_stream_says_so_on_every_way_to_read(client: Client, provider: ScriptedProvider) -> None:
    """A page by its headers, a tail by its cut, events by their last one; and then nothing makes them come back."""
    provider.script(Script(tokens=TOKENS, fault="fin", at_event=3))
    stream = client.post("failed").stream
    page = client.get(f"/streams/{stream}")
    assert (page.headers["stream-outcome"], page.headers["stream-closed"]) == ("truncated", "true")
    assert page.body.count(b"\n\n") == 3
    tail = client.get(f"/streams/{stream}?live=tail")
    assert (tail.cut, tail.body) == (True, page.body)
    events = client.get(f"/streams/{stream}?live=events")
    last = events.body[: events.body.rindex(b"\n\n")].rpartition(b"\n\n")[2].split(b"\n")
    assert last[0] == b"event: resumestream.end"
    assert json.loads(last[1].removeprefix(b"data: ")) == {"outcome": "truncated", "detail": "connection_closed"}
    assert last[2] == f"id: {len(page.body):016}.end".encode()
    again = client.get(f"/streams/{stream}", last_event_id=f"{len(page.body):016}")
    assert again.body == b"\n".join(last) + b"\n\n"
    assert client.get(f"/streams/{stream}", last_event_id=f"{len(page.body):016}.end").status == 204


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?offset=abc", {}, 400, "offset-malformed"),
        ("?offset=-2", {}, 400, "offset-malformed"),
        ("?offset=1.5", {}, 400, "offset-malformed"),
        ("?offset=", {}, 400, "offset-malformed"),
        ("?offset=%20%0d%0a", {}, 400, "offset-malformed"),
        ("?offset=99999999999999999999", {}, 400, "offset-malformed"),
        ("?offset=s02.0000000000000000", {}, 416, "offset-beyond-tail"),
        ("?offset=9007199254740992", {}, 416, "offset-beyond-tail"),
        ("?offset=100000&live=tail", {}, 416, "offset-beyond-tail"),
        ("?offset=3&live=events", {}, 400, "offset-malformed"),
        ("", {"last_event_id": "abc"}, 400, "offset-malformed"),
        ("", {"last_event_id": "0000000000099999"}, 416, "offset-beyond-tail"),
        ("?live=sometimes", {}, 400, "invalid-query"),
        ("?from_event=-1", {}, 400, "invalid-query"),
        ("?from_event=1&offset=0", {}, 400, "invalid-query"),
        ("?from_event=1000", {}, 416, "offset-beyond-tail"),
    ],
)  # fmt: skip
def test_wrong_positions_are_refused(
    client: Client, done: tuple[str, bytes], query: str, headers: dict[str, str], status: int, code: str
) -> None:
    """With a problem that says what was wrong; the stream is as it was."""
    stream, payload = done
    reply = client.get(f"/streams/{stream}{query}", **headers)
    assert (reply.status, reply.json["type"]) == (status, f"urn:resumestream:problem:{code}")
    assert reply.headers["content-type"] == "application/problem+json"
    assert client.get(f"/streams/{stream}").body == payload


def test_events_of_what_has_none(client: Client, provider: ScriptedProvider) -> None:
    """A JSON answer is no event stream: 406, and its bytes by tail."""
    reply = client.ask("POST", CHAT, {**BODY, "stream": False}, idempotency_key="json")
    assert client.get(f"/streams/{reply.stream}?live=events").status == 406
    assert client.get(f"/streams/{reply.stream}?live=tail").body == reply.body
    assert reply.headers["location"].endswith("?live=tail")


def test_an_event_source_waits_for_a_pending_stream(client: Client, provider: ScriptedProvider) -> None:
    """It is answered as soon as the upstream is."""
    provider.script(Script(tokens=TOKENS, fault="stall", before_head=True))
    stream = client.ask("POST", CHAT, BODY, idempotency_key="pending", prefer="respond-async").stream
    assert client.ask("HEAD", f"/streams/{stream}").headers["stream-state"] == "pending"
    assert client.get(f"/streams/{stream}").body == b""
    provider.wait_for(lambda calls: any(call.held for call in calls))
    provider.release()
    assert client.get(f"/streams/{stream}?live=events").body.count(b"id: ") == TOKENS + 3


# --- the record -------------------------------------------------------------------------------------------------


def test_head_and_info_tell_the_record(client: Client, done: tuple[str, bytes]) -> None:
    """For programs by header, for people by sentence."""
    stream, payload = done
    head = client.ask("HEAD", f"/streams/{stream}").headers
    assert head["stream-state"] == "sealed"
    assert head["stream-outcome"] == "completed"
    assert head["stream-next-offset"] == f"{len(payload):016}"
    assert head["stream-content-type"] == "text/event-stream; charset=utf-8"
    assert head["stream-upstream-status"] == "200"
    assert "stream-expires-at" in head
    info = client.get(f"/streams/{stream}/info").json
    assert next(iter(info)) == "summary"
    assert info["summary"].startswith("completed: 127.0.0.1:")
    assert (info["bytes"], info["events"], info["state"]) == (len(payload), TOKENS + 3, "sealed")
    assert [attempt["status"] for attempt in info["attempts"]] == [200]


def test_finding_streams(client: Client, provider: ScriptedProvider) -> None:
    """By every attribute, newest first, in pages; never another principal's, never creating one."""
    mine = Client(client.base, authorization="Bearer finder")
    ids = [mine.post(f"find-{n}", stream_label=f"n{n},all").stream for n in range(3)]
    scoped = mine.ask("POST", CHAT, BODY, stream_scope="turn-1").stream

    def found(query: str) -> list[str]:
        return [stream["id"] for stream in mine.get(f"/streams?{query}").json["streams"]]

    assert found("") == [scoped, *reversed(ids)]
    assert found("label=all") == list(reversed(ids))
    assert found("label=all&label=n1") == [ids[1]]
    assert found("key=find-2") == found("key=find-2&upstream=openai") == [ids[2]]
    assert found("scope=turn-1") == [scoped]
    assert found("state=sealed&limit=2") == [scoped, ids[2]]
    assert found("state=streaming") == found("upstream=other") == found("key=never") == found("label=n") == []
    page = mine.get("/streams?limit=2").json
    assert [stream["id"] for stream in mine.get(f"/streams?after={page['next']}").json["streams"]] == [ids[1], ids[0]]
    assert Client(client.base, authorization="Bearer other").get("/streams").json["streams"] == []
    assert mine.get("/streams?state=odd").status == mine.get("/streams?limit=x").status == 400


# --- stopping ---------------------------------------------------------------------------------------------------


def test_cancel_keeps_the_partial(client: Client, provider: ScriptedProvider) -> None:
    """The provider's connection is closed, the outcome says who stopped it, and asking twice is fine."""
    stream = held(client, provider, "cancel")
    assert client.ask("POST", f"/streams/{stream}/cancel").status == 202
    reply = client.get(f"/streams/{stream}?live=tail")
    assert (reply.cut, reply.body.count(b"\n\n")) == (True, 2)
    assert client.ask("HEAD", f"/streams/{stream}").headers["stream-outcome"] == "cancelled"
    assert client.ask("POST", f"/streams/{stream}/cancel").status == 202
    provider.wait_for(lambda calls: calls[-1].disconnected)
    provider.release()


@pytest.mark.parametrize("live", [True, False])
def test_delete_leaves_a_tombstone(client: Client, provider: ScriptedProvider, live: bool) -> None:
    """Unreadable at once, by offset, by key and live; 410 for its owner, 404 for the others, and forgettable."""
    key = f"delete-{live}"
    stream = held(client, provider, key) if live else client.post(key).stream
    tail = client.open("GET", f"/streams/{stream}?live=tail") if live else None
    attached = client.open("POST", CHAT, BODY, idempotency_key=key) if live else None
    deleted = client.ask("DELETE", f"/streams/{stream}")
    assert (deleted.status, deleted.headers["stream-outcome"]) == (204, "cancelled" if live else "completed")
    if tail and attached:
        assert tail.rest().cut
        told = attached.rest().body.decode()
        assert re.search(rf"deleted on request after \d+ bytes\. It was stream {stream}\. To pay for a new call", told)
        provider.release()
    for path in ("", "?live=tail", "?live=events", "?offset=abc"):
        assert client.get(f"/streams/{stream}{path}").status == 410
    assert client.ask("HEAD", f"/streams/{stream}").status == 410
    assert client.get(f"/streams/{stream}/info").json["gone"]["why"] == "deleted"
    replay = client.post(key)
    assert (replay.status, replay.json["error"]["code"]) == (410, "key-expired")
    assert Client(client.base, authorization="Bearer other").get(f"/streams/{stream}").status == 404
    assert client.ask("DELETE", f"/streams/{stream}?forget=true").status == 204
    assert client.get(f"/streams/{stream}").status == 404
    assert client.post(key).stream != stream


def test_delete_by_label(client: Client) -> None:
    """All of them, and only them; without a label nothing."""
    gone = [client.post(f"labelled-{n}", stream_label="rubbish").stream for n in range(3)]
    kept = client.post("labelled-not", stream_label="treasure").stream
    assert client.ask("DELETE", "/streams").status == 400
    assert client.ask("DELETE", "/streams?label=rubbish").status == 204
    assert [client.get(f"/streams/{stream}").status for stream in [*gone, kept]] == [410, 410, 410, 200]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "?live=tail"), ("GET", "?offset=abc"), ("HEAD", ""), ("GET", "/info"), ("POST", "/cancel"),
     ("DELETE", "")],
)  # fmt: skip
def test_foreign_and_unknown_look_alike(client: Client, done: tuple[str, bytes], method: str, path: str) -> None:
    """The same answer but for the id that was asked for; and nothing happened to the stream."""
    stream, payload = done
    other = Client(client.base, authorization="Bearer other")
    foreign, unknown = other.ask(method, f"/streams/{stream}{path}"), other.ask(method, f"/streams/{'x' * 24}{path}")
    assert foreign.status == unknown.status == 404
    assert foreign.body.replace(stream.encode(), b"x" * 24) == unknown.body
    assert client.get(f"/streams/{stream}").body == payload


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/streams", 405), ("PUT", "/streams/x", 405), ("GET", "/streams/x/cancel", 405),
     ("GET", "/streams/x/y", 404), ("GET", "/ds", 404), ("GET", "/", 404), ("GET", "/metrics", 404)],
)  # fmt: skip
def test_paths_that_are_none(client: Client, method: str, path: str, status: int) -> None:
    """A problem, not a stack trace."""
    reply = client.ask(method, path)
    assert reply.status == status
    assert reply.json["status"] == status


def test_an_expired_stream(provider: ScriptedProvider) -> None:
    """`Stream-Retain: 0` keeps nothing: 410 with the record, and the key does not start another call."""
    with served(provider, policy=Policy(drain_s=0, tombstone_s=900)) as client:
        stream = client.post("short", stream_retain="0").stream
        assert client.get(f"/streams/{stream}").status == 410
        assert client.get(f"/streams/{stream}/info").json["outcome"] == "completed"
        assert client.post("short").status == 410


def test_every_refusal_about_a_sealed_stream_tells_its_outcome(client: Client, provider: ScriptedProvider) -> None:
    """Gone, beyond the tail, malformed, reused: header and record are there."""
    done = client.post("telling")
    refusals = [
        client.get(f"/streams/{done.stream}?offset=99999"),
        client.get(f"/streams/{done.stream}?offset=x"),
        client.post("telling", stream_retry="another"),
        client.ask("POST", CHAT, {**BODY, "model": "other"}, idempotency_key="telling"),
    ]
    client.ask("DELETE", f"/streams/{done.stream}")
    refusals += [client.get(f"/streams/{done.stream}"), client.post("telling")]
    assert [reply.status for reply in refusals] == [416, 400, 422, 422, 410, 410]
    for reply in refusals:
        assert reply.headers["stream-outcome"] == reply.json["outcome"] == "completed"
        assert (reply.json["stream_id"], reply.json["next_offset"]) == (done.stream, f"{len(done.body):016}")


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]\n\n",
        b"data: [DONE]\n\n\n",
        b"data: [DONE]\n\n: bye\n\n",
        b"data: [DONE]\n\nretry: 5\n\n",
        b"data: last",
    ],
)
def test_an_event_source_comes_to_an_end(client: Client, provider: ScriptedProvider, end: bytes) -> None:
    """Whatever follows the last event, the reconnect after it is a 204; a last event without a blank line is there."""
    body = b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\n' + end
    provider.script(Script(body=body, headers={"content-type": "text/event-stream"}))
    stream = client.post(f"end-{end.hex()}").stream
    events = client.get(f"/streams/{stream}?live=events")
    assert events.body.count(b"data: ") == 2
    last_id = events.body.rpartition(b"id: ")[2].split(b"\n")[0].decode()
    assert client.get(f"/streams/{stream}", last_event_id=last_id).status == 204
