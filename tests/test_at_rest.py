"""A store that nobody serves and whose files were damaged: never other bytes, never another end, and `verify` tells."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .disk.processes import Done, Jobs, Pool, pool
from .disk.stores import url

SEED = 1
FLIPS, TRUNCATIONS = 240, 120
HEADERS_BYTES = 256
"""Of a file, mostly no payload; every second flip is there."""
SPARED = (".lock", "-shm")
"""Files that hold nothing of a stream."""
UNCOPIED = shutil.ignore_patterns("*.sock", "*-shm")


@pytest.fixture(scope="module")
def pool_of_jobs() -> Iterator[Pool]:
    with pool() as started:
        yield started


@dataclass
class Left:
    """What is damaged a copy at a time, and what is found in it before."""

    kind: str
    root: Path
    files: list[Path]
    good: dict[str, Any]


Damage = Callable[[Path, random.Random], str]


def flip(path: Path, rng: random.Random) -> str:
    """Another value of one bit."""
    size = path.stat().st_size
    at, bit = rng.randrange(rng.choice([min(size, HEADERS_BYTES), size])), rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    return f"bit {bit} of byte {at} of {path.name}"


def truncate(path: Path, rng: random.Random) -> str:
    size = rng.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"{path.name} of {path.stat().st_size} bytes"


def wrong_with(done: Done, good: dict[str, Any]) -> list[str]:
    """What a server that opened the damaged store does and must not. Less of a stream that has not ended is no wrong;
    whatever else is not as it was must have been told by `verify`, or by not opening."""
    found = done.found
    if done.broke or not found:
        return [f"it ended with {done.ended}: {done.broke[-600:]}"]
    if "unusable" in found:
        return []
    wrong = []
    for name, was in good["streams"].items():
        is_now = found["streams"][name]
        if is_now.get("wrong"):
            wrong.append(f"{name}: other bytes are served")
        if "error" not in is_now and _differs(was, is_now) and not found["damage"]:
            wrong.append(f"{name}: nobody tells that it is {is_now}")
        if "error" in is_now and not found["damage"]:
            wrong.append(f"{name}: verify does not tell: {is_now['error']}")
    if found["keys"] != good["keys"] and not found["damage"]:
        wrong.append(f"nobody tells that the keys mean {found['keys']}")
    return wrong


def _differs(was: dict[str, Any], is_now: dict[str, Any]) -> bool:
    if was.get("seal") or is_now.get("seal") or "missing" in is_now or was["tail"] == is_now["tail"]:
        return was != is_now
    return not is_now["read"] == is_now["tail"] <= was["tail"]


STATES = {"sqlite": ("sqlite", None), "file": ("file", None), "file whose server was killed": ("file", "resumed")}
"""Kind, and where its server died: then only its payload is damaged, as a log that ends early is none."""


@pytest.fixture(scope="module", params=STATES.values(), ids=list(STATES))
def left(request: pytest.FixtureRequest, pool_of_jobs: Pool, tmp_path_factory: pytest.TempPathFactory) -> Left:
    kind, dies = request.param
    root = tmp_path_factory.mktemp("left").resolve() / "store"
    root.mkdir()
    job = {"durability": "process", "backend": "asyncio"}
    assert pool_of_jobs.first.work(root=root, url=url(kind, root), dies=dies, **job).said[-1][0] == "resumed"
    copy = root.with_name("looked at")
    shutil.copytree(root, copy, ignore=UNCOPIED)
    good = pool_of_jobs.first.look(root=copy, url=url(kind, copy), **job).found
    assert not good["damage"]
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.endswith(SPARED))
    if dies:
        files = [path for path in files if path.suffix in (".seg", ".pack")]
    return Left(kind, root, [path for path in files if path.stat().st_size], good)


@pytest.mark.parametrize(("damage", "times"), [(flip, FLIPS), (truncate, TRUNCATIONS)], ids=["flip", "truncate"])
@pytest.mark.timeout(120)
def test_damage_is_told_and_never_served(
    pool_of_jobs: Pool, left: Left, damage: Damage, times: int, tmp_path: Path
) -> None:
    """Whatever `read` returns is what was sent, or it raises; the store opens or says why not."""
    opened: list[int] = []

    def damaged(jobs: Jobs, number: int) -> list[str]:
        rng = random.Random(f"{SEED} {number}")
        copy = tmp_path.resolve() / str(number)
        shutil.copytree(left.root, copy, ignore=UNCOPIED)
        victim = left.files[number % len(left.files)]
        what = damage(copy / victim.relative_to(left.root), rng)
        backend = ("asyncio", "trio")[number // len(left.files) % 2]
        job = {"url": url(left.kind, copy), "durability": "process", "backend": backend}
        done = jobs.look(root=copy, **job)
        if "unusable" not in done.found:
            opened.append(number)
        shutil.rmtree(copy)
        return [f"{what}: {line}" for line in wrong_with(done, left.good)]

    wrong = pool_of_jobs.each(range(times), damaged)
    print(f"{left.kind}: {times} damaged of {[path.name[-12:] for path in left.files]}, {len(opened)} could be opened")
    assert not wrong, "\n".join([f"{len(wrong)} lines:", *wrong[:40]])
