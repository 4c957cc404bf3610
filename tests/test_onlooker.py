"""Peers as a process sees them that serves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from resumestream.model import StreamId
from resumestream.stores.peers import FilePeers, Onlooker

DEADLINE_S = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FilePeers]:
    peers = FilePeers(tmp_path / "peers", lease_s=10)
    peers.open()
    try:
        yield peers
    finally:
        peers.close()


@pytest.fixture
def onlooker(tmp_path: Path) -> Onlooker:
    return Onlooker(tmp_path / "peers")


def test_nobody_serves(onlooker: Onlooker, tmp_path: Path) -> None:
    """Where no server ever was, everybody is lost, and looking makes nothing."""
    assert onlooker.alone()
    assert onlooker.lost("abcdefghijkl")
    assert onlooker.clock_start is None
    onlooker.tell("abcdefghijkl")
    assert list(tmp_path.iterdir()) == []


def test_who_lives(server: FilePeers, onlooker: Onlooker, tmp_path: Path) -> None:
    """The server does, silent or not; whoever is unknown does not; the onlooker shows up nowhere."""
    before = sorted(path.name for path in (tmp_path / "peers").iterdir())
    assert not onlooker.alone()
    assert not onlooker.lost(server.me)
    assert not onlooker.lost(onlooker.me)
    assert onlooker.lost("abcdefghijkl")
    assert onlooker.lost("../escape")
    assert onlooker.clock_start is None
    server.publish_clock(12.5)
    assert onlooker.clock_start == 12.5
    assert server.alone()
    assert sorted(path.name for path in (tmp_path / "peers").iterdir()) == before


def test_who_has_left(tmp_path: Path) -> None:
    """A server that closed is lost, and so is one whose page stayed behind without its lock."""
    directory = tmp_path / "peers"
    peers, onlooker = FilePeers(directory, lease_s=10), Onlooker(directory)
    peers.open()
    page = (directory / f"{peers.me}.page").read_bytes()
    peers.close()
    assert onlooker.lost(peers.me)
    (directory / f"{peers.me}.page").write_bytes(page)
    assert onlooker.lost(peers.me)
    assert onlooker.alone()
    assert onlooker.clock_start is None


class Looks:
    def __init__(self) -> None:
        self.asked = anyio.Event()

    def look(self) -> None:
        self.asked.set()

    def followed(self, stream: StreamId, by: str) -> None: ...

    def left(self, stream: StreamId, by: str) -> None: ...


@pytest.mark.anyio
async def test_a_server_is_told(server: FilePeers, onlooker: Onlooker) -> None:
    """It looks at its streams at once."""
    duties = Looks()
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, duties)
            onlooker.tell(server.me)
            await duties.asked.wait()
            tasks.cancel_scope.cancel()
