"""The scripted provider on the wire: faults at their byte, plain HTTP, and replays, seen from a raw socket."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resumestream.testing.provider import Script, ScriptedProvider, server

from .raw_client import CHAT, Raw, chunks

RECORDINGS = Path(__file__).parents[1].parent / "shared" / "recordings"

MORE_THAN_BUFFERS = 32 * 2**20


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    """A running provider."""
    with ScriptedProvider() as running:
        yield running


# --- faults ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["fin", "rst", "garbage", "clean", "half-close"])
@pytest.mark.parametrize("place", [{"at_byte": 0}, {"at_byte": 777}, {"at_event": 3}, {}], ids=str)
def test_faults_come_at_their_byte(provider: ScriptedProvider, fault: Any, place: dict[str, int]) -> None:
    """Exactly the bytes before the place arrive, as whole chunks, and then the fault."""
    provider.script(Script(), Script(fault=fault, keep_alive=False, **place))
    with Raw(provider.url).send() as raw:
        raw.head()
        # The ids count the calls; their width does not change.
        whole = raw.body().replace(b"000001", b"000002")
    ends = [found.end() for found in re.finditer(b"\n\n", whole)]
    expected = whole[: place.get("at_byte", ends[place["at_event"] - 1] if "at_event" in place else len(whole))]
    with Raw(provider.url).send() as raw:
        raw.head()
        received, ended = raw.rest()
    assert b"".join(chunks(received)) == expected
    assert ended == ("rst" if fault == "rst" else "fin")
    assert received.endswith(b"0\r\n\r\n") is (fault == "clean")
    assert (b"\xff" in received) is (fault == "garbage")
    call = provider.ledger()[1]
    assert (call.bytes_sent, call.sent_sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert call.events_sent == sum(end <= len(expected) for end in ends)
    assert call.finished
    assert provider.sent(2) == expected


@pytest.mark.parametrize(("fault", "seen"), [("fin", (b"", "fin")), ("rst", (b"", "rst"))])
def test_faults_before_the_head(provider: ScriptedProvider, fault: Any, seen: tuple[bytes, str]) -> None:
    """The request is taken and no status comes: nobody can tell whether it was billed."""
    provider.script(Script(fault=fault, before_head=True))
    with Raw(provider.url).send() as raw:
        assert raw.rest() == seen
    assert provider.ledger()[0].status is None


@pytest.mark.parametrize(("fault", "taken"), [("half-close", True), ("fin", False)])
def test_a_half_closed_connection_is_read_on(
    provider: ScriptedProvider, fault: Any, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the client still sends is taken for as long as it likes; after a whole close it is refused with RST."""
    monkeypatch.setattr(server, "_LINGER_S", 0)  # else a whole close takes that long
    provider.script(Script(fault=fault, at_byte=300))
    with Raw(provider.url).send() as raw:
        raw.head()
        assert raw.rest()[1] == "fin"
        assert provider.wait_for(lambda calls: calls[0].ended)[0].finished
        with contextlib.nullcontext() if taken else pytest.raises((ConnectionResetError, BrokenPipeError)):
            raw.sock.sendall(bytes(MORE_THAN_BUFFERS))


def test_a_reset_does_not_overtake_the_bytes_before_it(provider: ScriptedProvider) -> None:
    """A client that starts to read late still gets every byte, and then the RST."""
    body = bytes(1_000_000)
    headers = {"content-type": "application/octet-stream"}
    provider.script(Script(body=body, headers=headers, chunking=(50_000,), fault="rst"))
    with Raw(provider.url, window=65536).send() as raw:
        provider.wait_for(lambda calls: bool(calls) and calls[0].bytes_sent == len(body))
        raw.head()
        received, ended = raw.rest()
    assert (len(received), ended) == (len(body), "rst")


@pytest.mark.parametrize("place", [{"at_byte": 500}, {"before_head": True}, {}], ids=str)
def test_a_stall_heals_when_released(provider: ScriptedProvider, place: dict[str, Any]) -> None:
    """Silence, then all the rest, and nothing lost."""
    provider.script(Script(fault="stall", **place))
    with Raw(provider.url).send() as raw:
        (call,) = provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        assert call.status == (None if place.get("before_head") else 200)
        provider.release(1)
        raw.head()
        assert raw.body() == provider.sent(1)
    assert provider.sent(1).endswith(b"[DONE]\n\n")


def test_a_release_may_be_for_one_call(provider: ScriptedProvider) -> None:
    """The others stay held."""
    provider.script(default=Script(hold_at=1))
    with Raw(provider.url).send() as first, Raw(provider.url).send():
        provider.wait_for(lambda calls: sum(call.held for call in calls) == 2)
        provider.release(1 if provider.ledger()[0].connection == 1 else 2)
        first.head()
        first.body()
        assert [call.held for call in provider.ledger()].count(True) == 1


