"""A disk that fails at any one operation: nothing acknowledged is lost, whoever waits is told, and it goes on after."""

from __future__ import annotations

import http.client
import json
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from resumestream.testing import Script, ScriptedProvider

from .clients.plain import DEADLINE_S, Plain
from .command import BODY, CHAT, Process, serving
from .disk.judge import complaints
from .disk.processes import Done, Jobs, Pool, compiled, pool
from .disk.stores import LATER, PLAIN, STORES, url

BACKENDS = ("asyncio", "trio")
FAULTS = {
    "enospc": "one operation finds no space; of a write half fits, and the next operation finds none",
    "full": "no space from an operation on, whose write is cut short, until the end of the workload",
    "eio": "one operation fails: a sync, too, and then what it should have written is lost",
    "short": "one write writes half",
}
TOLD = ("StoreError", "StoreFull", "StoreUnusable")
TMPFS_BYTES = 8 * 1024**2


@pytest.fixture(scope="module")
def pool_of_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pool(compiled(tmp_path_factory.mktemp("shim"))) as started:
        yield started


class Faults:
    """One fault at every operation of the workload, each in a process and a directory of its own."""

    def __init__(self, kind: str, fault: str, where: Path) -> None:
        self.kind, self.fault, self.where = kind, fault, where.resolve()

    def workload(self, jobs: Jobs, n: int) -> Done:
        space = self.where / f"{n} space"
        return jobs.work(fault=self.fault, n=n, space=space if self.fault == "full" else "", **self._job(n))

    def survey(self, jobs: Jobs, n: int) -> Done:
        return jobs.look(**self._job(n))

    def wrong(self, jobs: Jobs, n: int) -> list[str]:
        """What is wrong with what a fault at operation `n` led to."""
        done = self.workload(jobs, n)
        after = self.survey(jobs, n)
        wrong = [done.broke, after.broke]
        if done.ended:
            wrong.append(f"the workload ended with {done.ended}")
        refused = [what for what, _, _ in done.said if what.startswith("refused")]
        wrong += [what for what in refused if what.split(": ")[1] not in TOLD]
        if self.fault == "short":
            wrong += refused
        said = {(what, stream) for what, stream, _ in done.said}
        if self.fault in ("enospc", "full") and n <= done.first and ("later", LATER) not in said:
            wrong.append("with space again a stream cannot be made")
        if n <= done.first and ("create", PLAIN) in said and ("resumed", PLAIN) not in said:
            wrong.append("opened again, it does not go on")
        if after.found:
            wrong += complaints(done.said, after.found)
        else:
            wrong.append(f"the store was not looked at: {after.ended}")
        shutil.rmtree(self.where / str(n))
        return [f"operation {n}: {what}" for what in wrong if what] + [f"   {what}" for what in refused if any(wrong)]

    def _job(self, n: int) -> dict[str, Any]:
        """Neighbours run on both loops."""
        root = self.where / str(n)
        root.mkdir(exist_ok=True)
        return {"root": root, "url": url(self.kind, root), "durability": "process", "backend": BACKENDS[n % 2]}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(180)
def test_a_fault_at_every_operation(pool_of_jobs: Pool, kind: str, fault: str, tmp_path: Path) -> None:
    """The store tells it as what it is, keeps all it acknowledged, and can be opened, sealed and written after."""
    faults = Faults(kind, fault, tmp_path)
    whole = faults.workload(pool_of_jobs.first, 0)
    assert (whole.ended, whole.said[-1][0]) == (0, "resumed")
    assert not complaints(whole.said, faults.survey(pool_of_jobs.first, 0).found)
    wrong = pool_of_jobs.each(range(1, whole.operations + 1), faults.wrong)
    print(f"{kind} {fault}: {whole.operations} operations")
    assert not wrong, "\n".join([f"{len(wrong)} lines:", *wrong[:40]])


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(180)
def test_a_kill_at_every_operation(pool_of_jobs: Pool, kind: str, tmp_path: Path) -> None:
    """Before it, and in the middle of a write: whoever opens the store then finds all that was acknowledged."""

    def killed(jobs: Jobs, backend: str) -> list[str]:
        root = tmp_path.resolve() / backend
        root.mkdir()
        done = jobs.kills(root=root, url=url(kind, root), durability="process", backend=backend)
        assert (done.ended, done.said[-1][0]) == (0, "resumed")
        print(f"{kind} {backend}: {len(done.kills)} kills")
        wrong = []
        for number, (said, after) in enumerate(done.kills, 1):
            what = complaints(done.said[:said], after.found) if after.found else [f"{after.ended} {after.broke}"]
            wrong += [f"{backend}, kill {number}: {line}" for line in what]
        return wrong

    wrong = pool_of_jobs.each(BACKENDS, killed)
    assert not wrong, "\n".join([f"{len(wrong)} lines:", *wrong[:40]])


