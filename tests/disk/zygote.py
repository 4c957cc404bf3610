"""A warm process that forks one child a job: no job pays for the imports, and none outlives its deadline or takes
another with it. Jobs are JSON lines on standard input; a child answers in JSON lines, then comes how it ended."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import anyio  # noqa: F401
import trio  # noqa: F401
from anyio._backends import _asyncio, _trio  # noqa: F401  what a first run imports

from .stores import Workload, run, survey

DEADLINE_S = 10


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


def _work(job: dict[str, Any]) -> None:
    shim = _arm(job)

    def say(what: str, stream: str, at: int) -> None:
        tell(what=what, stream=stream, at=at)
        if shim:
            note = json.dumps([what, stream, at]).encode()
            shim.shim_note(note, ctypes.c_size_t(len(note)))

    def returns() -> None:
        if job.get("space"):
            Path(job["space"]).touch()

    workload = Workload(job["url"], job["durability"], say)
    run(partial(workload.run, returns), job["backend"])
    if shim:
        tell(operations=shim.shim_count())


def _survey(job: dict[str, Any]) -> None:
    _arm(job)
    tell(found=run(partial(survey, job["url"], job["durability"], check=job.get("check", False)), job["backend"]))


def main() -> None:
    logging.disable()  # what the store logs about its faults is expected
    for line in sys.stdin:
        job = json.loads(line)
        if (child := os.fork()) == 0:
            signal.alarm(DEADLINE_S)
            try:
                {"work": _work, "survey": _survey}[job["do"]](job)
            except BaseException as error:
                tell(broke="".join(traceback.format_exception(error)[-3:]))
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        tell(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
