"""The examples of the specification, from a real run: what is sent and what comes back, byte for byte.

`python -m tests.spec_examples` writes them into the page; tests/test_spec.py compares.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

from resumestream import ResumeStream
from resumestream.testing import Script, ScriptedProvider, running

PAGE = Path(__file__).parents[1] / "docs" / "spec" / "index.md"
MARK = re.compile(r"(<!-- example: ([\w-]+) -->)\n.*?<!-- end -->", re.DOTALL)

IDS = ("kV3nXw0rB8sQe1LzTj5Yp7Ua", "tR6mGh2cJf9oDx4iWv7Kb0Ns", "aZ5qPy8uEl3wHd1gSt6Cn2Mf", "bX7eUk4vOj9rIa0yFq3Lp8Wz")
NODE, PORT, AT = "n0dE4f7a2b9C", "50000", "2026-11-21T12:00:00.000Z"
"""They stand for what differs from run to run, and are as long, so that every length is right."""
LEFT_OUT = {"date", "server"}

CHAT = "/main/v1/chat/completions"
BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Count."}]}'
EVENTS = [
    *(b'data: {"choices":[{"index":0,"delta":{"content":"w%02d "}}]}\n\n' % number for number in range(1, 99)),
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
ANSWER = b"".join(EVENTS)
READ = 70
"""Events that the reader has when it is lost."""
AT_READ = len(b"".join(EVENTS[:READ]))
SSE = {"content-type": "text/event-stream"}
DEADLINE_S = 20


class Live:
    """An answer as it comes."""

    def __init__(self, connection: HTTPConnection, request: str) -> None:
        self._connection, self.request = connection, request
        self.response: HTTPResponse = connection.getresponse()
        self._body = b""

    def until(self, size: int) -> Live:
        """With so many bytes of its body."""
        while len(self._body) < size:
            piece = self.response.read1(size - len(self._body))
            assert piece, "the answer ended"
            self._body += piece
        return self

    def leave(self) -> str:
        """As it is shown, up to here."""
        self._connection.close()
        return self._shown("[the connection is lost]")

    def end(self) -> str:
        """As it is shown, to its end."""
        try:
            self._body += self.response.read()
            cut = ""
        except IncompleteRead as error:
            self._body, cut = self._body + error.partial, "[the body breaks: the connection ends before the last chunk]"
        self._connection.close()
        return self._shown(cut)

    @property
    def stream(self) -> str:
        return self.response.headers["stream-id"]

    def _shown(self, end: str) -> str:
        names = [(name, value) for name, value in self.response.getheaders() if name.lower() not in LEFT_OUT]
        head = [f"HTTP/1.1 {self.response.status}"]
        head += [f"{'-'.join(part.capitalize() for part in name.split('-'))}: {value}" for name, value in names]
        body = _shortened(self._body) + end
        return "\n".join([self.request, "", *head, *(["", body] if body else [])])


class Caller:
    """Asks, and remembers which streams and which node it was told of."""

    def __init__(self, url: str) -> None:
        self._at = urlsplit(url)
        self.streams: list[str] = []
        self.node = ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Live:
        """Sent, and answered with a status line."""
        named = {"Host": "localhost", "Authorization": "Bearer caller-1"}
        named |= {"Content-Type": "application/json", "Content-Length": str(len(body))} if body else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        assert self._at.hostname
        connection = HTTPConnection(self._at.hostname, self._at.port, timeout=DEADLINE_S)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in named.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        live = Live(connection, "\n".join(lines) + (f"\n\n{body.decode()}" if body else ""))
        if (stream := live.response.headers.get("stream-id")) and stream not in self.streams:
            self.streams.append(stream)
        self.node = live.response.headers.get("stream-node") or self.node
        return live

    def post(self, key: str, **headers: str) -> Live:
        return self.ask("POST", CHAT, BODY, Idempotency_Key=key, **headers)

    def neutral(self, text: str, port: int) -> str:
        """With what differs from run to run replaced."""
        assert len(self.streams) <= len(IDS)
        for stream, name in zip(self.streams, IDS, strict=False):
            text = text.replace(stream, name)
        text = text.replace(self.node, NODE).replace(f"127.0.0.1:{port}", f"127.0.0.1:{PORT}")
        return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", AT, text)


def _shortened(body: bytes) -> str:
    """A long run of events as its first, its last, and what lies between."""
    blocks = re.findall(rb".*?\n\n|.+\Z", body, re.DOTALL)
    texts = [block.decode() for block in blocks]
    first = next((at for at, text in enumerate(texts) if '"content"' not in text), len(texts))
    if first > 3:
        texts[1 : first - 1] = [f"[{first - 2} more events]\n\n"]
    return "".join(texts)


def _resumed(caller: Caller, provider: ScriptedProvider) -> Iterator[tuple[str, str]]:
    """An answer of 100 events, of which a reader has 70."""
    provider.script(Script(body=ANSWER, headers=SSE, hold_at=READ))
    first = caller.post("turn-42").until(AT_READ)
    yield "first", first.leave()
    stream = first.stream
    yield "head", caller.ask("HEAD", f"/streams/{stream}").end()
    yield "page-live", caller.ask("GET", f"/streams/{stream}?offset={AT_READ - len(EVENTS[0]):016}").end()
    by_key = caller.post("turn-42", Stream_Offset=f"{AT_READ:016}")
    provider.release()
    yield "by-key", by_key.end()
    yield "by-offset", caller.ask("GET", f"/streams/{stream}?offset={AT_READ:016}").end()
    yield "by-event", caller.ask("GET", f"/streams/{stream}?from_event={READ}&live=tail").end()
    yield "by-id", caller.ask("GET", f"/streams/{stream}", Last_Event_ID=f"{AT_READ:016}").end()
    yield "has-all", caller.ask("GET", f"/streams/{stream}", Last_Event_ID=f"{len(ANSWER):016}").end()
    yield "whole", caller.post("turn-42").end()
    other = BODY.replace(b"Count.", b"Sing.")
    yield "reused", caller.ask("POST", CHAT, other, Idempotency_Key="turn-42").end()


def _cut(caller: Caller, provider: ScriptedProvider) -> Iterator[tuple[str, str]]:
    """An answer whose provider is lost after 70 events."""
    provider.script(Script(body=ANSWER, headers=SSE, fault="fin", at_byte=AT_READ + 10, hold_at=READ))
    cut = caller.post("turn-43").until(AT_READ)
    provider.release()
    yield "cut", cut.end()
    stream = cut.stream
    yield "cut-page", caller.ask("GET", f"/streams/{stream}?from_event={READ - 1}").end()
    yield "cut-tail", caller.ask("GET", f"/streams/{stream}?from_event={READ - 1}&live=tail").end()
    yield "cut-events", caller.ask("GET", f"/streams/{stream}?from_event={READ - 1}&live=events").end()
    yield "cut-end", caller.ask("GET", f"/streams/{stream}", Last_Event_ID=f"{AT_READ:016}.end").end()
    yield "cut-again", caller.post("turn-43").end()
    provider.script(Script(body=ANSWER, headers=SSE, hold_at=READ))
    consented = caller.post("turn-43", Stream_Retry=stream).until(AT_READ)
    provider.release()
    yield "consent", consented.end()


def _unanswered(caller: Caller, provider: ScriptedProvider) -> Iterator[tuple[str, str]]:
    """A request that was sent and never answered."""
    provider.script(Script(fault="fin", before_head=True))
    yield "unanswered", caller.post("turn-44").end()


@contextmanager
def _served() -> Iterator[tuple[Caller, ScriptedProvider]]:
    with tempfile.TemporaryDirectory() as folder, ScriptedProvider() as provider:
        streams = ResumeStream(f"{folder}/streams.db", upstreams={"main": provider.url})
        with running(streams.asgi) as url:
            yield Caller(url), provider


def examples() -> dict[str, str]:
    """Every example by its name, as the page shows it."""
    scenes: tuple[Callable[[Caller, ScriptedProvider], Iterator[tuple[str, str]]], ...] = (_resumed, _cut, _unanswered)
    with _served() as (caller, provider):
        port = urlsplit(provider.url).port
        assert port
        shown = [example for scene in scenes for example in scene(caller, provider)]
        return {name: caller.neutral(text, port) for name, text in shown}


def written(page: str, shown: dict[str, str]) -> str:
    """`page` with each of its examples as `shown`: the request is a block, and the answer is one."""

    def fence(match: re.Match[str]) -> str:
        request, answer = shown[match[2]].split("\n\nHTTP/1.1 ", 1)
        messages = [request, f"HTTP/1.1 {answer}".removesuffix("\n")]
        blocks = "\n\n".join(f"```http\n{message}\n```" for message in messages)
        return f"{match[1]}\n{blocks}\n<!-- end -->"

    return MARK.sub(fence, page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), examples()), encoding="utf-8")
