"""What the filesystem store does with what has ended, was purged, or is in the way; and where its files are."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import anyio
import pytest

from resumestream.errors import ConfigError, StoreError, StoreUnusable, StreamGone
from resumestream.model import Gone
from resumestream.policy import Policy
from resumestream.stores import FileStore, open_store
from resumestream.stores.files import log, packs

from .filesystem_files import SEAL, files, offline, server, stream, whole

LIMIT_S = 30


def secret(name: bytes, size: int = 3000) -> list[bytes]:
    """Incompressible, so that it is found in a pack as well."""
    chance = random.Random(name)
    return [b"<" + name + b">" + chance.randbytes(100) for _ in range(size // 100)]


def found(directory: Path, name: bytes) -> list[str]:
    return [
        file.name for kind in ("seg", "pack") for file in files(directory, kind) if b"<" + name in file.read_bytes()
    ]


@pytest.mark.anyio
async def test_what_has_ended_moves_to_packs(tmp_path: Path) -> None:
    """The segment goes with the last stream that is in it, and every offset reads as before."""
    payload = secret(b"a")
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, server(tmp_path) as other:
            ended, live = await stream(store, *payload), await stream(store, *payload)
            await store.seal(ended, SEAL)
            await store.tidy()
            assert files(tmp_path, "seg")
            await store.seal(live, SEAL)
            await store.tidy()
            assert files(tmp_path, "seg") == []
            for reader in (store, other):
                for lease in (ended, live):
                    assert await whole(reader, lease.stream, 999) == b"".join(payload)
                    assert await reader.read(lease.stream, 777, 50) == b"".join(payload)[777:827]
            again = await stream(store, b"goes on in another segment")
            assert await whole(other, again.stream) == b"goes on in another segment"


@pytest.mark.anyio
@pytest.mark.parametrize("packed", [True, False])
async def test_what_was_purged_leaves_the_disk(tmp_path: Path, packed: bool) -> None:
    """Overwritten where it lies among others' payload, which stays, also for who scans it anew."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            doomed = await stream(store, *secret(b"doomed"))
            live = await stream(store, *secret(b"live"))
            await store.seal(doomed, SEAL)
            if packed:
                await store.tidy()
            await store.purge(doomed.stream, Gone.DELETED)
            with pytest.raises(StreamGone):
                await store.read(doomed.stream, 0, 1)
            await store.tidy()
            assert found(tmp_path, b"doomed") == []
            assert found(tmp_path, b"live")
            assert await store.verify() == []
            async with server(tmp_path) as other:
                assert await whole(other, live.stream) == b"".join(secret(b"live"))
                taken = await other.acquire(live.stream, "taker", after=1)
                assert (await other.seal(taken, SEAL)).tail == len(b"".join(secret(b"live")))


@pytest.mark.anyio
async def test_what_a_dead_worker_left_is_packed_and_removed(tmp_path: Path) -> None:
    """By whoever serves next; its folder goes too."""
    payload = secret(b"a")
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            lease = await stream(store, *payload)
        async with server(tmp_path) as store:
            assert await store.append(lease, sum(map(len, payload)), b"more") == sum(map(len, payload)) + 4
            await store.tidy()
            assert len(files(tmp_path, "seg")) == 1
            assert len(list((tmp_path / "segments").iterdir())) == 1
            assert await whole(store, lease.stream) == b"".join(payload) + b"more"
            await store.seal(lease, SEAL)
            await store.tidy()
            assert files(tmp_path, "seg") == []
            assert await whole(store, lease.stream) == b"".join(payload) + b"more"


@pytest.mark.anyio
async def test_a_slow_stream_does_not_keep_old_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on in the present one; readers that know the old one follow."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 4000)
    now = [1000.0]
    with anyio.fail_after(LIMIT_S):
        async with (
            FileStore(tmp_path, policy=Policy(relocate_s=10), serving=True, clock=lambda: now[0]) as store,
            server(tmp_path) as other,
        ):
            slow = await stream(store, *secret(b"slow", 1000))
            payload = b"".join(secret(b"slow", 1000))
            assert await whole(other, slow.stream) == payload
            quick = await stream(store, *secret(b"quick", 9000))
            await store.seal(quick, SEAL)
            await store.tidy()
            assert found(tmp_path, b"slow") == ["00000001.seg"]
            now[0] += 5
            await store.tidy()
            assert "00000001.seg" not in [file.name for file in files(tmp_path, "seg")]
            for reader in (store, other):
                assert await whole(reader, slow.stream, 300) == payload
            assert (await other.stat(slow.stream)).events == 10
            assert await store.append(slow, len(payload), b"more", 1) == len(payload) + 4
            for reader in (store, other):
                assert await whole(reader, slow.stream, 300) == payload + b"more"
            assert await store.verify(slow.stream) == await store.verify() == []
            assert (await store.seal(slow, SEAL)).events == 11
            await store.tidy()
            assert files(tmp_path, "seg") == []
            assert await whole(other, slow.stream) == payload + b"more"


