"""A power cut after any one operation: what is at disk level is there, and nothing else than what was sent."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resumestream.model import Durability

from .disk.judge import Said, complaints
from .disk.power import Disk, replay
from .disk.processes import Done, Jobs, compiled, jobs
from .disk.stores import STORES, url

SEED = 1


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    with jobs(compiled(tmp_path_factory.mktemp("shim"))) as zygote:
        yield zygote


class Cuts:
    """A store's workload, and power cuts in it."""

    def __init__(self, zygote: Jobs, kind: str, where: Path, **job: Any) -> None:
        self._zygote, self._kind, self._job = zygote, kind, job
        self._where = where.resolve()
        self._root, self._log = self._where / "store", self._where / "log"
        self.number = 0
        self.wrong: list[str] = []

    def work(self, **fault: Any) -> Done:
        self._log.unlink(missing_ok=True)
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir()
        job = {"root": self._root, "url": url(self._kind, self._root), "log": self._log}
        return self._zygote.do(do="work", **job, **self._job, **fault)

    def replay(self) -> Iterator[tuple[int, Said, Disk]]:
        return replay(self._log, self._root)

    def cut(self, place: str, said: Said, disk: Disk, survival: float | None = None) -> None:
        """One power cut here, and what is wrong after it."""
        self.number += 1
        image = self._where / "image"
        disk.cut(random.Random(f"{SEED} {place}"), image, survival)
        after = self._zygote.do(do="survey", root=image, url=url(self._kind, image), check=True, **self._job)
        if after.found:
            what = complaints(said, after.found, all_kept=self._job["durability"] == "disk")
        else:
            what = [f"the store was not looked at: {after.ended} {after.broke}"]
        self.wrong += [f"{place}: {line}" for line in what]
        shutil.rmtree(image)

    def check(self) -> None:
        print(f"{self._kind} {self._job['durability']}: {self.number} power cuts")
        assert not self.wrong, "\n".join([f"{len(self.wrong)} lines:", *self.wrong[:40]])


@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(120)
def test_a_power_cut_after_every_operation(
    zygote: Jobs, kind: str, durability: Durability, anyio_backend: str, tmp_path: Path
) -> None:
    """`disk` keeps all that was acknowledged; `process` keeps claims and sealed streams, and of others a prefix. The
    store opens, goes on, and finds no damage."""
    cuts = Cuts(zygote, kind, tmp_path, durability=durability, backend=anyio_backend)
    done = cuts.work()
    assert (done.ended, done.said[-1][0]) == (0, "later")
    for number, said, disk in cuts.replay():
        cuts.cut(f"operation {number}", said, disk)
    cuts.check()


@pytest.mark.parametrize("kind", STORES)
def test_what_a_failed_sync_lost_is_never_acknowledged(
    zygote: Jobs, kind: str, anyio_backend: str, tmp_path: Path
) -> None:
    """The sync after it would succeed over the hole: a power cut at the end shows who trusted it. Only a store that is
    opened again must trust what the kernel still shows of its files."""
    cuts = Cuts(zygote, kind, tmp_path, durability="disk", backend=anyio_backend)
    syncs = cuts.work(fault="fsync").operations
    assert syncs
    for n in range(1, syncs + 1):
        done = cuts.work(fault="fsync", n=n)
        assert not done.broke
        if any(what.startswith("refused open") for what, _, _ in done.said):
            continue
        *_, (_, said, disk) = cuts.replay()
        cuts.cut(f"sync {n}", said, disk, survival=0)
    cuts.check()
