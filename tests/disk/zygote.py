"""A warm process that forks one child a job: no job pays for the imports, and none outlives its deadline or takes
another with it. Jobs are JSON lines on standard input; a child answers in JSON lines, then comes how it ended.

A kill is a copy of the directory while its process is stopped: what the system has of it then, it would have for ever.
The process goes on, to the next operation, so one run shows what a kill at any of them leaves."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shutil
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
"""For a workload that is stopped at each operation."""


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
            if what == "end":
                tell(first=shim.shim_count())

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


def _begun(do: Callable[[dict[str, Any]], None], job: dict[str, Any], deadline_s: int = DEADLINE_S) -> int:
    """A child that does it."""
    if child := os.fork():
        return child
    signal.alarm(deadline_s)
    try:
        do(job)
    except BaseException as error:
        tell(broke="".join(traceback.format_exception(error)[-3:]))
        os._exit(1)
    os._exit(0)


def _kills(job: dict[str, Any]) -> int:
    """The workload, and at each operation a look at what a kill would leave. Returns how the workload ended."""
    child, copy = _begun(_work, job | {"fault": "stop"}, STOPS_DEADLINE_S), Path(job["root"] + " killed")
    looked_at = job | {"root": str(copy), "url": job["url"].replace(job["root"], str(copy)), "check": True}
    while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
        shutil.copytree(job["root"], copy, ignore=shutil.ignore_patterns("*.sock"))
        os.waitpid(_begun(_survey, looked_at), 0)
        tell(looked=True)
        shutil.rmtree(copy)
        os.kill(child, signal.SIGCONT)
    return status


def main() -> None:
    logging.disable()  # what the store logs about its faults is expected
    for line in sys.stdin:
        job = json.loads(line)
        if job["do"] == "kills":
            status = _kills(job)
        else:
            _, status = os.waitpid(_begun({"work": _work, "survey": _survey}[job["do"]], job), 0)
        tell(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