@pytest.mark.anyio
async def test_packs_under_half_live_are_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of them moves, readable all the time."""
    monkeypatch.setattr(packs, "PACK_BYTES", 5000)
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, server(tmp_path) as other:
            leases = [await stream(store, *secret(b"%d" % number)) for number in range(6)]
            for lease in leases:
                await store.seal(lease, SEAL)
                await store.tidy()
            before = files(tmp_path, "pack")
            assert len(before) == 3
            for lease in leases[:3]:
                await store.purge(lease.stream, Gone.DELETED)
            await store.tidy()
            after = files(tmp_path, "pack")
            assert before[:] != after
            assert sum(file.stat().st_size for file in after) <= 3 * 3300 + 3300
            for number, lease in enumerate(leases[3:], 3):
                assert await whole(other, lease.stream) == b"".join(secret(b"%d" % number))
            assert await store.verify() == []


@pytest.mark.anyio
async def test_a_pack_that_nothing_names_goes(tmp_path: Path) -> None:
    """Its writer died before its rows came. That is no damage, and not kept for ever: an erased stream may be in it."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            ended = await stream(store, *secret(b"a"))
            await store.seal(ended, SEAL)
            await store.tidy()
            [pack] = files(tmp_path, "pack")
            old, young = pack.with_name("0" * 32 + ".pack"), pack.with_name("1" * 32 + ".pack")
            old.touch()
            os.utime(old, (0, 0))
            young.touch()
            assert await store.verify() == []
            await store.tidy()
            assert not old.exists()
            assert young.exists()
            assert await whole(store, ended.stream) == b"".join(secret(b"a"))


@pytest.mark.anyio
async def test_missing_files_are_reported(tmp_path: Path) -> None:
    """`verify` names what the catalog names and is not there."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            ended = await stream(store, *secret(b"a"))
            await store.seal(ended, SEAL)
            await store.tidy()
            await stream(store, b"payload")
        [pack], [segment] = files(tmp_path, "pack"), files(tmp_path, "seg")
        pack.unlink()
        segment.unlink()
        async with offline(tmp_path) as store:
            wrong = " ".join(await store.verify())
            assert f"{pack.name} is missing" in wrong
            assert f"{segment.name} is missing" in wrong
            with pytest.raises(StoreError, match="damaged"):
                await whole(store, ended.stream)
            assert await store.verify(ended.stream)


@pytest.mark.anyio
async def test_a_delete_from_outside_is_a_forced_takeover(tmp_path: Path) -> None:
    """A handle that does not serve fences the owner off, ends the stream and drops it."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, offline(tmp_path) as other:
            lease = await stream(store, b"payload")
            taken = await other.acquire(lease.stream, "cli", after=1)
            assert (await other.seal(taken, SEAL)).tail == 7
            assert (await other.purge(lease.stream, Gone.DELETED)).tail == 7
            with pytest.raises(StoreError):
                await store.append(lease, 7, b"late")
        async with server(tmp_path) as store:
            await store.tidy()
            assert files(tmp_path, "seg") == []


@pytest.mark.anyio
@pytest.mark.parametrize("umask", [0, 0o077])
async def test_files_are_private_and_named_by_us(tmp_path: Path, umask: int) -> None:
    """0600 in 0700 whatever the umask."""
    directory = tmp_path / "made"
    before = os.umask(umask)
    try:
        with anyio.fail_after(LIMIT_S):
            async with server(directory) as store:
                lease = await stream(store, b"payload")
                await store.seal(await stream(store, b"payload"), SEAL)
                await store.tidy()
                modes = {file: file.stat().st_mode for file in (directory, *directory.rglob("*"))}
    finally:
        os.umask(before)
    for file, mode in modes.items():
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), file
        assert lease.stream not in file.name


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["segments", "packs"])
async def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    """Neither of directories nor of files."""
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere")
    with anyio.fail_after(LIMIT_S), pytest.raises((StoreUnusable, StoreError)):
        await server(tmp_path / "store").__aenter__()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("text", ["file:made", "file:///{tmp}/made"])
def test_urls_name_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Absolute and relative."""
    monkeypatch.chdir(tmp_path)
    store = open_store(text.format(tmp=str(tmp_path)[1:]), policy=Policy(), serving=True)
    assert isinstance(store, FileStore)
    assert store.location == str(tmp_path / "made")


@pytest.mark.parametrize("text", ["file:", "file://host/path"])
def test_other_urls_are_refused(text: str) -> None:
    """No hosts, no empty names."""
    with pytest.raises(ConfigError):
        open_store(text, policy=Policy(), serving=True)


@pytest.mark.anyio
async def test_a_lost_catalog_is_not_made_anew(tmp_path: Path) -> None:
    """It would forget what was paid for, and leave the payload lying about."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store:
            await stream(store, b"payload")
            place = Path(store.location)
        catalog = place / "catalog.db"
        catalog.rename(place / "elsewhere.db")
        for _ in range(2):
            with pytest.raises(StoreUnusable, match=r"has payload and no catalog\.db"):
                await server(tmp_path).__aenter__()
        catalog.symlink_to(place / "elsewhere.db")
        with pytest.raises(StoreUnusable, match="is a link"):
            await server(tmp_path).__aenter__()
        catalog.unlink()
        (place / "elsewhere.db").rename(catalog)
        async with server(tmp_path) as store:
            assert len(await store.unsealed()) == 1
