"""Processes that serve one store wake each other's readers, and know when those leave."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from resumestream.model import StreamId
from resumestream.ports import Following
from resumestream.stores.peers import Alone, FilePeers, files, mailbox
from resumestream.stores.peers.interests import Interests
from resumestream.stores.peers.messages import MAX_BYTES, Kind, Message, decode, messages

from .peering import Said, Worker, opened, running

pytestmark = pytest.mark.anyio

S1, S2 = StreamId("stream-1"), StreamId("stream-2")
NEVER_S = 3600.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "peers"


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datagrams alone."""
    monkeypatch.setattr(files, "POLL_S", NEVER_S)


@asynccontextmanager
async def pair(directory: Path, *, lease_s: float = 60) -> AsyncIterator[tuple[FilePeers, Said, FilePeers]]:
    """One that drains, what it is told, and one that reads; both run."""
    said = Said()
    with opened(directory, lease_s=lease_s) as owner, opened(directory, lease_s=lease_s) as reader:
        async with running(owner, said), running(reader):
            yield owner, said, reader


async def rung(event: anyio.Event) -> None:
    with anyio.fail_after(20):
        await event.wait()


async def heard(following: Following) -> None:
    """Until the owner knows of the reader: it answers a new one."""
    await rung(following.arm())


# --- waking ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_poll")
async def test_a_reader_is_woken_by_a_datagram(directory: Path) -> None:
    async with pair(directory) as (owner, said, reader):
        with reader.follow(S1, owner.me) as one, reader.follow(S2, owner.me) as two:
            await heard(one)
            await said.wait("followed", S2, reader.me)
            await anyio.wait_all_tasks_blocked()
            first, second = one.arm(), two.arm()
            owner.changed(S1)
            await rung(first)
            assert one.arm() is not first
            assert not second.is_set()


@pytest.mark.usefixtures("no_poll")
async def test_opened_and_closed_in_a_thread(directory: Path) -> None:
    """As a store does it: files are not touched on the loop."""
    owner, reader = FilePeers(directory, lease_s=60), FilePeers(directory, lease_s=60)
    for _ in range(2):
        await anyio.to_thread.run_sync(owner.open)
        await anyio.to_thread.run_sync(reader.open)
        async with running(owner), running(reader):
            with reader.follow(S1, owner.me) as one:
                await heard(one)
                event = one.arm()
                owner.changed(S1)
                await rung(event)
        await anyio.to_thread.run_sync(reader.close)
        await anyio.to_thread.run_sync(owner.close)


@pytest.mark.usefixtures("no_poll")
async def test_a_reader_is_woken_across_processes(directory: Path) -> None:
    with opened(directory) as reader, Worker(directory) as owner:
        async with running(reader):
            with reader.follow(S1, owner.me) as one:
                await heard(one)
                for _ in range(20):
                    event = one.arm()
                    owner.do(f"changed {S1}")
                    await rung(event)


@pytest.mark.usefixtures("no_poll")
async def test_a_change_before_the_owner_knew_of_the_reader_is_told(directory: Path) -> None:
    with opened(directory) as owner, opened(directory) as reader:
        async with running(reader):
            with reader.follow(S1, owner.me) as one:
                event = one.arm()
                await anyio.wait_all_tasks_blocked()
                owner.changed(S1)
                async with running(owner):
                    await rung(event)


@pytest.mark.parametrize("deaf", ["owner", "reader", "both"])
async def test_a_reader_is_woken_by_the_poll_alone(directory: Path, monkeypatch: pytest.MonkeyPatch, deaf: str) -> None:
    """Where a socket cannot be had."""
    with monkeypatch.context() as patch:
        patch.setattr(mailbox, "SUN_PATH", 0 if deaf != "reader" else 103)
        owner = FilePeers(directory, lease_s=60)
        owner.open()
        patch.setattr(mailbox, "SUN_PATH", 0 if deaf != "owner" else 103)
        reader = FilePeers(directory, lease_s=60)
        reader.open()
    assert (owner._mailbox.socket is None, reader._mailbox.socket is None) == (deaf != "reader", deaf != "owner")
    async with running(owner), running(reader):
        with reader.follow(S1, owner.me) as one:
            for _ in range(3):
                event = one.arm()
                owner.changed(S1)
                await rung(event)
    owner.close()
    reader.close()


