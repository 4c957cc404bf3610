"""Filesystem stores as tests make them, and looks at their files from outside."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from resumestream.model import Lease, NewStream, Outcome, Seal, StreamId
from resumestream.policy import Policy
from resumestream.stores import FileStore
from resumestream.stores.files.disk import Disk

SEAL = Seal(Outcome.COMPLETED, "end", "The provider finished.")


def server(directory: Path, *, disk: Disk | None = None, **policy: Any) -> FileStore:
    return FileStore(directory, policy=Policy(**policy), serving=True, disk=disk)


def offline(directory: Path) -> FileStore:
    return FileStore(directory, policy=Policy(), serving=False)


async def stream(store: FileStore, *parts: bytes) -> Lease:
    """A live one."""
    name = StreamId(secrets.token_urlsafe(16))
    lease = await store.create(NewStream(name, "p", "u", "w", store.now(), 60, 60))
    at = 0
    for part in parts:
        at = await store.append(lease, at, part, 1)
    return lease


async def whole(store: FileStore, id_: StreamId, most: int = 1 << 20) -> bytes:
    payload = b""
    while data := await store.read(id_, len(payload), most):
        payload += data
    return payload


def files(directory: Path, kind: str) -> list[Path]:
    return sorted(directory.rglob(f"*.{kind}"))
