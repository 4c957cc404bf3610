"""Every way to end in every dialect: what is kept, what the SDK raises, what who comes later gets, and that nothing cut
short ever looks complete."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from resumestream import Policy, ResumeStream
from resumestream.testing import running

from .clients.plain import Plain, Reply
from .clients.sdks import SDK_WARNINGS
from .clients.served import UPSTREAMS
from .ends import MAX_EVENT_BYTES, MAX_STREAM_BYTES, Row, rows, shut_down
from .ends_seen import (
    CUT_OFF,
    IN_STREAM,
    Ended,
    Turn,
    ask_plain,
    ask_sdk,
    check_plain,
    check_record,
    check_sdk,
    plain_caller,
)
from .scripted_peer import DEADLINE_S, Peer, Server, listening
from .speakers import SPEAKERS

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)

IMPATIENCE_S = 0.3
POLICY: dict[str, Any] = {
    "drain_s": 0,
    "settle_s": 0.2,
    "max_event_bytes": MAX_EVENT_BYTES,
    "max_stream_bytes": MAX_STREAM_BYTES,
}


# --- the provider and the gateways --------------------------------------------------------------------------------


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


# --- the end of the server itself ---------------------------------------------------------------------------------

SHUT_DOWN = [Row(speaker, "shut down", shut_down(speaker)) for speaker in SPEAKERS]


@dataclass(frozen=True)
class After:
    """A gateway that was shut down while all dialects were being read, and another one on its log."""

    stage: Stage
    live: dict[str, Ended | Reply]
    """What each caller had got by then."""
    calls: Callable[[], int]


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[After]:
    turns: dict[str, Turn] = {}
    log = tmp_path_factory.mktemp("ends") / "streams.db"
    with listening(provider(turns)) as server:

        def gateway() -> Starlette:
            streams = ResumeStream(log, dict.fromkeys(UPSTREAMS, server.url()), Policy(**POLICY))

            async def drain(request: Request) -> Response:
                await streams.drain()
                return Response()

            app = Starlette()
            app.add_route("/drain", drain)
            streams.install(app, "/llm")
            return app

        with running(gateway()) as url, ThreadPoolExecutor(len(SHUT_DOWN)) as pool, Plain(url) as operator:
            stage = Stage(url, turns)
            entered = [(row, *stage.enter(row)) for row in SHUT_DOWN]
            asked = {row.speaker.name: pool.submit(first_call, row, stage, key, turn) for row, key, turn in entered}
            assert all(turn.go.wait(DEADLINE_S) for turn in turns.values())
            assert operator.get("/drain").status == 200
            live = {name: call.result(DEADLINE_S) for name, call in asked.items()}
        with running(gateway()) as url:
            yield After(Stage(url, turns), live, lambda: server.connections)


@pytest.mark.parametrize("row", SHUT_DOWN, ids=str)
def test_a_shutdown_ends_nothing_as_if_it_were_whole(row: Row, after: After) -> None:
    """Whoever reads is cut, or told; the next server tells everybody what was kept. No call is made again."""
    live, name = after.live[row.speaker.name], row.speaker.name
    if isinstance(live, Ended):
        assert live.raised in CUT_OFF | {IN_STREAM[name]}
        assert live.text == row.speaker.text(row.speaker.first)
    elif live.cut:
        assert live.body == row.play.kept
    else:
        check_plain(row, live, late=False)
    url, headers = after.stage.url(row), {"Idempotency-Key": name, "X-Row": "none", "Stream-Match": "key"}
    with plain_caller(row, url) as plain:
        check_record(row, plain, plain.stream_of(name))
        check_plain(row, plain.post(row.speaker.path, b'{"stream": true}', headers), late=True)
        if row.speaker.sdk:
            check_sdk(row, ask_sdk(row, url, headers), late=True)
    assert after.calls() == len(SHUT_DOWN)


def first_call(row: Row, stage: Stage, key: str, turn: Turn) -> Ended | Reply:
    url, headers = stage.url(row), {"Idempotency-Key": row.speaker.name, "X-Row": key}
    if row.speaker.sdk:
        return ask_sdk(row, url, headers, turn)
    with plain_caller(row, url) as plain:
        return ask_plain(row, url, plain, headers, turn)