def test_a_release_is_for_one_wait_and_never_lost(provider: ScriptedProvider) -> None:
    """A release before the wait opens the next one; a second wait needs a second release."""
    provider.script(Script(headers_delay_s=0.05, hold_at=2, fault="stall", at_event=4))
    with Raw(provider.url).send() as raw:
        provider.wait_for(lambda calls: len(calls) == 1)
        provider.release()
        (call,) = provider.wait_for(lambda calls: calls[0].held)
        assert call.events_sent == 4
        provider.release()
        raw.head()
        assert raw.body().endswith(b"[DONE]\n\n")


def test_a_short_body(provider: ScriptedProvider) -> None:
    """Framing `length` promises the whole body; a FIN leaves it short."""
    provider.script(Script(body=b'{"a": 1}', framing="length", fault="fin", at_byte=3))
    with Raw(provider.url).send() as raw:
        assert "content-length: 8" in raw.head()
        assert raw.rest() == (b'{"a', "fin")


def test_a_close_delimited_body(provider: ScriptedProvider) -> None:
    """Framing `close`: no length, no chunks, the FIN is the end."""
    provider.script(Script(tokens=2, framing="close"))
    with Raw(provider.url).send() as raw:
        head = raw.head()
        assert "content-length" not in head
        assert "transfer-encoding" not in head
        assert raw.rest() == (provider.sent(1), "fin")


# --- plain HTTP --------------------------------------------------------------------------------------------------


def test_connections_are_reused_unless_told_otherwise(provider: ScriptedProvider) -> None:
    """The ledger numbers connections, so that a pool shows; `keep_alive=False` closes."""
    provider.script(Script(), Script(keep_alive=False))
    with Raw(provider.url).send() as raw:
        raw.head()
        raw.body()
        raw.send()
        assert "connection: close" in raw.head()
        raw.body()
        assert raw.rest() == (b"", "fin")
    with Raw(provider.url).send(head="connection: close\r\n") as raw:
        raw.head()
        assert raw.rest()[1] == "fin"
    assert [call.connection for call in provider.ledger()] == [1, 1, 2]


def test_two_requests_at_once_on_one_connection(provider: ScriptedProvider) -> None:
    """A pipelined request waits its turn, also when it comes while the first is being answered."""
    provider.script(Script(hold_at=1))
    with Raw(provider.url).send() as raw:
        provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        raw.send(path="/v1/messages")
        provider.release()
        raw.head()
        assert raw.body() == provider.sent(1)
        raw.head()
        assert raw.body() == provider.sent(2)
    assert [call.path for call in provider.ledger()] == [CHAT, "/v1/messages"]


def test_informational_answers_come_first(provider: ScriptedProvider) -> None:
    """1xx before the answer, and 100 to a client that waits for it."""
    provider.script(Script(informational=(103,), tokens=1))
    with Raw(provider.url) as raw:
        raw.sock.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n".encode()
        )
        assert raw.head().startswith("HTTP/1.1 100 Continue")
        raw.sock.sendall(b"{}")
        assert raw.head().startswith("HTTP/1.1 103 Early Hints")
        assert raw.head().startswith("HTTP/1.1 200 OK")


def test_an_answer_before_the_request_body(provider: ScriptedProvider) -> None:
    """A refusal arrives although most of the body was never sent, and a client that goes on sending is not cut off."""
    provider.script(Script(status=413, reply_before_body=True))
    with Raw(provider.url) as raw:
        begun = bytes(200_000)
        raw.sock.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n".encode() + begun)
        head = raw.head()
        raw.sock.sendall(bytes(2_000_000))
        _, ended = raw.rest()
    assert head.startswith("HTTP/1.1 413")
    assert "connection: close" in head
    assert ended == "fin"
    assert provider.ledger()[0].request_bytes == 0


def test_redirects_and_other_headers(provider: ScriptedProvider) -> None:
    """Any status with any header; a header of the same name replaces ours."""
    provider.script(Script(status=307, headers={"Location": "/elsewhere", "content-type": "text/plain"}))
    with Raw(provider.url).send() as raw:
        head = raw.head()
    assert head.startswith("HTTP/1.1 307")
    assert "location: /elsewhere" in head
    assert re.findall("content-type: (.*)\r", head) == ["text/plain"]


def test_heads_and_empty_answers_have_no_body(provider: ScriptedProvider) -> None:
    """HEAD says the length it would have; 204 has none."""
    provider.script(Script(), Script(status=204), Script(status=304, framing="chunked", body=b""))
    with Raw(provider.url).send("/v1/models", b"", method="HEAD") as raw:
        assert re.search(r"content-length: [1-9]", raw.head())
        raw.send(method="DELETE")
        assert "content-length" not in raw.head()
        raw.send(head="connection: close\r\n")
        raw.head()
        assert raw.rest() == (b"", "fin")
    assert provider.ledger()[0].bytes_sent == 0


