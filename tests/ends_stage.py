"""The provider of the table of ends, and the gateways before it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from starlette.applications import Starlette

from resumestream import Policy, ResumeStream
from resumestream.testing import running

from .clients.served import UPSTREAMS
from .ends import MAX_EVENT_BYTES, MAX_STREAM_BYTES, Row
from .ends_seen import Turn
from .scripted_peer import DEADLINE_S, Peer, Server, listening

IMPATIENCE_S = 0.4
POLICY: dict[str, Any] = {
    "drain_s": 0,
    "settle_s": 0.2,
    "max_event_bytes": MAX_EVENT_BYTES,
    "max_stream_bytes": MAX_STREAM_BYTES,
}


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
        found = re.search(rb"x-row: (\d+)", peer.read_request())
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


@contextmanager
def staged() -> Iterator[Stage]:
    """All gateways, for the length of a block."""
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
