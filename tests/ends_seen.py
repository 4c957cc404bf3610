"""The callers of the table of ends, and what each of them must get."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from resumestream.model import Outcome
from resumestream.testing.provider.script import token

from .clients.plain import Plain, Reply
from .clients.sdks import SDKS
from .ends import Row

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
CUT_OFF = {"APIConnectionError", "RemoteProtocolError"}
"""What the SDKs raise for a broken body."""
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


class Turn:
    """One row while it is played. `go`: the caller has read what there was to read."""

    def __init__(self, row: Row) -> None:
        self.row, self.calls, self.go = row, 0, threading.Event()


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
    elif play.detail in ("error_event", "error_unended") and name == "openai-responses":
        expected = {""}  # what OpenAI sends has no key `error` (ours has one), so the SDK hands it on as an event
        assert ended.last == "error"
    else:
        expected = {IN_STREAM[name]}
    assert ended.raised in expected
    if play.status == 200:
        assert ended.text == read_of(row)
    else:
        assert not ended.text


def read_of(row: Row) -> str:
    """The text of the events that are kept."""
    play, speaker = row.play, row.speaker
    if play.detail == "max_stream_bytes":
        begun = speaker.text(speaker.first)
        return begun + begun[-len(token(0)) :] * (play.events - speaker.first)
    return speaker.text(play.events)


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
    elif play.detail == "error_unended":
        assert (reply.body, reply.cut) == (play.kept + b"\n\n", False)
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