def test_http_1_0(provider: ScriptedProvider) -> None:
    """A 1.0 client gets no chunks."""
    with Raw(provider.url) as raw:
        raw.sock.sendall(f"POST {CHAT} HTTP/1.0\r\ncontent-length: 15\r\n\r\n".encode() + b'{"stream":true}')
        raw.head()
        assert raw.rest() == (provider.sent(1), "fin")


def test_no_http(provider: ScriptedProvider) -> None:
    """Bytes that are no request get a 400."""
    with Raw(provider.url) as raw:
        raw.sock.sendall(b"\x00\x01\r\n\r\n")
        assert raw.head().startswith("HTTP/1.1 400")
    assert provider.ledger() == []


def test_unknown_paths(provider: ScriptedProvider) -> None:
    """404 in JSON, unless a script says what is there."""
    provider.script(Script(), Script(body=b"{}", headers={"content-type": "application/json"}))
    with Raw(provider.url).send("/v1/embeddings") as raw:
        assert raw.head().startswith("HTTP/1.1 404")
        assert b"nothing answers POST /v1/embeddings" in raw.until(b"}}")
        raw.send("/v1/embeddings")
        assert raw.head().startswith("HTTP/1.1 200")
        assert raw.until(b"{}") == b"{}"


# --- replaying ---------------------------------------------------------------------------------------------------


def recordings() -> list[str]:
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))


@pytest.fixture(scope="module")
def replaying() -> Iterator[ScriptedProvider]:
    """A provider that has the shared recordings."""
    if not recordings():
        pytest.skip("shared recordings are not beside this checkout")
    with ScriptedProvider(fixtures=RECORDINGS) as running:
        yield running


@pytest.mark.parametrize("chunking", ["events", "random:1", (1000, 1, 30)], ids=str)
@pytest.mark.parametrize("name", recordings() or ["none"])
def test_recordings_are_replayed_byte_for_byte(replaying: ScriptedProvider, name: str, chunking: Any) -> None:
    """Whatever the chunking; with the recorded content type."""
    replaying.reset()
    replaying.script(Script(fixture=name, chunking=chunking, framing="chunked"))
    with Raw(replaying.url).send("/anything") as raw:
        head, body = raw.head(), raw.body()
    recorded = json.loads((RECORDINGS / f"{name}.json").read_bytes())["response"]
    (file,) = (path for path in RECORDINGS.glob(f"{name}.*") if path.suffix != ".json")
    assert body == file.read_bytes()
    assert f"content-type: {recorded['headers']['content-type']}" in head


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=repr)
def test_fixtures(tmp_path: Path, end: bytes) -> None:
    """A transcript is `NAME.json` and a body; its events are told apart whatever their line ends."""
    body = b"data: 1" + end + b"data: 2" + end + b"data: half"
    headers = {"Content-Type": "text/event-stream", "content-length": "9", "content-encoding": "br", "x-from": "there"}
    (tmp_path / "fixtures").mkdir()
    for folder in (tmp_path, tmp_path / "fixtures"):
        (folder / "mine.sse").write_bytes(body)
        (folder / "mine.json").write_text(json.dumps({"response": {"status": 201, "headers": headers}}))
    with ScriptedProvider(fixtures=tmp_path / "fixtures") as provider, Raw(provider.url) as raw:
        provider.script(Script(fixture="mine", hold_at=2), Script(fixture="../mine"), Script(fixture="other"))
        raw.send()
        (call,) = provider.wait_for(lambda calls: bool(calls) and calls[0].held)
        assert (call.bytes_sent, call.events_sent, call.tokens_billed) == (body.index(b"data: half"), 2, 2)
        provider.release()
        head = raw.head()
        assert head.startswith("HTTP/1.1 201")
        assert "x-from: there" in head
        assert "content-length" not in head
        assert raw.body() == body
        for _ in range(2):
            raw.send()
            assert raw.head().startswith("HTTP/1.1 400")
            raw.until(b"}}")


def test_sizes_cut_the_body(provider: ScriptedProvider) -> None:
    """Each size is one chunk on the wire, in turn."""
    provider.script(Script(body=bytes(range(10)), framing="chunked", chunking=(3, 1)), Script(tokens=3))
    with Raw(provider.url).send(head="connection: close\r\n") as raw:
        raw.head()
        assert [len(chunk) for chunk in chunks(raw.rest()[0])] == [3, 1, 3, 1, 2]
    with Raw(provider.url).send(head="connection: close\r\n") as raw:
        raw.head()
        assert all(chunk.endswith(b"\n\n") for chunk in chunks(raw.rest()[0]))
