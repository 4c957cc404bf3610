"""What the checks of a LogStore share."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import OffsetBeyondTail, ResumeStreamError
from ...model import Attempt, Head, Lease, NewStream, Outcome, Seal, StreamId
from ...ports import LogStore

Make = Callable[[], LogStore]
"""A fresh handle, not yet entered, to the same storage each time."""

Check = Callable[[Make, LogStore], Awaitable[None]]
"""Holds a store to one sentence of the contract; the store is one of `Make`'s handles, entered."""

SEAL = Seal(Outcome.COMPLETED, "end", "The provider finished.")


async def reads_are_right(store: LogStore, stream: StreamId, payload: bytes) -> None:
    offsets = [*range(600), *range(4000, len(payload), 997), len(payload) - 1]
    for at in offsets:
        for most in (1, 300, 65_536):
            data = await store.read(stream, at, most)
            assert 1 <= len(data) <= most, f"a read of up to {most} bytes below the tail gave {len(data)}"
            equal(data, payload[at : at + len(data)], f"a read at offset {at} gives the bytes from there")
    equal(await whole(store, stream), payload, "reading on and on gives the whole payload")
    equal(await store.read(stream, len(payload), 10), b"", "a read at the tail gives nothing")
    with refused(OffsetBeyondTail, "a read beyond the tail is refused"):
        await store.read(stream, len(payload) + 1, 10)


def new_stream(store: LogStore, **fields: Any) -> NewStream:
    defaults: dict[str, Any] = {"principal": "p", "upstream": "u", "worker": "w", "retain_s": 60.0, "tombstone_s": 60.0}
    return NewStream(id=StreamId(token()), created_at=store.now(), **{**defaults, **fields})


def token() -> str:
    return secrets.token_urlsafe(16)


def owners_calls(store: LogStore, lease: Lease, at: int) -> list[Callable[[], Awaitable[object]]]:
    """The calls that only the owner of a live stream may make, and `acquire`."""
    return [
        lambda: store.append(lease, at, b"more"),
        lambda: store.begin(lease, Attempt("u", 0.0), Head(200)),
        lambda: store.acquire(lease.stream, "taker", after=lease.epoch),
    ]


async def whole(store: LogStore, stream: StreamId) -> bytes:
    payload = b""
    while data := await store.read(stream, len(payload), 1 << 20):
        payload += data
    return payload


def equal(actual: object, expected: object, sentence: str) -> None:
    if actual != expected:
        raise AssertionError(f"{sentence}: expected {short(expected)}, got {short(actual)}")


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:400]}... ({len(text)} characters)"


@contextmanager
def refused(error: type[ResumeStreamError], sentence: str) -> Iterator[None]:
    try:
        yield
    except error:
        return
    except ResumeStreamError as other:
        raise AssertionError(f"{sentence}: expected {error.__name__}, got {other!r}") from other
    raise AssertionError(f"{sentence}: expected {error.__name__}, got no error")
