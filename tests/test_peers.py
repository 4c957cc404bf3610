"""What processes that serve one store show each other in its directory, and what that proves."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resumestream.errors import StoreUnusable
from resumestream.ports import Peers
from resumestream.stores.lock import lock
from resumestream.stores.peers import Alone, FilePeers, boot_id, refuse_network
from resumestream.stores.peers.page import Page

from .peering import Worker, opened

UNKNOWN = "A" * 12
LEASE_S = 9.0


class Clock:
    """Monotonic time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Taker:
    """Observes a directory in steps of its own time."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.peers = FilePeers(directory, lease_s=LEASE_S, monotonic=self.clock)
        self.peers.open()

    def observe(self, times: int = 1, step: float = LEASE_S / 3) -> None:
        for _ in range(times):
            self.clock.now += step
            self.peers.observe()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "peers"


def until(true: Callable[[], bool]) -> None:
    """Polls: another process cannot set an event here."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def beats(peers: FilePeers, worker: str) -> int:
    page = peers.page_of(worker)
    assert page
    return page.get("beats")


# --- who lives -------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_lost_at_once(directory: Path) -> None:
    with opened(directory) as peers, Worker(directory) as worker:
        assert not peers.lost(worker.me)
        assert not peers.alone()
        worker.kill()
        assert peers.lost(worker.me)
        assert peers.alone()
        assert peers.workers() == [worker.me]
        peers.bury(worker.me)
        peers.bury(worker.me)
        assert peers.workers() == []
        assert sorted(os.listdir(directory)) == [f"{peers.me}.page", f"{peers.me}.sock"]
        assert peers.lost(worker.me)
        assert peers.page_of(worker.me) is None


def test_a_worker_that_left_is_lost_and_leaves_nothing(directory: Path) -> None:
    with opened(directory) as peers:
        with opened(directory) as other:
            assert not peers.lost(other.me)
        assert peers.lost(other.me)
        assert peers.alone()
        assert peers.workers() == []


def test_nobody_takes_itself_over(directory: Path) -> None:
    with opened(directory) as peers:
        assert not peers.lost(peers.me)
        peers.bury(peers.me)
        own = peers.page_of(peers.me)
        assert own is peers.page
        assert own.alive
        with opened(directory) as other:
            assert not other.lost(peers.me)
    alone = Alone()
    assert not alone.lost(alone.me)


@pytest.mark.parametrize("worker", [UNKNOWN, "", "..", "../../../../etc/passwd", f"{UNKNOWN}\n"])
def test_an_unknown_worker_is_lost(directory: Path, worker: str) -> None:
    with opened(directory) as peers:
        assert peers.lost(worker)
        peers.bury(worker)
        peers.tell(worker)
        assert peers.page_of(worker) is None


