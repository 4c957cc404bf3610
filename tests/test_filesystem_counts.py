"""What the filesystem store tells of live streams that other processes drain."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from .filesystem_files import SEAL, files, server, stream

LIMIT_S = 20


@pytest.mark.anyio
async def test_each_byte_is_kept_once(tmp_path: Path) -> None:
    """Whoever drains it, whoever drained it before, and whoever is asked, of one principal or of all."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, server(tmp_path) as other:
            lease = await stream(store, b"x" * 1000)
            await stream(other, b"y" * 10)

            async def kept() -> set[int]:
                return {(await one.kept(of)).payload_bytes for one in (store, other) for of in (None, "p")}

            assert await kept() == {1010}
            taken = await other.acquire(lease.stream, "taker", after=1)
            assert await kept() == {1010}
            await other.append(taken, 1000, b"more")
            assert await kept() == {1014}
            await other.seal(taken, SEAL)
            assert await kept() == {1014}
            assert (await store.kept("somebody else")).payload_bytes == 0
            async with server(tmp_path) as third:
                await third.acquire((await third.unsealed())[0].id, "taker", after=1)
                assert await kept() == {1014}


@pytest.mark.anyio
async def test_verify_reads_a_live_stream_to_its_end(tmp_path: Path) -> None:
    """Also what its owner has not put into the catalog."""
    with anyio.fail_after(LIMIT_S):
        async with server(tmp_path) as store, server(tmp_path) as other:
            lease = await stream(store, b"good", b"damaged")
            for reader in (store, other):
                assert await reader.verify(lease.stream) == []
            [segment] = files(tmp_path, "seg")
            data = bytearray(segment.read_bytes())
            data[-1] ^= 1
            segment.write_bytes(data)
            for reader in (store, other):
                assert await reader.verify(lease.stream)
