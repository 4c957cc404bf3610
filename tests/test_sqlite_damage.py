"""Damage at rest: found wherever it is, told with its place, never served as data, and no harm to other streams."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from resumestream.errors import StoreError
from resumestream.model import Attempt, Gone, Head, NewStream, Outcome, Query, StreamId
from resumestream.stores import _rows
from resumestream.stores._frame import FRAME_BYTES
from resumestream.stores._slices import SLICE_BYTES

from .sqlite_files import SEAL, offline, server, stream, whole

PARTS = [b"one " * 50, random.Random(1).randbytes(3 * SLICE_BYTES), b"three " * 90_000]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "streams.db"


def change(path: Path, sql: str) -> None:
    conn = sqlite3.connect(path)
    with conn:
        assert conn.execute(sql).rowcount
    conn.close()


async def recorded(path: Path, *, packed: bool) -> bytes:
    """A store with a good stream and one to be damaged; its payload."""
    async with server(path) as store:
        for name in ("good", "bad"):
            lease = await stream(store, name, *PARTS)
            if packed:
                await store.seal(lease, SEAL)
        await store.tidy()
    return b"".join(PARTS)


BAD = "stream = (SELECT row FROM stream WHERE id = 'bad')"
CHUNK = f"row = (SELECT row FROM slice WHERE {BAD} AND at = 200)"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("packed", "sql"),
    [
        (False, f"UPDATE chunk SET data = zeroblob(length(data)) WHERE {CHUNK}"),
        (False, f"UPDATE chunk SET data = substr(data, 1, length(data) - 1) WHERE {CHUNK}"),
        (False, f"DELETE FROM chunk WHERE {CHUNK}"),
        (False, f"UPDATE slice SET pos = pos + 1 WHERE {BAD} AND at = 200"),
        (False, f"UPDATE slice SET pos = 1 << 40 WHERE {BAD} AND at = 200"),
        (False, f"UPDATE slice SET row = row - 1 WHERE {BAD} AND at = 200"),
        (False, f"UPDATE slice SET sum = sum + 1 WHERE {BAD} AND at = 200"),
        (False, f"UPDATE slice SET length = length - 1 WHERE {BAD} AND at = 200"),
        (False, f"DELETE FROM slice WHERE {BAD} AND at = 200"),
        (True, f"UPDATE frame SET data = zeroblob(length(data)) WHERE {BAD} AND at = 0"),
        (True, f"UPDATE frame SET data = substr(data, 1, length(data) - 1) WHERE {BAD} AND at = 0"),
        (True, f"UPDATE frame SET length = length - 1 WHERE {BAD} AND at = 0"),
        (True, f"UPDATE frame SET sum = sum + 1 WHERE {BAD} AND at = 0"),
        (True, f"DELETE FROM frame WHERE {BAD} AND at = 0"),
    ],
)
async def test_damaged_payload_is_never_data(path: Path, packed: bool, sql: str) -> None:
    """A read in the damaged piece says so with offsets, any other gives the right bytes, and `verify` finds it."""
    payload = await recorded(path, packed=packed)
    change(path, sql)
    async with offline(path) as store:
        assert await whole(store, "good") == payload
        assert await store.verify(StreamId("good")) == []
        failed = list[str]()
        for at in range(0, len(payload), 10_000):
            try:
                data = await store.read(StreamId("bad"), at, 20_000)
                assert data
                assert data == payload[at : at + len(data)]
            except StoreError as error:
                failed.append(error.message)
        assert failed
        assert all("is damaged at offsets" in message for message in failed)
        found = await store.verify(StreamId("bad"))
        assert found
        assert all("is damaged at offsets" in sentence for sentence in found)
        assert len(payload) > 2 * FRAME_BYTES
        assert await store.read(StreamId("bad"), 2 * FRAME_BYTES, 10) == payload[2 * FRAME_BYTES :][:10]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE stream SET tail = tail - 1 WHERE id = 'bad'",
        "UPDATE stream SET principal = 'q' WHERE id = 'bad'",
        "UPDATE stream SET sum = 1 WHERE id = 'bad'",
        "UPDATE stream SET sealed_at = NULL WHERE id = 'bad'",
        "UPDATE stream SET record = replace(record, 'completed', 'cancelled') WHERE id = 'bad'",
        "UPDATE stream SET record = substr(record, 2) WHERE id = 'bad'",
        "UPDATE stream SET record = CAST(x'ff' || record AS TEXT) WHERE id = 'bad'",
        "UPDATE stream SET worker = x'ff' WHERE id = 'bad'",
    ],
)
async def test_a_damaged_record_hides_no_other(path: Path, sql: str, caplog: pytest.LogCaptureFixture) -> None:
    """Lists leave it out and say so in the log, once; asked for itself it is an error; `verify` names it."""
    await recorded(path, packed=True)
    change(path, sql)
    async with server(path) as store:
        for _ in range(2):
            for listed in (await store.find(Query(limit=1)), await store.oldest(1)):
                assert [info.id for info in listed] == ["good"]
            assert await store.unsealed() == []
        with pytest.raises(StoreError, match="bad is damaged"):
            await store.stat(StreamId("bad"))
        assert "bad is damaged" in (await store.verify(StreamId("bad")))[0]
        assert [sentence for sentence in await store.verify() if "bad is damaged" in sentence]
        assert [info.id for info in await store.find(Query(limit=100))] == ["good"]
        assert len([record for record in caplog.records if "bad is damaged" in record.getMessage()]) == 1
        assert await store.verify(StreamId("good")) == []
        _rows._tell_once.cache_clear()


@pytest.mark.anyio
async def test_a_damaged_record_of_a_live_stream(path: Path) -> None:
    """It has no sum, but what cannot be read hides no other either."""
    await recorded(path, packed=False)
    change(path, "UPDATE stream SET record = substr(record, 2) WHERE id = 'bad'")
    async with server(path) as store:
        assert [info.id for info in await store.unsealed()] == ["good"]
        with pytest.raises(StoreError, match="damaged"):
            await store.stat(StreamId("bad"))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("INSERT INTO slice VALUES (99, 0, 1, 0, 1, 0)", "belong to no stream"),
        ("INSERT INTO frame (stream, at, length, sum, data) VALUES (99, 0, 1, 0, x'00')", "belong to no stream"),
        ("INSERT INTO chunk VALUES (99, x'00')", "have no slice"),
        (f"UPDATE frame SET at = at + 1 WHERE {BAD} AND at > 0", "overlap, or leave bytes out"),
        (f"UPDATE frame SET length = 1 << 40 WHERE {BAD} AND at = (SELECT max(at) FROM frame)", "beyond their end"),
        ("UPDATE kept SET payload_bytes = payload_bytes + 1", "counted wrongly"),
        ("INSERT INTO kept VALUES ('nobody', 5)", "counted wrongly"),
        ("INSERT INTO binding VALUES ('k', 'nowhere', '', '[]')", "mean a stream that is not there"),
        ("INSERT INTO label VALUES ('l', 99)", "are of no stream"),
    ],
)
async def test_verify_finds_what_does_not_fit(path: Path, sql: str, says: str) -> None:
    """In a whole store there is nothing to tell; one wrong row is told."""
    await recorded(path, packed=True)
    async with offline(path) as store:
        assert await store.verify() == []
    change(path, sql)
    async with offline(path) as store:
        assert any(says in sentence for sentence in await store.verify())


@pytest.mark.anyio
async def test_verify_finds_a_broken_page(path: Path) -> None:
    """SQLite's own check is part of it, and a store that is damaged below its tables still opens."""
    await recorded(path, packed=True)
    conn = sqlite3.connect(path)
    (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'frame_of_stream'").fetchone()
    conn.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    async with offline(path) as store:
        assert await store.verify()


@pytest.mark.anyio
async def test_a_sum_holds_for_every_value(path: Path) -> None:
    """Whatever a record is made of: whole numbers where others have fractions, nothing, signs of all scripts."""
    news = [
        NewStream(StreamId("s0"), "p", "u", "w", 0, 60, 60),
        NewStream(StreamId("s1"), "p\x00\"'ä𝄞", "u", "w", 0.1, 1e300, float("inf"), key="k", labels=("é", "")),
        NewStream(StreamId("s2"), "p", "", "", 1 << 53, 0, 0, previous=StreamId("s0")),
    ]
    async with server(path) as store:
        for new in news:
            lease = await store.create(new)
            await store.begin(lease, Attempt("u", 5, None, "ÿ"), Head(200, (("a", "ÿ"),)))
            await store.append(lease, 0, b"x", 1)
            await store.request_cancel(new.id)
            await store.seal(lease, replace(SEAL, released=True, retry_at=7, outcome=Outcome.TRUNCATED, message="ÿ\n"))
            info = await store.stat(new.id)
            assert info.new == new
            await store.purge(new.id, Gone.DELETED)
            assert (await store.stat(new.id)).gone is Gone.DELETED
        assert await store.verify() == []


@pytest.mark.anyio
async def test_packing_keeps_every_byte_readable(path: Path) -> None:
    """Of a stream of many small slices and some large, at every step of packing, from any offset."""
    noise = random.Random(3)
    parts = [noise.randbytes(noise.choice((1, 40, 300))) for _ in range(3000)] + PARTS
    payload = b"".join(parts)
    async with server(path) as store:
        lease, at = await stream(store, "s"), 0
        for start in range(0, len(parts), 50):
            async with anyio.create_task_group() as tasks:  # so that one commit holds many slices
                for part in parts[start : start + 50]:
                    tasks.start_soon(store.append, lease, at, part)
                    await anyio.lowlevel.checkpoint()  # in this order
                    at += len(part)
        assert await store.verify(lease.stream) == []
        await store.seal(lease, SEAL)
        more = True
        while more:
            more = await store._entered().keep()
            for at in [*range(0, len(payload), 50_000), len(payload) - 1]:
                data = await store.read(lease.stream, at, 70_000)
                assert data
                assert data == payload[at : at + len(data)]
        assert await store.verify(lease.stream) == await store.verify() == []
        assert await store.read(lease.stream, len(payload), 1) == b""
