"""Processes that play. However a run ends, what they started ends with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from .process import Process

STOPPED = 130
"""The exit code of who was told to stop."""
SOON_S = 0.05
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def playing() -> Iterator[Path]:
    """A new directory, which stays. Told to stop in the block, this process ends at once, and with it all `Process`es
    and the directory: not by an exception, which might come in the middle of some other clearing away."""
    directory: Path | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        if Process.starting:
            threading.Timer(SOON_S, os.kill, (os.getpid(), number)).start()
            return
        Process.kill_all()
        if directory:
            shutil.rmtree(directory, ignore_errors=True)
        os._exit(STOPPED)

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        yield directory
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def players(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """So many. They are told to stop if the block raises, or if this process is gone."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin) as pool:
        try:
            yield pool
        except BaseException:
            for player in multiprocessing.active_children():
                player.terminate()
            raise


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has nothing to play is told by the first process
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Not to outlive the process that gives us work."""
    first = multiprocessing.parent_process()
    assert first
    first.join()
    os.kill(os.getpid(), signal.SIGTERM)