def test_no_name_leads_out_of_the_directory(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.page"
    elsewhere.write_bytes(bytes(4096))
    with opened(directory) as peers, elsewhere.open("rb+") as file:
        lock(file.fileno())
        assert peers.lost("../elsewhere")
        peers.bury("../elsewhere")
    assert elsewhere.exists()


def test_a_frozen_worker_is_lost_by_the_lease_alone(directory: Path) -> None:
    taker = Taker(directory)
    with Worker(directory, lease_s=LEASE_S) as worker:
        until(lambda: beats(taker.peers, worker.me) > 0)
        worker.signal(signal.SIGSTOP)
        taker.observe(3)
        assert not taker.peers.lost(worker.me)
        taker.observe()
        assert taker.peers.lost(worker.me)
        taker.peers.bury(worker.me)
        assert taker.peers.page_of(worker.me), "nobody is buried alive"

        frozen_at = beats(taker.peers, worker.me)
        worker.signal(signal.SIGCONT)
        until(lambda: beats(taker.peers, worker.me) != frozen_at)
        assert not taker.peers.lost(worker.me), "its counter is read again"
    taker.peers.close()


def test_a_worker_that_thaws_in_time_is_not_lost(directory: Path) -> None:
    taker = Taker(directory)
    with Worker(directory, lease_s=LEASE_S) as worker:
        worker.signal(signal.SIGSTOP)
        taker.observe(3)
        seen = beats(taker.peers, worker.me)
        worker.signal(signal.SIGCONT)
        until(lambda: beats(taker.peers, worker.me) != seen)
        worker.signal(signal.SIGSTOP)
        taker.observe(3)
        assert not taker.peers.lost(worker.me)
    taker.peers.close()


def test_a_taker_that_was_away_starts_over(directory: Path) -> None:
    taker = Taker(directory)
    with opened(directory, lease_s=LEASE_S) as silent:
        taker.observe(3)
        taker.observe(1, step=LEASE_S * 100)
        assert not taker.peers.lost(silent.me)
        taker.observe(3)
        assert taker.peers.lost(silent.me)
    taker.peers.close()


@pytest.mark.parametrize("lease_s", [LEASE_S / 3, LEASE_S * 3])
def test_the_longer_of_two_leases_holds(directory: Path, lease_s: float) -> None:
    taker = Taker(directory)
    with opened(directory, lease_s=lease_s) as silent:
        looks = 0
        while not taker.peers.lost(silent.me):
            taker.observe()
            looks += 1
        assert (looks - 1) * LEASE_S / 3 == max(LEASE_S, lease_s)
    taker.peers.close()


def test_what_cannot_be_seen_proves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of file descriptors, say."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with opened(directory) as peers, opened(directory) as other:
        monkeypatch.setattr(Page, "open", fails)
        assert not peers.lost(other.me)
        assert not peers.alone()
        assert peers.page_of(other.me) is None
        monkeypatch.setattr(os, "listdir", fails)
        peers.observe()
        assert not peers.alone()


def test_what_is_no_page_of_ours_proves_nothing(directory: Path, tmp_path: Path) -> None:
    """A link, a short file; and a page of another version while its lock is held."""
    with opened(directory) as peers:
        (directory / ("L" * 12 + ".page")).symlink_to(tmp_path / "x")
        (directory / ("S" * 12 + ".page")).write_bytes(b"short")
        newer = directory / ("N" * 12 + ".page")
        newer.write_bytes(b"\x02" * 4096)
        with newer.open("rb+") as file:
            lock(file.fileno())
            peers.observe()
            for name in "LSN":
                assert not peers.lost(name * 12)
                assert peers.page_of(name * 12) is None
            assert not peers.alone()
        assert peers.lost("N" * 12)


def test_no_page_is_ever_seen_without_its_lock(directory: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            with opened(directory):
                pass

    with opened(directory) as peers:
        threads = [threading.Thread(target=come_and_go) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(300):
                for worker in peers.workers():
                    if peers.lost(worker):
                        assert worker not in peers.workers()
                peers.observe()
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_drafts_of_dead_starters_are_swept(directory: Path) -> None:
    directory.mkdir()
    dead, made = directory / ("D" * 12 + ".new"), directory / ("M" * 12 + ".new")
    dead.touch()
    with made.open("w") as file:
        lock(file.fileno())
        with opened(directory):
            assert not dead.exists()
            assert made.exists()


# --- the page --------------------------------------------------------------------------------------------------------


def test_words_cross_processes(directory: Path) -> None:
    with opened(directory) as peers, opened(directory) as other:
        there = peers.page_of(other.me)
        assert there
        other.page.set("mark_segment", 7)
        other.page.set("mark_position", 2**64 - 1)
        assert (there.get("mark_segment"), there.get("mark_position")) == (7, 2**64 - 1)
        assert there.get("boot") == boot_id() != 0
        assert there.lease_s == 60
        there.set("fences", 12345678901234567890)
        assert other.page.get("fences") == 12345678901234567890
        assert other.page.get("mark_segment") == 7


def test_a_starting_worker_adopts_the_clock_of_a_living_one(directory: Path) -> None:
    with opened(directory) as first:
        assert first.clock_start is None
        with opened(directory) as second:
            assert second.clock_start is None
            first.publish_clock(-12.5)
            assert second.clock_start == -12.5
            assert first.clock_start is None, "there is no other to adopt one from"
    with opened(directory) as third:
        assert third.clock_start is None


def test_each_opening_is_another_incarnation(directory: Path) -> None:
    peers = FilePeers(directory, lease_s=1)
    seen = set()
    for _ in range(3):
        peers.open()
        seen.add(peers.me)
        peers.close()
    assert len(seen) == 3
    assert os.listdir(directory) == []


def test_nothing_stays_open(directory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with opened(directory) as peers, opened(directory) as other:
        peers.observe()
        assert not other.lost(peers.me)
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_left_costs_nothing(directory: Path) -> None:
    with opened(directory) as peers:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with opened(directory):
                peers.observe()
        peers.observe()
        assert len(os.listdir("/proc/self/fd")) == before


# --- the directory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o777])
def test_only_this_user_gets_in(directory: Path, umask: int) -> None:
    directory.mkdir(mode=0o755)
    umask = os.umask(umask)
    try:
        with opened(directory):
            modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    finally:
        os.umask(umask)
    assert modes == {"": 0o700, ".page": 0o600, ".sock": 0o600}


def test_nothing_is_inherited(directory: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with opened(directory):
        ours = {int(fd) for fd in os.listdir("/proc/self/fd") if fd not in before and os.path.exists(f"/dev/fd/{fd}")}
        assert len(ours) >= 3
        assert not any(map(os.get_inheritable, ours))


def test_a_directory_of_somebody_else_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreUnusable, match="belongs to user"):
        FilePeers(directory, lease_s=1).open()


@pytest.mark.parametrize("make", ["link", "dangling", "file", "nowhere"])
def test_what_is_no_directory_of_ours_is_refused(directory: Path, tmp_path: Path, make: str) -> None:
    match make:
        case "link":
            (tmp_path / "elsewhere").mkdir()
            directory.symlink_to(tmp_path / "elsewhere")
        case "dangling":
            directory.symlink_to(tmp_path / "elsewhere")
        case "file":
            directory.touch()
        case "nowhere":
            directory /= "below"
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreUnusable, match="cannot be used as a directory"):
        FilePeers(directory, lease_s=1).open()
    assert len(os.listdir("/proc/self/fd")) == before


MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /mnt/team\\040share rw,relatime shared:5 master:1 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /mnt/team\\040share/local rw - tmpfs tmpfs rw
32 27 0:42 / /mnt/ssh rw - fuse.sshfs host:/ rw
33 27 0:43 / /mnt/fuse rw - fuse.ntfs-3g /dev/sdb rw
34 27 0:44 / /mnt/twice rw - cifs //server/x rw
35 34 0:45 / /mnt/twice rw - xfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/team share/store", "nfs4"),
        ("/mnt/team share", "nfs4"),
        ("/mnt/ssh/a/b/c", "fuse.sshfs"),
        ("/mnt/team share/local/store", None),
        ("/mnt/team shared", None),
        ("/mnt/fuse/store", None),
        ("/mnt/twice/store", None),
        ("/srv/store", None),
    ],
)
def test_network_file_systems_are_refused(tmp_path: Path, path: str, kind: str | None) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    if kind is None:
        refuse_network(Path(path), mounts=mounts)
        return
    with pytest.raises(StoreUnusable) as refused:
        refuse_network(Path(path), mounts=mounts)
    assert path in refused.value.message
    assert kind in refused.value.message
    assert "local disk" in refused.value.message


def test_where_mounts_are_not_told_nothing_is_refused(tmp_path: Path) -> None:
    refuse_network(tmp_path, mounts=tmp_path / "none")
    refuse_network(tmp_path)


def test_who_is_alone_has_no_peers() -> None:
    peers: Peers = Alone()
    assert peers.alone()
    assert peers.lost(UNKNOWN)
    assert peers.me != Alone().me
    peers.beat()
    peers.observe()
    peers.bury(UNKNOWN)
    peers.tell(UNKNOWN)
