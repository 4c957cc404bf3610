"""Starts the compared servers and the measuring client as processes, and ends them; reads their CPU times."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE_S = 40
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Whatever proxy the environment names: all of this is on loopback."""


@dataclass(frozen=True)
class Run:
    """One run of the client against one server: what the client says, and what it cost."""

    seconds: list[float]
    bytes: int
    events: int
    cpu_s: float
    """Of the server process, all its threads."""


@dataclass(frozen=True)
class Server:
    url: str
    pid: int

    def measured(self, what: Literal["replay", "live"], request: str, count: int) -> Run:
        """Run client.py, which says what its arguments mean."""
        port = self.url.rpartition(":")[2]
        before = self.cpu_s()
        command = [sys.executable, str(HERE / "client.py"), what, port, request, str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True)
        cpu_s, said = self.cpu_s() - before, json.loads(done.stdout)
        return Run(said["seconds"], said["bytes"], said["events"], cpu_s)

    def memory_bytes(self) -> int:
        """What it holds beside the files it maps. Linux only."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nAnonymous:")[2].split()[0]) * 1024

    def cpu_s(self) -> float:
        with DIRECT.open(f"{self.url}/_cpu", timeout=DEADLINE_S) as answer:
            return float(answer.read())


@contextlib.contextmanager
def serving(name: str, *arguments: str) -> Iterator[Server]:
    """A server of peers.py; it ends with the block, and also if this process dies."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "peers.py"), name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        text=True,
    )
    assert process.stdin
    assert process.stdout
    with process:
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise SystemExit(f"{name} did not start; it says why above")
            yield Server(url, process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def load() -> str:
    """How busy the machine is: read figures by it. The CPU times suffer less than the others."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "load unknown"
