"""A power cut after any one operation: what is at disk level is there, and nothing else than what was sent."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resumestream.model import Durability

from .disk.judge import Said, complaints
from .disk.power import Disk, replay
from .disk.processes import Done, Jobs, Pool, compiled, pool
from .disk.stores import STORES, url

SEED = 1


@pytest.fixture(scope="module")
def pool_of_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool(compiled(tmp_path_factory.mktemp("shim"))) as started:
        yield started


@dataclass
class Cut:
    place: str
    said: Said
    image: Path


class Cuts:
    """A store's workload, and power cuts in it."""

    def __init__(self, kind: str, where: Path, **job: Any) -> None:
        self.kind, self._job = kind, job
        self._where = where.resolve()
        self._root, self._log = self._where / "store", self._where / "log"
        self._number = 0
        self._root.mkdir(parents=True)

    def work(self, jobs: Jobs, **fault: Any) -> Done:
        job = {"root": self._root, "url": url(self.kind, self._root), "log": self._log}
        return jobs.work(**job, **self._job, **fault)

    def replay(self, until: str | None = None) -> Iterator[tuple[int, Said, Disk]]:
        return replay(self._log, self._root, until)

    def cut(self, place: str, said: Said, disk: Disk, survival: float | None = None) -> Cut:
        """One power cut here."""
        self._number += 1
        cut = Cut(place, list(said), self._where / f"image{self._number}")
        disk.cut(random.Random(f"{SEED} {place}"), cut.image, survival)
        return cut

    def wrong(self, jobs: Jobs, cut: Cut) -> list[str]:
        """What is wrong after it."""
        after = jobs.look(root=cut.image, url=url(self.kind, cut.image), **self._job)
        if after.found:
            what = complaints(cut.said, after.found, all_kept=self._job["durability"] == "disk")
        else:
            what = [f"the store was not looked at: {after.ended} {after.broke}"]
        shutil.rmtree(cut.image)
        return [f"{cut.place}: {line}" for line in what]


def nothing(wrong: list[str]) -> None:
    assert not wrong, "\n".join([f"{len(wrong)} lines:", *wrong[:40]])


@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(120)
def test_a_power_cut_after_every_operation(
    pool_of_jobs: Pool, kind: str, durability: Durability, anyio_backend: str, tmp_path: Path
) -> None:
    """`disk` keeps all that was acknowledged; `process` keeps claims and sealed streams, and of others a prefix. The
    store opens, goes on, and finds no damage."""
    cuts = Cuts(kind, tmp_path, durability=durability, backend=anyio_backend)
    done = cuts.work(pool_of_jobs.first)
    assert (done.ended, done.said[-1][0]) == (0, "resumed")
    each = (cuts.cut(f"operation {number}", said, disk) for number, said, disk in cuts.replay())
    nothing(pool_of_jobs.each(each, cuts.wrong))
    print(f"{kind} {durability}: {done.operations} power cuts")


@pytest.mark.parametrize("kind", STORES)
def test_what_a_failed_sync_lost_is_never_acknowledged(
    pool_of_jobs: Pool, kind: str, anyio_backend: str, tmp_path: Path
) -> None:
    """The sync after it would succeed over the hole: a power cut before the store is opened again shows who trusted
    it. Only one that is opened again must trust what the kernel still shows of its files."""
    job = {"durability": "disk", "backend": anyio_backend}

    def wrong(jobs: Jobs, n: int) -> list[str]:
        cuts = Cuts(kind, tmp_path / str(n), **job)
        done = cuts.work(jobs, fault="fsync", n=n)
        if done.broke or any(what.startswith("refused open") for what, _, _ in done.said):
            return [done.broke] if done.broke else []
        *_, (_, said, disk) = cuts.replay("end" if n <= done.first else None)
        return cuts.wrong(jobs, cuts.cut(f"sync {n}", said, disk, survival=0))

    syncs = Cuts(kind, tmp_path / "all", **job).work(pool_of_jobs.first, fault="fsync").operations
    assert syncs
    nothing(pool_of_jobs.each(range(1, syncs + 1), wrong))
    print(f"{kind}: {syncs} syncs")
