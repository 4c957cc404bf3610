"""Real and home-made provider transcripts go through byte-exactly: first read, replay, resume at every event."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from resumestream import Policy
from resumestream.dialects import expected, spoken
from resumestream.model import Head
from resumestream.ports import Mark
from resumestream.testing.provider import Script, ScriptedProvider

from .clients.plain import Plain, Reply
from .clients.served import served

REPOSITORY = Path(__file__).parents[1]
FIXTURES = REPOSITORY / "fixtures"
RECORDINGS = REPOSITORY.parent / "shared" / "recordings"
SMALL_BYTES = 8192
"""Up to here one byte a write."""
SAMPLE = 12
WINDOW_BYTES = 1000
"""So small that live readers cross from the store to memory within an answer."""
FRAMING = {"content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True)
class Recording:
    """One transcript, and what it means by a reading of it that shares nothing with the package."""

    path: Path

    def __str__(self) -> str:
        return self.path.name

    @cached_property
    def body(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def _described(self) -> dict[str, dict[str, object]]:
        described: dict[str, dict[str, object]] = json.loads(self.path.with_suffix(".json").read_bytes())
        return described

    @property
    def target(self) -> str:
        request = self._described["request"]
        uri = urlsplit(str(request.get("path") or request["uri"]))
        return f"/provider{uri.path}" + (f"?{uri.query}" if uri.query else "")

    @property
    def request(self) -> object:
        return self._described["request"].get("body") or {}

    @property
    def status(self) -> int:
        return int(str(self._described["response"]["status"]))

    @cached_property
    def headers(self) -> dict[str, str]:
        headers = self._described["response"]["headers"]
        assert isinstance(headers, dict)
        return {name: value for name, value in headers.items() if name not in FRAMING}

    @property
    def content_type(self) -> str:
        return self.headers["content-type"]

    @property
    def is_sse(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    @cached_property
    def blocks(self) -> list[bytes]:
        """Each with its blank line; what has none at the end is left out."""
        ends = [0, *(found.end() for found in re.finditer(rb"\r\n\r\n|\n\n|\r\r", self.body))]
        return [self.body[begin:end] for begin, end in pairwise(ends)]

    @cached_property
    def boundaries(self) -> list[int]:
        """Where a reader may resume; for what has no events, some bytes."""
        if not self.is_sse:
            return sorted({0, len(self.body), *random.Random(self.path.name).sample(range(len(self.body)), SAMPLE)})
        ends = [0]
        for block in self.blocks:
            ends.append(ends[-1] + len(block))
        return sorted({*ends, len(self.body)})

    @cached_property
    def whole_ends(self) -> list[int]:
        """Where what a cut keeps may end: behind an event, a line, a message; for any other body anywhere."""
        if self.is_sse:
            return self.boundaries
        if "ndjson" in self.content_type:
            return [0, *(found.end() for found in re.finditer(rb"\n", self.body))]
        if "vnd.amazon.eventstream" in self.content_type:
            ends = [0]
            while ends[-1] < len(self.body):
                ends.append(ends[-1] + int.from_bytes(self.body[ends[-1] : ends[-1] + 4], "big"))
            return ends
        return [*range(len(self.body) + 1)]

    @cached_property
    def event_ends(self) -> list[int]:
        """Behind each event, blocks without data not counted."""
        ends, at = [], 0
        for block in self.blocks:
            at += len(block)
            if is_event(block):
                ends.append(at)
        if is_event(self.body[at:]):
            ends.append(len(self.body))
        return ends

    def script(self, chunking: str | tuple[int, ...]) -> Script:
        chunked = "transfer-encoding" in str(self._described["response"]["headers"])
        script = Script(body=self.body, status=self.status, headers=self.headers, chunking=chunking)
        return replace(script, framing="chunked") if chunked else script


def is_event(block: bytes) -> bool:
    lines = re.split(rb"\r\n|\n|\r", block.removeprefix(b"\xef\xbb\xbf"))
    return any(line == b"data" or line.startswith(b"data:") for line in lines)


def found(folder: Path) -> list[Recording]:
    return [Recording(path) for path in sorted(folder.glob("*")) if path.suffix in (".sse", ".bin")]


OURS, REAL = found(FIXTURES), found(RECORDINGS)
ALL = [*OURS, *REAL]
EVENT_STREAMS = [recording for recording in ALL if recording.is_sse]


def test_there_is_something_to_replay() -> None:
    """The project's own fixtures are always there."""
    assert len(OURS) >= 10
    assert any(not recording.is_sse for recording in OURS)


