"""A warm process, so that no job pays for the imports. Jobs are JSON lines on standard input, answers too; last comes
how it ended. Who asked sees that the process is gone where a job takes too long.

`work` and `look` do one workload, or look at one store, after the other. `fork` does each workload in a child that may
die; one that the shim stops at each operation goes on when a line comes."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio  # noqa: F401
import trio  # noqa: F401
from anyio._backends import _asyncio, _trio  # noqa: F401  what a first run imports

from .stores import Workload, run, survey

DEADLINE_S = 10
STOPS_DEADLINE_S = 170
"""For one that is stopped at each operation."""


def tell(**said: Any) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def _arm(job: dict[str, Any]) -> ctypes.CDLL | None:
    """Whatever is not under a fault is not synced either: nothing here waits for a disk."""
    shim = ctypes.CDLL(None)
    if not hasattr(shim, "shim_arm"):
        return None
    fault, space, log = job.get("fault", "none"), job.get("space", ""), job.get("log", "")
    shim.shim_arm(job["root"].encode(), fault.encode(), ctypes.c_long(job.get("n", 0)), space.encode(), log.encode())
    return shim


def work(job: dict[str, Any]) -> None:
    shim = _arm(job)

    def say(what: str, stream: str, at: int) -> None:
        tell(what=what, stream=stream, at=at)
        if what == job.get("dies"):
            os._exit(0)
        if shim:
            note = json.dumps([what, stream, at]).encode()
            shim.shim_note(note, ctypes.c_size_t(len(note)))
            if what == "end":
                tell(first=shim.shim_count())

    def returns() -> None:
        if job.get("space"):
            Path(job["space"]).touch()

    workload = Workload(job["url"], job["durability"], say)
    run(partial(workload.run, returns), job["backend"])
    if shim:
        tell(operations=shim.shim_count())


def look(job: dict[str, Any]) -> None:
    _arm(job)
    tell(found=run(partial(survey, job["url"], job["durability"]), job["backend"]))


def done(do: Callable[[dict[str, Any]], None], job: dict[str, Any], deadline_s: int = DEADLINE_S) -> None:
    signal.alarm(deadline_s)
    try:
        do(job)
    except Exception as error:
        tell(broke="".join(traceback.format_exception(error)[-3:]))
    signal.alarm(0)


def fork(job: dict[str, Any]) -> int:
    """Returns how the child ended."""
    if (child := os.fork()) == 0:
        done(work, job, STOPS_DEADLINE_S)
        os._exit(0)
    while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
        tell(stopped=True)
        sys.stdin.readline()
        os.kill(child, signal.SIGCONT)
    return os.waitstatus_to_exitcode(status)


def main(what: str) -> None:
    logging.disable()  # what the store logs about its faults is expected
    for line in iter(sys.stdin.readline, ""):
        job, ended = json.loads(line), 0
        if what == "fork":
            ended = fork(job)
        else:
            done({"work": work, "look": look}[what], job)
        tell(ended=ended)


if __name__ == "__main__":
    main(sys.argv[1])
