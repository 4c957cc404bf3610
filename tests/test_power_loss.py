"""A power cut after any one operation: what is at disk level is there, and nothing else than what was sent."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
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
def zygotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool(compiled(tmp_path_factory.mktemp("shim"))) as zygotes:
        yield zygotes


@dataclass
class Cut:
    place: str
    said: Said
    image: Path


class Cuts:
    """A store's workload, and power cuts in it."""

    def __init__(self, zygotes: Pool, kind: str, where: Path, **job: Any) -> None:
        self._zygotes, self._kind, self._job = zygotes, kind, job
        self._where = where.resolve()
        self._root, self._log = self._where / "store", self._where / "log"
        self._number = 0

    def work(self, **fault: Any) -> Done:
        self._log.unlink(missing_ok=True)
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir()
        job = {"root": self._root, "url": url(self._kind, self._root), "log": self._log}
        return self._zygotes.do(do="work", **job, **self._job, **fault)

    def replay(self, until: str | None = None) -> Iterator[tuple[int, Said, Disk]]:
        return replay(self._log, self._root, until)

    def cut(self, place: str, said: Said, disk: Disk, survival: float | None = None) -> Cut:
        """One power cut here."""
        self._number += 1
        cut = Cut(place, list(said), self._where / f"image{self._number}")
        disk.cut(random.Random(f"{SEED} {place}"), cut.image, survival)
        return cut

    def check(self, cuts: Iterable[Cut]) -> None:
        """Nothing is wrong after any of them."""
        wrong = self._zygotes.each(cuts, self._wrong)
        print(f"{self._kind} {self._job['durability']}: {self._number} power cuts")
        assert not wrong, "\n".join([f"{len(wrong)} lines:", *wrong[:40]])

    def _wrong(self, zygote: Jobs, cut: Cut) -> list[str]:
        after = zygote.do(do="survey", root=cut.image, url=url(self._kind, cut.image), check=True, **self._job)
        if after.found:
            what = complaints(cut.said, after.found, all_kept=self._job["durability"] == "disk")
        else:
            what = [f"the store was not looked at: {after.ended} {after.broke}"]
        shutil.rmtree(cut.image)
        return [f"{cut.place}: {line}" for line in what]


@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(120)
def test_a_power_cut_after_every_operation(
    zygotes: Pool, kind: str, durability: Durability, anyio_backend: str, tmp_path: Path
) -> None:
    """`disk` keeps all that was acknowledged; `process` keeps claims and sealed streams, and of others a prefix. The
    store opens, goes on, and finds no damage."""
    cuts = Cuts(zygotes, kind, tmp_path, durability=durability, backend=anyio_backend)
    done = cuts.work()
    assert (done.ended, done.said[-1][0]) == (0, "resumed")
    cuts.check(cuts.cut(f"operation {number}", said, disk) for number, said, disk in cuts.replay())


@pytest.mark.parametrize("kind", STORES)
def test_what_a_failed_sync_lost_is_never_acknowledged(
    zygotes: Pool, kind: str, anyio_backend: str, tmp_path: Path
) -> None:
    """The sync after it would succeed over the hole: a power cut before the store is opened again shows who trusted
    it. Only one that is opened again must trust what the kernel still shows of its files."""
    cuts = Cuts(zygotes, kind, tmp_path, durability="disk", backend=anyio_backend)
    syncs = cuts.work(fault="fsync").operations
    assert syncs

    def each() -> Iterator[Cut]:
        for n in range(1, syncs + 1):
            done = cuts.work(fault="fsync", n=n)
            assert not done.broke
            if not any(what.startswith("refused open") for what, _, _ in done.said):
                *_, (_, said, disk) = cuts.replay("end" if n <= done.first else None)
                yield cuts.cut(f"sync {n}", said, disk, survival=0)

    cuts.check(each())
