"""A disk without space, as one process sees it."""

from __future__ import annotations

import resource

from ..process import Failed
from ..stage import Stage
from .workers import OnWorker


class FillDisk(OnWorker):
    """No file of a worker grows any more (RLIMIT_FSIZE). Linux alone limits another process."""

    def act(self, stage: Stage) -> None:
        _limit(stage, self.worker, full=True)


class FreeDisk(OnWorker):
    def act(self, stage: Stage) -> None:
        _limit(stage, self.worker, full=False)


def _limit(stage: Stage, worker: int, *, full: bool) -> None:
    if not hasattr(resource, "prlimit"):
        raise Failed("this system does not limit the files of another process")
    for pid in stage.worker(worker).members():
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))