# --- through the whole server -----------------------------------------------------------------------------------


class Disk(Protocol):
    directory: Path
    """Where the store goes."""

    def full(self, server: Process) -> AbstractContextManager[Callable[[], None]]:
        """No space meanwhile; call what it gives to take again what was freed since."""
        ...


class NoFileGrows:
    """RLIMIT_FSIZE: the server can write to no file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def full(self, server: Process) -> Iterator[Callable[[], None]]:
        limits = partial(resource.prlimit, server.process.pid, resource.RLIMIT_FSIZE)
        soft, hard = limits()
        limits((0, hard))
        yield lambda: None
        limits((soft, hard))


class TinyTmpfs:
    """A file system of a few MiB, and a file that takes all of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def full(self, server: Process) -> Iterator[Callable[[], None]]:
        filler = self.directory / "filler"
        with filler.open("wb", buffering=0) as file:

            def fill() -> None:
                with suppress(OSError):
                    while True:
                        file.write(bytes(65536))
                with pytest.raises(OSError, match="No space left"):
                    file.write(b"x")

            fill()
            yield fill
        filler.unlink()


@contextmanager
def no_file_grows(where: Path) -> Iterator[Disk]:
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux limits another process's file size")
    yield NoFileGrows(where)


@contextmanager
def tiny_tmpfs(where: Path) -> Iterator[Disk]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "resumestream-test", str(where)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a tiny tmpfs can be mounted by root only")
    try:
        yield TinyTmpfs(where)
    finally:
        subprocess.run(["umount", str(where)], check=True)


def events(response: http.client.HTTPResponse, number: int) -> bytes:
    """An answer up to and with so many events; it stays open."""
    body = b""
    while body.count(b"\n\n") < number:
        piece = response.read1()
        assert piece, body
        body += piece
    return body


def ended(client: Plain, stream: str) -> Mapping[str, str]:
    """What is told of a stream that nobody drains any more, once recovery has sealed it: that nobody can wait for."""
    deadline = time.monotonic() + DEADLINE_S
    while "stream-outcome" not in (headers := client.head(f"/streams/{stream}").headers):
        assert time.monotonic() < deadline, headers
        time.sleep(0.05)
    return headers


@pytest.mark.parametrize("disk_of", [no_file_grows, tiny_tmpfs])
@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_server_on_a_full_disk(
    kind: str, disk_of: Callable[[Path], AbstractContextManager[Disk]], backend: str, tmp_path: Path
) -> None:
    """A new call is refused before it costs anything, the one that runs keeps what was read of it, and with space
    again the same key makes its call."""
    where = tmp_path.resolve() / "disk"
    where.mkdir()
    with (
        ScriptedProvider(default=Script(tokens=5)) as provider,
        disk_of(where) as disk,
        serving(provider, url(kind, disk.directory), "--backend", backend) as server,
        Plain(server.url) as reader,
        Plain(server.url) as client,
    ):
        provider.script(Script(tokens=2000, hold_at=3))
        response = reader.begin("POST", CHAT, json.dumps(BODY).encode(), {"idempotency-key": "runs"})
        read, stream = events(response, 3), response.headers["stream-id"]
        with disk.full(server) as fill:
            number = 0
            while True:  # housekeeping may free some pages: then the disk was not full, and a call is right
                number += 1
                fill()
                refused = client.post(CHAT, BODY, {"idempotency-key": f"refused-{number}"})
                if refused.status != 200:
                    break
            assert refused.status in (507, 503)
            assert "space" in refused.json()["detail"] or refused.status == 503
            assert len(provider.ledger()) == number
            assert client.get(f"/streams/{stream}?offset=-1").body == read
            provider.release()
            reader.rest(response)
        again = client.post(CHAT, BODY, {"idempotency-key": f"refused-{number}"})
        assert (again.status, again.cut) == (200, False)
        assert len(provider.ledger()) == number + 1
        assert ended(client, stream)["stream-outcome"] == "interrupted"
        kept = client.get(f"/streams/{stream}?offset=-1").body
        assert kept.startswith(read)
        assert provider.sent(1).startswith(kept)
