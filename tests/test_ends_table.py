"""Every way to end in every dialect: what is kept, what the SDK raises, what who comes later gets, and that nothing cut
short ever looks complete."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette

from resumestream import Policy, ResumeStream
from resumestream.model import Outcome
from resumestream.testing import running

from .clients.plain import Plain, Reply
from .clients.sdks import SDK_WARNINGS, SDKS
from .clients.served import UPSTREAMS
from .ends import MAX_EVENT_BYTES, MAX_STREAM_BYTES, Row, rows
from .scripted_peer import DEADLINE_S, Peer, Server, listening

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)

IMPATIENCE_S = 0.3
POLICY: dict[str, Any] = {
    "drain_s": 0,
    "settle_s": 0.2,
    "max_event_bytes": MAX_EVENT_BYTES,
    "max_stream_bytes": MAX_STREAM_BYTES,
}
STATUS = {
    Outcome.STALLED: 504,
    Outcome.TRUNCATED: 502,
    Outcome.PROVIDER_ERROR: 502,
    Outcome.CANCELLED: 410,
    Outcome.OVERFLOW: 507,
    Outcome.INTERRUPTED: 502,
}
IN_STREAM = {
    "openai-chat": "APIError",
    "openai-responses": "APIError",
    "anthropic": "APIStatusError",
    "gemini": "ServerError",
}
"""What the SDK raises for a failure within the stream, ours or the provider's own."""
OPENAI = {400: "BadRequestError", 429: "RateLimitError"}
ANTHROPIC = {**OPENAI, 503: "ServiceUnavailableError", 504: "GatewayTimeoutError"}
GEMINI = {400: "ClientError", 429: "ClientError"}
BY_STATUS: dict[str, tuple[dict[int, str], str]] = {
    "openai-chat": (OPENAI, "InternalServerError"),
    "openai-responses": (OPENAI, "InternalServerError"),
    "anthropic": (ANTHROPIC, "InternalServerError"),
    "gemini": (GEMINI, "ServerError"),
}
"""What it raises for a status, and for any other."""


# --- the provider and the gateways --------------------------------------------------------------------------------


class Turn:
    """One row while it is played. `go`: the caller has read what there was to read."""

    def __init__(self, row: Row) -> None:
        self.row, self.calls, self.go = row, 0, threading.Event()


class Stage:
    """One provider for all rows, with a gateway before it for each kind of patience."""

    def __init__(self, url: str, turns: dict[str, Turn]) -> None:
        self._url, self._turns = url, turns

    def enter(self, row: Row) -> tuple[str, Turn]:
        """The row's key, and its turn."""
        key = str(len(self._turns))
        self._turns[key] = turn = Turn(row)
        return key, turn

    def url(self, row: Row) -> str:
        return f"{self._url}/{row.play.mount}"


def provider(turns: dict[str, Turn]) -> Any:
    def script(peer: Peer, server: Server) -> None:
        found = re.search(rb"x-row: (\d+)", peer.read_head())
        assert found
        turn = turns[found[1].decode()]
        turn.calls += 1
        play = turn.row.play
        peer.send(play.before)
        if play.after or play.status == 200:
            assert turn.go.wait(DEADLINE_S)
            peer.send(play.after)
        if play.then == "rst":
            peer.reset()
        elif play.then == "stay":
            peer.wait_for_hang_up()

    return script


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    turns: dict[str, Turn] = {}
    with ExitStack() as stack:
        nobody = stack.enter_context(socket.socket())
        nobody.bind(("127.0.0.1", 0))  # and never listens
        server = stack.enter_context(listening(provider(turns)))
        app = Starlette()
        mounts: list[tuple[str, str, dict[str, Any]]] = [
            ("llm", server.url(), {}),
            ("impatient", server.url(), {"first_byte_s": IMPATIENCE_S, "stall_s": IMPATIENCE_S}),
            ("nowhere", f"http://127.0.0.1:{nobody.getsockname()[1]}", {}),
        ]
        for mount, url, more in mounts:
            streams = ResumeStream("memory:", dict.fromkeys(UPSTREAMS, url), Policy(**POLICY, **more))
            streams.install(app, f"/{mount}")
        yield Stage(stack.enter_context(running(app)), turns)


# --- callers ------------------------------------------------------------------------------------------------------


def plain_caller(row: Row, url: str) -> Plain:
    """Of the same principal as the SDK."""
    plain = Plain(url)
    if row.speaker.sdk:
        name, value = SDKS[row.speaker.name].credential
        del plain.headers["authorization"]
        plain.headers[name] = value
    return plain


@dataclass(frozen=True)
class Ended:
    """What an SDK's caller had read when it was over."""

    text: str
    raised: str
    """The exception's name; empty for a clean end."""
    last: str
    """The type of the last event."""


def ask_sdk(row: Row, url: str, headers: dict[str, str], turn: Turn | None = None) -> Ended:
    """Read to the end; once all that there is has been read, `turn` may go on."""
    name = row.speaker.name
    sdk, said, last = SDKS[name], "", ""
    seen = row.speaker.text(row.speaker.first) if row.play.seen else ""

    def go() -> None:
        if turn and said == seen and not turn.go.is_set():
            if row.play.asks_to_stop:
                with plain_caller(row, url) as plain:
                    stop(plain, plain.stream_of(headers["Idempotency-Key"]))
            turn.go.set()

    go()
    with sdk.sync(url, headers) as client:
        # Each refusal is looked at: what their loops make of one is tested elsewhere.
        once = client if name == "gemini" else client.with_options(max_retries=0)
        try:
            for event in sdk.stream(once):
                said += sdk.text(event)
                last = getattr(event, "type", "")
                go()
        except Exception as error:
            return Ended(said, type(error).__name__, last)
    return Ended(said, "", last)


