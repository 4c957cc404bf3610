"""What the suite's client makes of an answer, and what it says where that is not what was expected."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from resumestream.conformance.answer import Answer
from resumestream.conformance.context import Context, Setting
from resumestream.conformance.exchange import Address, Exchange
from resumestream.conformance.sse import blocks, events, without_ids, without_keepalives
from resumestream.conformance.verdicts import Failed
from resumestream.testing.provider import ScriptedProvider

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nstream-id: x\r\n\r\n"
DEADLINE_S = 10.0

Asked = Callable[..., Answer]


@pytest.fixture
def asked() -> Iterator[Asked]:
    """A request to a server that answers with these bytes, and then ends the connection in that way."""
    done, answers = threading.Event(), list[Answer]()
    listener = socket.create_server(("127.0.0.1", 0))

    def ask(sent: bytes, end: str = "fin", deadline_s: float = DEADLINE_S) -> Answer:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.recv(65536)
                connection.sendall(sent)
                if end == "stays":
                    done.wait(DEADLINE_S)
                while end == "floods" and not done.is_set():
                    connection.sendall(b"1\r\na\r\n")
                if end == "rst":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        threading.Thread(target=serve, daemon=True).start()
        address = Address.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/llm")
        answers.append(Answer(Exchange(address, "GET", "/x", [], b"", time.monotonic() + deadline_s)))
        return answers[-1]

    with listener:
        yield ask
    done.set()
    for answer in answers:
        answer.leave()


def test_a_framed_end_and_a_cut_are_told_apart(asked: Asked) -> None:
    asked(CHUNKED + b"2\r\nab\r\n0\r\n\r\n").ends_framed().has_body(b"ab").has_header("Stream-Id", "x")
    asked(CHUNKED + b"2\r\nab\r\n").ends_cut()
    asked(CHUNKED + b"2\r\nab\r\n", "rst").ends_cut()
    asked(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab").ends_cut()
    with pytest.raises(Failed, match="expected a body that ends as framed; saw one that was cut"):
        asked(CHUNKED + b"2\r\nab\r\n").ends_framed()
    with pytest.raises(Failed, match="expected a body that breaks off"):
        asked(CHUNKED + b"0\r\n\r\n").ends_cut()


def test_silence_ends_at_the_deadline(asked: Asked) -> None:
    with pytest.raises(Failed, match=r"GET /x: expected the end; saw 2 bytes of it within \d"):
        asked(CHUNKED + b"2\r\nab\r\n", "stays", deadline_s=0.3).end()
    with pytest.raises(Failed, match=r"expected an answer; saw nothing within"):
        asked(b"", "stays", deadline_s=0.3).has_status(200)


def test_an_answer_without_end_ends_at_the_deadline(asked: Asked) -> None:
    with pytest.raises(Failed, match=r"GET /x: expected the end; saw \d+ bytes of it within \d"):
        asked(CHUNKED, "floods", deadline_s=0.3).end()


def test_no_answer_at_all_is_told(asked: Asked) -> None:
    with pytest.raises(Failed, match="a connection that ended without one"):
        asked(b"").has_status(200)
    with pytest.raises(Failed, match="a connection that ended without one"):
        asked(b"this is no HTTP\r\n\r\n").has_status(200)


def test_waiting_for_some_time_is_no_failure(asked: Asked) -> None:
    answer = asked(CHUNKED + b"2\r\nab\r\n", "stays").silent_for(0.1)
    assert (answer.body, answer.ended) == (b"ab", "")


def test_a_failure_says_where_bodies_differ(asked: Asked) -> None:
    sent = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabXd"
    with pytest.raises(Failed, match="expected 4 bytes of body, at byte 2 'cd'; saw 4 bytes, there 'Xd'"):
        asked(sent).has_body(b"abcd")
    with pytest.raises(Failed, match="at byte 4 'e'; saw 4 bytes, there the end"):
        asked(sent).has_body(b"abXde")


def test_a_wrong_status_shows_what_came_with_it(asked: Asked) -> None:
    with pytest.raises(Failed, match="expected status 200 or 202; saw 404 'gone'"):
        asked(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone").has_status(200, 202)


def test_who_asks_again_has_left_before() -> None:
    """A wait of seconds asks hundreds of times: connections that stay would use up the files of the process."""
    numbers, left = itertools.count(), threading.Semaphore(0)

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            if connection.recv(65536) == b"":
                left.release()

    def accept() -> None:
        for _ in range(3):
            threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener, ScriptedProvider() as provider:
        threading.Thread(target=accept, daemon=True).start()
        address = Address.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")
        ctx = Context(Setting(address=address, provider=provider, upstream_url=provider.url, deadline_s=DEADLINE_S))
        ctx.eventually(lambda: ctx.get("/x"), lambda answer: next(numbers) == 2, "the third answer")
        assert [left.acquire(timeout=DEADLINE_S) for _ in range(2)] == [True, True]
        ctx.clean_up()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://here", "here"),
        ("https://here/llm/", "here"),
        ("https://here:80", "here:80"),
        ("http://here:443", "here:443"),
        ("http://[::1]:8787", "[::1]:8787"),
    ],
)
def test_host_names_a_port_that_is_not_the_schemes(url: str, host: str) -> None:
    assert Address.parse(url).authority == host


@pytest.mark.parametrize("kind", ["urn:resumestream:problem:other", "about:blank", ""])
def test_a_problem_has_its_type(asked: Asked, kind: str) -> None:
    body = f'{{"type": "{kind}"}}'.encode()
    head = f"HTTP/1.1 422 X\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n\r\n"
    with pytest.raises(Failed, match="expected a problem of type key-reused"):
        asked(head.encode() + body).is_problem(422, "key-reused")


def test_events_are_whole_blocks_with_data() -> None:
    body = b": c\n\nevent: a\ndata: 1\ndata: 2\nid: 7\n\nretry: 1\n\ndata: 3\r\n\r\ndata: half"
    assert len(blocks(body)) == 4
    assert [(event.name, event.data, event.id) for event in events(body)] == [
        ("a", "1\n2", "7"),
        ("message", "3", None),
    ]


def test_what_is_no_payload_is_left_out() -> None:
    assert without_keepalives(b":\ndata: 1\n\n: keep-alive\n\ndata: 2\n\n:\n") == b"data: 1\n\ndata: 2\n\n"
    assert without_keepalives(b"data: 1\r\n\r\n\r\n\r\ndata: 2\r\n\r\n") == b"data: 1\r\n\r\ndata: 2\r\n\r\n"
    told = b"data: 1\nid: 09\n\n: keep-alive\n\nevent: resumestream.end\ndata: {}\nid: 09.end\n\n"
    assert without_ids(told) == b"data: 1\n\n"
