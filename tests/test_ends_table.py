"""Every way to end in every dialect: what is kept, what the SDK raises, what who comes later gets, and that nothing cut
short ever looks complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from resumestream import Policy, ResumeStream
from resumestream.testing import running

from .clients.plain import Plain, Reply
from .clients.sdks import SDK_WARNINGS
from .clients.served import UPSTREAMS
from .ends import Row, rows, shut_down
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
from .ends_stage import POLICY, Stage, provider, staged
from .scripted_peer import DEADLINE_S, listening
from .speakers import SPEAKERS

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


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
