"""What finished streams cost on disk, and how fast they are read again: SQLite, in one process, no network.

Streams of 500 tokens, each token an event of its provider's exact shape, of the texts of the installed packages. All
bytes of the file count: payload, records, indexes. Figures, never a verdict.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import anyio

from resumestream.model import Attempt, Head, NewStream, Outcome, Query, Seal, StreamId
from resumestream.policy import Policy
from resumestream.stores import SQLiteStore

STREAMS, TOKENS = 200, 500
LONG_TOKENS = 40_000
BLOCK_BYTES = 256 * 1024
MANY = 10_000
ALPHABET = string.ascii_letters + string.digits
HEAD = Head(200, (("content-type", "text/event-stream; charset=utf-8"), ("x-request-id", "req_" + "0" * 28)))
SEAL = Seal(Outcome.COMPLETED, "end_seen", "The provider finished the answer.")

Shape = Callable[[list[str], random.Random], Iterator[bytes]]


def openai(tokens: list[str], noise: random.Random) -> Iterator[bytes]:
    """One event a token, padded as the provider does, to a multiple of 16 characters. That is 13 random ones of 62 a
    token: 9.8 bytes that nothing can compress."""
    yield from _openai(tokens, noise, lambda token: 16 - len(token) % 16)


def openai_plain(tokens: list[str], noise: random.Random) -> Iterator[bytes]:
    """As with `include_obfuscation: false`."""
    yield from _openai(tokens, noise, lambda token: 0)


def _openai(tokens: list[str], noise: random.Random, padding: Callable[[str], int]) -> Iterator[bytes]:
    same = {
        "id": "chatcmpl-" + "".join(noise.choices(ALPHABET, k=29)),
        "object": "chat.completion.chunk",
        "created": 1_782_955_817,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_d0469e1700",
    }
    for token in tokens:
        choice = {"index": 0, "delta": {"content": token}, "logprobs": None, "finish_reason": None}
        chunk = {**same, "choices": [choice], "obfuscation": "".join(noise.choices(ALPHABET, k=padding(token)))}
        yield f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


def anthropic(tokens: list[str], noise: random.Random) -> Iterator[bytes]:
    """Three tokens a delta."""
    for at in range(0, len(tokens), 3):
        delta = {"type": "text_delta", "text": "".join(tokens[at : at + 3])}
        event = {"type": "content_block_delta", "index": 0, "delta": delta}
        yield f"event: content_block_delta\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


SHAPES: dict[str, Shape] = {"OpenAI": openai, "OpenAI, no obfuscation": openai_plain, "Anthropic": anthropic}


def language() -> list[str]:
    """Real language in pieces of about three characters, as models emit it."""
    texts = {str(found.metadata.get_payload()) for found in metadata.distributions()}
    return re.findall(r"\s?\w{1,4}|\s?[^\w\s]{1,2}|\s+", "\n".join(sorted(texts)))


async def main() -> None:
    tokens = language()
    print(f"\nSealed streams of {TOKENS} tokens in SQLite; B/token of the whole file, {STREAMS} streams each")
    print(f"{'':<24}{'raw':>8}{'stored':>8}{'ratio':>7}{'frames':>8}{'rows':>7}   replay MB/s: packed, raw, ratio")
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            await measure(name, shape, tokens, Path(folder, "bench.db"))
    with tempfile.TemporaryDirectory() as folder:
        await many(Path(folder, "bench.db"))


async def measure(name: str, shape: Shape, tokens: list[str], path: Path) -> None:
    noise = random.Random(1)
    async with SQLiteStore(path, policy=Policy(), serving=True) as store:
        await store.tidy()
        empty = size(path)
        raw = 0
        for number in range(STREAMS):
            at = noise.randrange(len(tokens) - TOKENS)
            raw += await recorded(store, f"{number:022d}", shape(tokens[at : at + TOKENS], noise), seal=True)
        await store.tidy()
        stored = size(path) - empty
        frames = await store._read(lambda conn: conn.execute("SELECT sum(length(data)) FROM frame").fetchone()[0])
        for long, seal in (("packed", True), ("raw", False)):
            await recorded(store, long, shape(tokens[:LONG_TOKENS], noise), seal=seal)
        await store.tidy()
        speeds = {long: [await replayed(store, long) for _ in range(7)] for long in ("packed", "raw")}
    packed, live = (statistics.median(of) for of in speeds.values())
    of = STREAMS * TOKENS
    print(
        f"{name:<24}{raw / of:>8.1f}{stored / of:>8.2f}{raw / stored:>7.1f}{frames / of:>8.2f}"
        f"{(stored - frames) / of:>7.2f}   {packed:12.0f}{live:6.0f}{packed / live:7.2f}"
    )


def size(path: Path) -> int:
    return path.stat().st_size


async def recorded(store: SQLiteStore, name: str, events: Iterator[bytes], *, seal: bool) -> int:
    """As the hub records it, eight events a commit. Returns the payload's size."""
    new = NewStream(
        StreamId(name),
        "p" * 22,
        "openai",
        "w" * 12,
        store.now(),
        86_400,
        604_800,
        key=f"{name:>043}",
        fingerprint="f" * 43,
    )
    lease, at = await store.create(new), 0
    await store.begin(lease, Attempt("openai", store.now(), 200, "req_" + "0" * 28), HEAD)
    pending = list[bytes]()
    for event in events:
        pending.append(event)
        if len(pending) == 8:
            at = await store.append(lease, at, b"".join(pending), 8)
            pending.clear()
    at = await store.append(lease, at, b"".join(pending), len(pending))
    if seal:
        await store.seal(lease, SEAL)
    return at


async def replayed(store: SQLiteStore, name: str) -> float:
    """MB/s through `read`, in blocks as a reader's."""
    at, began = 0, time.perf_counter()
    while block := await store.read(StreamId(name), at, BLOCK_BYTES):
        at += len(block)
    return at / 1e6 / (time.perf_counter() - began)


async def many(path: Path) -> None:
    """A store with thousands of finished streams: how long until it serves, and how long a page of a list takes."""
    async with SQLiteStore(path, policy=Policy(), serving=True) as store:
        async with anyio.create_task_group() as tasks:
            for part in range(20):
                tasks.start_soon(filled, store, part)
        await store.tidy()
    began = time.perf_counter()
    async with SQLiteStore(path, policy=Policy(), serving=True) as store:
        await store.unsealed()
        opened = time.perf_counter() - began
        pages = list[float]()
        query = Query(principal="p")
        while True:
            began = time.perf_counter()
            page = await store.find(query)
            pages.append(time.perf_counter() - began)
            if len(page) < query.limit:
                break
            query = Query(principal="p", after=page[-1].id)
    print(f"\n{MANY} sealed streams: open and look for unsealed ones {opened * 1e3:.0f} ms", end="")
    print(f", a page of 100 {statistics.median(pages) * 1e3:.1f} ms, the slowest {max(pages) * 1e3:.1f} ms")


async def filled(store: SQLiteStore, part: int) -> None:
    for number in range(MANY // 20):
        new = NewStream(StreamId(f"{part}-{number}"), "p", "u", "w", store.now(), 60, 60)
        lease = await store.create(new)
        await store.append(lease, 0, b"data: x\n\n", 1)
        await store.seal(lease, SEAL)


if __name__ == "__main__":
    anyio.run(main)