def ask_plain(row: Row, url: str, plain: Plain, headers: dict[str, str], turn: Turn) -> Reply:
    if row.play.status != 200:
        turn.go.set()
    response = plain.begin("POST", row.speaker.path, b'{"stream": true}', headers)
    body = b""
    if row.play.seen and response.status == 200:
        while len(body) < len(row.play.seen):
            piece = response.read1(len(row.play.seen) - len(body))
            assert piece, body
            body += piece
    if row.play.asks_to_stop:
        with plain_caller(row, url) as other:
            stop(other, response.headers["stream-id"])
    turn.go.set()
    rest = plain.rest(response)
    return Reply(rest.status, rest.headers, body + rest.body, rest.cut)


def stop(plain: Plain, stream: str) -> None:
    assert plain.post(f"/streams/{stream}/cancel", b"").status < 300


# --- what each gets -----------------------------------------------------------------------------------------------


def check_sdk(row: Row, ended: Ended, *, late: bool) -> None:
    """A clean end is for what is complete, and everything else raises the SDK's own exception."""
    play, name = row.play, row.speaker.name
    by_status, otherwise = BY_STATUS[name]
    failed_early = not row.own_words and not play.kept
    if play.status not in (None, 200):
        expected = {by_status.get(502 if play.status == 307 else play.status, otherwise)}
    elif play.status is None or failed_early:
        expected = {by_status.get(STATUS[play.outcome], otherwise)}
        if play.status and not late:
            expected.add(IN_STREAM[name])  # who came first may hold the 200 already
    elif play.outcome is Outcome.COMPLETED:
        expected = {""}
    elif play.detail == "error_event" and name == "openai-responses":
        expected = {""}  # it hands this one on, from OpenAI as from us
        assert ended.last == "error"
    else:
        expected = {IN_STREAM[name]}
    assert ended.raised in expected
    if play.status == 200:
        text = row.speaker.text(min(play.events, row.speaker.first))
        text += text_after(row)
        assert ended.text == text
    else:
        assert not ended.text


def text_after(row: Row) -> str:
    play, speaker = row.play, row.speaker
    if play.detail == "max_stream_bytes":
        return speaker.text(speaker.first)[-6:] * (play.events - speaker.first)
    return speaker.text(play.events).removeprefix(speaker.text(min(play.events, speaker.first)))


def check_plain(row: Row, reply: Reply, *, late: bool) -> None:
    """All of what came, and then whatever its dialect has to say that this is not all; or a status that does."""
    play, speaker = row.play, row.speaker
    status = 502 if play.status == 307 else play.status
    failed = not row.own_words
    if late and failed and not (speaker.sse and play.kept):
        status = None
    elif failed and play.status == 200 and reply.status != 200:
        status = None  # it was known before the first caller's status line
        assert not play.seen
    if status is None or play.status == 307:
        assert reply.status == STATUS[play.outcome]
        assert not reply.cut
        if play.status != 307:
            assert reply.headers["stream-outcome"] == play.outcome
            assert reply.json()["outcome_detail"] == play.detail
            assert (reply.headers.get("x-should-retry") == "false") is not play.released
        return
    assert reply.status == status
    if late and not play.released:
        assert reply.headers["stream-outcome"] == play.outcome
        assert reply.headers["idempotent-replayed"] == "true"
    if row.own_words:
        assert (reply.body, reply.cut) == (play.kept, False)
    elif speaker.has_frame:
        assert not reply.cut
        assert reply.body.startswith(play.kept)
        frame = reply.body.removeprefix(play.kept)
        assert (b"exception" if speaker.name == "bedrock" else b"error") in frame
        assert b"Stream-Retry: " in frame
        assert play.outcome.encode() in frame or speaker.name == "ui-message-stream"
    else:
        assert (reply.body, reply.cut) == (play.kept, True)


def check_record(row: Row, plain: Plain, stream: str) -> None:
    """Sealed as it should be; its payload is what was whole, and its end is no clean one unless it was."""
    play = row.play
    head = plain.head(f"/streams/{stream}").headers
    assert (head["stream-state"], head["stream-outcome"]) == ("sealed", play.outcome)
    assert plain.get(f"/streams/{stream}/info").json()["detail"]["code"] == play.detail
    page = plain.get(f"/streams/{stream}")
    assert (page.status, page.body, page.headers["stream-outcome"]) == (200, play.kept, play.outcome)
    tail = plain.get(f"/streams/{stream}?live=tail")
    if play.status is None:
        assert (tail.status, tail.headers["stream-outcome"]) == (STATUS[play.outcome], play.outcome)
    else:
        assert (tail.status, tail.body, tail.cut) == (200, play.kept, not row.own_words)
        assert tail.headers["stream-outcome"] == play.outcome


@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_ends(row: Row, stage: Stage) -> None:
    """While it is live, later with the same key, and by the stream's id. One call, unless the key was released."""
    key, turn = stage.enter(row)
    url, headers = stage.url(row), {"Idempotency-Key": key, "X-Row": key}
    with plain_caller(row, url) as plain:
        if row.speaker.sdk:
            check_sdk(row, ask_sdk(row, url, headers, turn), late=False)
        else:
            check_plain(row, ask_plain(row, url, plain, headers, turn), late=False)
        stream = plain.stream_of(key)
        check_record(row, plain, stream)
        later = 1
        check_plain(
            row, plain.post(row.speaker.path, b'{"stream": true}', {**headers, "Stream-Match": "key"}), late=True
        )
        if row.speaker.sdk:
            check_sdk(row, ask_sdk(row, url, headers | {"Stream-Match": "key"}), late=True)
            later += 1
        check_record(row, plain, stream)
    if row.play.mount != "nowhere":
        assert turn.calls == (1 + later if row.play.released else 1)