async def test_what_datagrams_tell_is_not_polled(directory: Path) -> None:
    """A busy process would otherwise wake the readers of all its streams twenty times a second."""
    async with pair(directory) as (owner, said, reader):
        with reader.follow(S1, owner.me) as one, reader.follow(S2, owner.me) as two:
            await heard(one)
            await said.wait("followed", S2, reader.me)
            await anyio.wait_all_tasks_blocked()
            event = two.arm()
            for _ in range(3):
                other = one.arm()
                owner.changed(S1)
                await rung(other)
                await anyio.sleep(files.POLL_S * 1.5)
            assert not event.is_set()


async def test_a_takeover_wakes_who_follows_the_one_before(directory: Path) -> None:
    """It is not the taker who was followed, and the owner is frozen."""
    async with pair(directory) as (owner, _, reader):
        with opened(directory) as taker, reader.follow(S1, owner.me) as one:
            await heard(one)
            event = one.arm()
            page = taker.page_of(owner.me)
            assert page
            page.set("fences", 1)
            await rung(event)


async def test_the_death_of_an_owner_wakes_its_readers_until_they_know(directory: Path) -> None:
    with opened(directory) as reader, Worker(directory) as owner:
        async with running(reader):
            with reader.follow(S1, owner.me) as one:
                await heard(one)
                event = one.arm()
                owner.kill()
                await rung(event)
                event = one.arm()
                reader.bury(owner.me)
                await rung(event)


@pytest.mark.parametrize("directory_name", ["x" * 200])
@pytest.mark.usefixtures("no_poll")
async def test_a_path_too_long_for_a_socket(tmp_path: Path, directory_name: str) -> None:
    async with pair(tmp_path / directory_name) as (owner, said, reader):
        with reader.follow(S1, owner.me) as one:
            await heard(one)
            await said.wait("followed", S1, reader.me)