@pytest.mark.skipif(not REAL, reason="shared recordings are not beside this checkout")
def test_real_recordings_are_replayed_where_they_are() -> None:
    """A skip is what shows that they are not."""
    assert {recording.path.suffix for recording in REAL} == {".sse", ".bin"}


@dataclass
class House:
    """One gateway for all the tests of this file that have the same store."""

    provider: ScriptedProvider
    plain: Plain
    url: str
    played: dict[str, str]

    def play(self, recording: Recording, key: str, chunking: str | tuple[int, ...]) -> Reply:
        self.provider.script(recording.script(chunking))
        reply = self.plain.post(recording.target, recording.request, {"Idempotency-Key": key})
        self.played[str(recording)] = reply.headers["stream-id"]
        return reply

    def stream(self, recording: Recording) -> str:
        """The id of the recording as a finished stream."""
        if str(recording) not in self.played:
            self.play(recording, f"whole-{recording}", "random:0")
        return self.played[str(recording)]


@pytest.fixture(scope="module", params=["sqlite", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("recordings")
    store = "memory:" if request.param == "memory" else f"sqlite:///{folder}/streams.db"
    with served(store, policy=Policy(window_bytes=WINDOW_BYTES)) as gateway, Plain(gateway.url) as plain:
        yield House(gateway.provider, plain, gateway.url, {})


@pytest.mark.parametrize("recording", ALL, ids=str)
def test_the_first_read_and_the_replay_are_what_the_provider_sent(recording: Recording, stored: House) -> None:
    """However the provider's bytes are cut into writes, down to single ones."""
    chunkings: list[str | tuple[int, ...]] = ["random:1", "random:2", (7, 1, 400)]
    if len(recording.body) <= SMALL_BYTES:
        chunkings.append((1,))
    for number, chunking in enumerate(chunkings):
        key = f"{recording}-{number}"
        first = stored.play(recording, key, chunking)
        again = stored.plain.post(recording.target, recording.request, {"Idempotency-Key": key})
        page = stored.plain.get(f"/streams/{first.headers['stream-id']}")
        tailed = stored.plain.get(f"/streams/{first.headers['stream-id']}?live=tail")
        for reply in (first, again, page, tailed):
            assert reply.body == recording.body
            assert not reply.cut
            assert reply.status == recording.status
            assert reply.headers["content-type"] == recording.content_type
            assert reply.headers["stream-offset"] == f"{0:016}"
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert page.headers["stream-next-offset"] == f"{len(recording.body):016}"
        assert page.headers["stream-closed"] == "true"


@pytest.mark.parametrize("recording", ALL, ids=str)
def test_a_reader_resumes_at_every_event(recording: Recording, stored: House) -> None:
    """A page from any boundary on is the rest of the payload, byte for byte, and says where it ends."""
    stream = stored.stream(recording)
    assert stored.plain.get(f"/streams/{stream}/info").json()["events"] == (
        len(recording.event_ends) if recording.is_sse else 0
    )
    for at in recording.boundaries:
        reply = stored.plain.get(f"/streams/{stream}?offset={at}")
        assert reply.body == recording.body[at:]
        assert not reply.cut
        assert reply.headers["stream-offset"] == f"{at:016}"
        assert reply.headers["stream-next-offset"] == f"{len(recording.body):016}"


@pytest.mark.parametrize("name", ["openai-chat", "gemini", "unknown-cr"])
def test_a_reader_of_a_running_stream_resumes_at_every_event(name: str, stored: House) -> None:
    """The provider waits in the middle; whoever comes in below gets the rest, old and new, without a seam."""
    recording = next(one for one in OURS if one.path.stem == name)
    half = len(recording.blocks) // 2
    places = recording.boundaries[: half + 1]
    stored.provider.script(replace(recording.script("events"), hold_at=half))
    with ExitStack() as connections:

        def connected() -> Plain:
            return connections.enter_context(Plain(stored.url))

        caller = connected()
        first = caller.begin(
            "POST", recording.target, json.dumps(recording.request).encode(), {"Idempotency-Key": f"live-{name}"}
        )
        stream = first.headers["stream-id"]
        old = first.read(places[-1])  # what the caller has, the log has
        readers = [
            (at, live, reader, reader.begin("GET", f"/streams/{stream}?live={live}&offset={at}"))
            for at in places
            for live, reader in (("tail", connected()), ("events", connected()))
        ]
        stored.provider.release()
        for at, live, reader, response in readers:
            reply = reader.rest(response)
            assert not reply.cut
            assert reply.body == (recording.body[at:] if live == "tail" else with_ids(recording, at))
        assert old + caller.rest(first).body == recording.body


@pytest.mark.parametrize("recording", ALL, ids=str)
def test_a_cut_anywhere_keeps_the_whole_events_before_it(recording: Recording, stored: House) -> None:
    """Or lines, or messages; of any other payload, every byte. Whoever asks early or late sees it end cut, and no half
    event."""
    unfinished = len(recording.body) // 2  # no terminal event or error yet
    for place in random.Random(str(recording)).sample(range(1, unfinished), 3):
        kept = max(end for end in recording.whole_ends if end <= place)
        stored.provider.script(replace(recording.script("random:5"), fault="fin", at_byte=place, hold_at=0))
        headers = {"Idempotency-Key": f"cut-{recording}-{place}", "Stream-Exact": "true"}
        response = stored.plain.begin("POST", recording.target, json.dumps(recording.request).encode(), headers)
        stored.provider.release()  # it has the status line: one who asks after the end may get the outcome's
        first = stored.plain.rest(response)
        late = stored.plain.get(f"/streams/{first.headers['stream-id']}?live=tail")
        for reply in (first, late):
            assert reply.cut
            assert reply.body == recording.body[:kept]
        assert late.headers["stream-outcome"] == "truncated"


@pytest.mark.parametrize("recording", ALL, ids=str)
def test_a_caller_learns_of_the_end_in_the_providers_own_way(recording: Recording, stored: House) -> None:
    """Stopped within an event: what is whole, then one error of that wire; a broken body where it has none."""
    head = Head(recording.status, tuple(recording.headers.items()))
    dialect = spoken(expected(None, recording.target), head)
    place = len(recording.body) // 2
    kept = max(end for end in recording.whole_ends if end <= place)
    stored.provider.script(replace(recording.script((50,)), fault="stall", at_byte=place))
    response = stored.plain.begin(
        "POST", recording.target, json.dumps(recording.request).encode(), {"Idempotency-Key": f"stop-{recording}"}
    )
    if kept:
        assert response.read(kept) == recording.body[:kept]
    with Plain(stored.url) as other:
        assert other.post(f"/streams/{response.headers['stream-id']}/cancel", None).status == 202
    last = stored.plain.rest(response)
    stored.provider.release()
    assert last.cut is (dialect.error_frame("code", "message") is None)
    if last.cut:
        assert last.body == b""
        return
    assert dialect.framing.splitter is not None
    assert dialect.framing.splitter().feed(last.body) == [last.body]
    assert dialect.scanner().scan(last.body) is Mark.ERROR
    assert b"stopped on request" in last.body


@pytest.mark.parametrize("recording", ALL, ids=str)
def test_a_get_passes_the_same_bytes_through(recording: Recording, stored: House) -> None:
    """Unrecorded: a resumed background answer, for one, is the provider's own affair."""
    stored.provider.script(recording.script("random:4"))
    reply = stored.plain.get(recording.target)
    assert (reply.status, reply.body, reply.cut) == (recording.status, recording.body, False)
    assert reply.headers["content-type"] == recording.content_type
    assert "stream-id" not in reply.headers


@pytest.mark.parametrize("recording", ALL, ids=str)
def test_the_gateway_resumes_at_an_offset(recording: Recording, stored: House) -> None:
    """A POST with the key and `Stream-Offset` gets the rest in the provider's own form, and makes no call."""
    stored.play(recording, f"at-{recording}", "random:3")
    calls = len(stored.provider.ledger())
    for at in sample(recording.boundaries, recording):
        headers = {"Idempotency-Key": f"at-{recording}", "Stream-Offset": f"{at:016}"}
        reply = stored.plain.post(recording.target, recording.request, headers)
        assert (reply.status, reply.body, reply.cut) == (recording.status, recording.body[at:], False)
        assert reply.headers["stream-offset"] == f"{at:016}"
        assert reply.headers["content-type"] == recording.content_type
    assert len(stored.provider.ledger()) == calls


@pytest.mark.parametrize("recording", EVENT_STREAMS, ids=str)
def test_a_reader_resumes_behind_so_many_events(recording: Recording, stored: House) -> None:
    """`from_event=N` begins where the Nth event ended."""
    stream, counts = stored.stream(recording), range(len(recording.event_ends) + 1)
    for count in counts if len(counts) < 100 else sample(counts, recording):
        at = recording.event_ends[count - 1] if count else 0
        reply = stored.plain.get(f"/streams/{stream}?from_event={count}")
        assert reply.body == recording.body[at:]
        assert reply.headers["stream-offset"] == f"{at:016}"
    assert stored.plain.get(f"/streams/{stream}?from_event={len(counts)}").status == 416


@pytest.mark.parametrize("recording", EVENT_STREAMS, ids=str)
def test_an_event_source_resumes_behind_its_last_event(recording: Recording, stored: House) -> None:
    """Each event as sent with its offset as id; whoever has everything gets 204."""
    stream, size = stored.stream(recording), len(recording.body)
    completed = stored.plain.get(f"/streams/{stream}/info").json()["outcome"] == "completed"
    for at in sample(recording.boundaries, recording):
        headers = {"Last-Event-ID": f"{at:016}"} if at else {}
        reply = stored.plain.get(f"/streams/{stream}?live=events", headers)
        if at == size and completed:
            assert (reply.status, reply.body) == (204, b"")
            continue
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert not reply.cut
        expected = with_ids(recording, at)
        assert reply.body.startswith(expected)
        ends_with_rest = size > sum(map(len, recording.blocks))
        last = reply.body[len(expected) :]
        if completed and not ends_with_rest and is_event(recording.blocks[-1]):
            assert last == b""
        else:
            assert last.endswith(f"id: {size:016}.end\n\n".encode())
            assert (b"event: resumestream.end\n" in last) is not completed
        done = stored.plain.get(f"/streams/{stream}?live=events", {"Last-Event-ID": f"{size:016}.end"})
        assert done.status == 204


@pytest.mark.parametrize("recording", [one for one in ALL if not one.is_sse], ids=str)
def test_what_has_no_events_is_refused_to_an_event_source(recording: Recording, stored: House) -> None:
    """406, and the way that works."""
    reply = stored.plain.get(f"/streams/{stored.stream(recording)}?live=events")
    assert reply.status == 406
    assert "live=tail" in reply.json()["detail"]


def with_ids(recording: Recording, start: int) -> bytes:
    """The blocks from `start` on, each event with its id as last field."""
    out, at = [], 0
    for block in recording.blocks:
        at += len(block)
        if at <= start:
            continue
        end = b"\r\n" if block.endswith(b"\r\n") else block[-1:]
        identified = block[: -len(end)] + f"id: {at:016}".encode() + end + end
        out.append(identified if is_event(block) else block)
    return b"".join(out)


def sample(places: list[int] | range, recording: Recording) -> list[int]:
    """The first, the last and some between."""
    few = random.Random(f"{recording}").sample(places, min(SAMPLE, len(places)))
    return sorted({places[0], places[-1], *few})