@pytest.mark.usefixtures("no_poll")
async def test_where_descriptors_have_no_names_short_paths_do(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on platforms without /proc."""
    monkeypatch.setattr(mailbox, "DESCRIPTORS", tmp_path / "none")
    monkeypatch.setattr(mailbox, "SUN_PATH", 107)  # what Linux takes: a test's directory may be longer than others do
    async with pair(directory) as (owner, said, reader):
        with reader.follow(S1, owner.me):
            await said.wait("followed", S1, reader.me)


# --- counting readers ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_poll")
async def test_readers_are_counted_where_the_stream_is_drained(directory: Path) -> None:
    async with pair(directory) as (owner, said, reader):
        with reader.follow(S1, owner.me):
            await said.wait("followed", S1, reader.me)
            with reader.follow(S1, owner.me), reader.follow(S2, owner.me):
                await said.wait("followed", S2, reader.me)
            await said.wait("left", S2, reader.me)
            assert ("left", S1, reader.me) not in said.all
        await said.wait("left", S1, reader.me)
        assert len(said.all) == 4


@pytest.mark.usefixtures("no_poll")
async def test_readers_leave_with_their_process(directory: Path) -> None:
    """In good order: what was not said any more is said when it closes."""
    said = Said()
    with opened(directory) as owner:
        async with running(owner, said):
            with opened(directory) as reader, reader.follow(S1, owner.me):
                async with running(reader):
                    await said.wait("followed", S1, reader.me)
            await said.wait("left", S1, reader.me)


@pytest.mark.usefixtures("no_poll")
async def test_a_lost_datagram_is_repaired(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is followed is said again and again."""
    lost = anyio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(mailbox.Mailbox, "send", lambda *_: lost.set())
        async with pair(directory, lease_s=0.6) as (owner, said, reader):
            with reader.follow(S1, owner.me) as one:
                event = one.arm()
                await rung(lost)
                assert said.all == []
                patch.undo()
                await said.wait("followed", S1, reader.me)
                await rung(event)


async def test_interests_die_with_their_process(directory: Path) -> None:
    lease_s, said = 0.6, Said()
    with opened(directory, lease_s=lease_s) as owner, Worker(directory, lease_s=lease_s) as reader:
        async with running(owner, said):
            reader.do(f"follow {S1} {owner.me}")
            await said.wait("followed", S1, reader.me)
            died_at = time.monotonic()
            reader.kill()
            await said.wait("left", S1, reader.me)
            assert time.monotonic() - died_at >= lease_s
            await anyio.sleep(lease_s)
            assert said.all.count(("left", S1, reader.me)) == 1


def test_a_reader_that_is_not_said_any_more_is_missed_for_a_lease() -> None:
    """A lost farewell, a frozen process: from when it should have been said again."""
    interests = Interests()
    assert interests.said("w", S1, 0)
    assert not interests.said("w", S1, 3)
    assert interests.sweep("w", 7.5, lease_s=9, dead=False) == []
    assert interests.sweep("w", 8, lease_s=9, dead=False) == []
    assert interests.sweep("w", 16.9, lease_s=9, dead=False) == []
    assert interests.followers(S1) == {"w"}
    assert interests.sweep("w", 17, lease_s=9, dead=False) == [S1]
    assert interests.sweep("w", 18, lease_s=9, dead=False) == []
    assert (interests.workers(), list(interests.followers(S1))) == ([], [])
    assert not interests.left("w", S1)


def test_a_reader_that_is_said_again_was_never_missing() -> None:
    interests = Interests()
    interests.said("w", S1, 0)
    interests.sweep("w", 8, lease_s=9, dead=False)
    assert not interests.said("w", S1, 16)
    assert interests.sweep("w", 17, lease_s=9, dead=False) == []
    assert interests.sweep("w", 21, lease_s=9, dead=False) == []
    assert interests.sweep("w", 29.9, lease_s=9, dead=False) == []
    assert interests.sweep("w", 30, lease_s=9, dead=False) == [S1]


def test_a_reader_is_missed_from_when_its_death_was_seen() -> None:
    interests = Interests()
    interests.said("w", S1, 0)
    interests.said("w", S2, 0)
    assert interests.sweep("w", 1, lease_s=9, dead=True) == []
    assert interests.sweep("w", 9.9, lease_s=9, dead=True) == []
    assert interests.sweep("w", 10, lease_s=9, dead=True) == [S1, S2]


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_poll")
async def test_a_worker_is_told_to_look(directory: Path) -> None:
    async with pair(directory) as (owner, said, reader):
        reader.tell(owner.me)
        await said.wait("look")


async def test_a_full_queue_loses_nothing(directory: Path) -> None:
    """Ten datagrams fill it; what does not fit is said later."""
    streams = [StreamId(f"{number:024}" * 10) for number in range(1000)]
    said = Said()
    with opened(directory) as owner, opened(directory) as reader:
        async with running(reader):
            with ExitStack() as following:
                for stream in streams:
                    following.enter_context(reader.follow(stream, owner.me))
                await anyio.wait_all_tasks_blocked()
                assert reader._outbox.filled.is_set(), "the test fills no queue"
                async with running(owner, said):
                    for stream in streams:
                        await said.wait("followed", stream, reader.me)


@pytest.mark.usefixtures("no_poll")
async def test_changes_of_one_turn_go_together(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(directory) as (owner, said, reader):
        with reader.follow(S1, owner.me) as one, reader.follow(S2, owner.me) as two:
            await heard(one)
            await said.wait("followed", S2, reader.me)
            await anyio.wait_all_tasks_blocked()
            sent: list[Message] = []
            send = owner._mailbox.send

            def record(worker: str, message: Message) -> None:
                sent.append(message)
                send(worker, message)

            monkeypatch.setattr(owner._mailbox, "send", record)
            events = one.arm(), two.arm()
            for _ in range(100):
                owner.changed(S1)
                owner.changed(S2)
                owner.changed(StreamId("nobody-follows-it"))
            for event in events:
                await rung(event)
            assert sent == [Message(Kind.CHANGED, owner.me, (S1, S2))]


@pytest.mark.usefixtures("no_poll")
async def test_garbage_is_ignored(directory: Path) -> None:
    async with pair(directory) as (owner, said, reader):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            for garbage in (b"", b"\xff" * 100, b"f", b"f../../../..\nx", b"z" + owner.me.encode(), b"\n" * 5000):
                stranger.sendto(garbage, f"/proc/self/fd/{owner._registry.dir_fd}/{owner.me}.sock")
        reader.tell(owner.me)
        await said.wait("look")
        assert said.all == [("look",)]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("length", [1, 24, 255])
def test_messages_survive_the_wire_in_small_datagrams(count: int, length: int) -> None:
    streams = [StreamId(f"{number}".rjust(length, "x")[-length:]) for number in range(count)]
    sent = list(messages(Kind.FOLLOW, "A" * 12, streams))
    wire = [message.encode() for message in sent]
    assert all(len(datagram) <= MAX_BYTES for datagram in wire)
    assert len(wire) <= 1 + sum(map(len, wire)) // (MAX_BYTES - 256)
    assert [decode(datagram) for datagram in wire] == sent
    assert [stream for message in sent for stream in message.streams] == streams


async def test_who_is_alone_waits_for_ever() -> None:
    peers = Alone()
    said = Said()
    async with running(peers, said):
        with peers.follow(S1, "somebody") as one:
            event = one.arm()
            peers.changed(S1)
            peers.tell(peers.me)
            await anyio.wait_all_tasks_blocked()
            assert not event.is_set()
    assert said.all == []
