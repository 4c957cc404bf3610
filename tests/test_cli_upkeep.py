"""`rm`, `gc`, `verify`, and `ls` in pages: on a store alone, beside its servers, and over HTTP."""

from __future__ import annotations

import io
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from resumestream import Policy
from resumestream.cli.collect import collect
from resumestream.cli.display import Progress
from resumestream.cli.inspection import Inspection
from resumestream.cli.walk import Walk
from resumestream.model import Gone, NewStream, Outcome, Query, Seal, StreamId, StreamInfo
from resumestream.stores import MemoryStore, open_store
from resumestream.testing.provider import Script, ScriptedProvider

from .cli import SIZE, Cli, Terminal, in_process, put, states
from .clients.plain import Plain
from .clients.sdks import CREDENTIAL
from .command import BODY, CHAT, DEADLINE_S, command, environment, read_some, run, serving

MINE = ("--header", f"Authorization: Bearer {CREDENTIAL}")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line, in this process."""
    return in_process(monkeypatch, capsys, tmp_path)


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """From old to new: three that ended, two of them blue, and one whose server died."""
    path = tmp_path / "streams.db"
    put(path, "one", Outcome.COMPLETED, labels=("agent", "blue"))
    put(path, "two", Outcome.TRUNCATED, labels=("agent",))
    put(path, "three", Outcome.COMPLETED, labels=("blue", "agent"))
    put(path, "live", None)
    return path


def edit(store: Path, sql: str) -> None:
    """What only damage does to a store."""
    with closing(sqlite3.connect(store)) as conn:
        assert conn.execute(sql).rowcount
        conn.commit()


# --- ls in pages -----------------------------------------------------------------------------------------------------


def test_ls_says_when_there_is_more(cli: Cli, store: Path) -> None:
    """A page names the stream after which the next one begins; the last one names none."""
    page = cli("ls", "--store", store, "--limit", 2)
    assert [line.split()[0] for line in page.out.splitlines()[2:]] == ["live", "three"]
    assert (page.code, page.err) == (0, "there are more: --after three\n")
    rest = cli("ls", "--store", store, "--limit", 2, "--after", "three")
    assert [line.split()[0] for line in rest.out.splitlines()[2:]] == ["two", "one"]
    assert rest.err == ""
    first = cli("ls", "--store", store, "--limit", 1, "--json", "--label", "blue").json()
    assert ([record["id"] for record in first["streams"]], first["next"]) == (["three"], "three")
    last = cli("ls", "--store", store, "--limit", 1, "--json", "--label", "blue", "--after", "thr").json()
    assert ([record["id"] for record in last["streams"]], "next" in last) == (["one"], False)


def test_ls_after_nothing(cli: Cli, store: Path) -> None:
    """A page that goes on after what is not there is refused, not begun anew."""
    said = cli("ls", "--store", store, "--after", "nobody")
    assert (said.code, said.out, said.err) == (1, "", f"resumestream: there is no stream nobody in {store}\n")


def test_ls_goes_by_the_state_of_now(cli: Cli, tmp_path: Path) -> None:
    """What expired a moment ago is expired, though nobody has dropped it yet; a page has its length all the same."""
    store = tmp_path / "streams.db"
    for name in ("a", "b", "c"):
        put(store, f"kept-{name}", Outcome.COMPLETED)
        put(store, f"old-{name}", Outcome.COMPLETED, retain_s=0.0)
    page = cli("ls", "--store", store, "--state", "expired", "--limit", 2, "--json").json()
    assert ([record["id"] for record in page["streams"]], page["next"]) == (["old-c", "old-b"], "old-b")
    kept = cli("ls", "--store", store, "--state", "sealed", "--json").json()
    assert [record["id"] for record in kept["streams"]] == ["kept-c", "kept-b", "kept-a"]


def test_show_tells_ownership_and_attempts(cli: Cli, store: Path) -> None:
    """Who owns it at which epoch, what its bytes survive, and what came of each call."""
    lines = cli("show", "two", "--store", store).out.splitlines()[2:]
    fields = {name: rest.strip() for name, rest in (line.split(maxsplit=1) for line in lines)}
    assert fields["durability"] == "process"
    assert fields["owner"] == "worker w, epoch 1"
    assert f"bytes {SIZE}, outcome truncated" in fields["attempts"]


def test_ls_pages_over_http(cli: Cli, tmp_path: Path, provider: ScriptedProvider) -> None:
    """As in a store: a page, and where the next one begins."""
    with serving(provider, tmp_path / "streams.db") as server, Plain(server.url) as client:
        old, new = (client.post(CHAT, BODY, {"idempotency-key": key}).headers["stream-id"] for key in "ab")
        page = cli("ls", "--url", server.url, *MINE, "--limit", 1, "--json").json()
        assert ([record["id"] for record in page["streams"]], page["next"]) == ([new], new)
        rest = cli("ls", "--url", server.url, *MINE, "--limit", 1, "--after", new, "--json").json()
        assert ([record["id"] for record in rest["streams"]], "next" in rest) == ([old], False)


# --- gc --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dusty(tmp_path: Path) -> Path:
    """One of each: kept, expired, expired long ago, deleted long ago, and one whose server died."""
    path = tmp_path / "streams.db"
    put(path, "kept", Outcome.COMPLETED)
    put(path, "old", Outcome.COMPLETED, retain_s=0.0, data=b"x" * 200_000 + b"\n\n")
    put(path, "older", Outcome.COMPLETED, retain_s=0.0, tombstone_s=0.0)
    put(path, "tombstone", Outcome.COMPLETED, gone=Gone.DELETED)
    put(path, "out", Outcome.COMPLETED, gone=Gone.DELETED, tombstone_s=0.0)
    put(path, "live", None, retain_s=0.0)
    return path


def test_gc_drops_what_is_due(cli: Cli, dusty: Path) -> None:
    """Payloads that expired, tombstones that ran out, and nothing else; what nobody drains is left to a server."""
    planned = cli("gc", "--store", dusty, "--dry-run", "--json").json()
    before = states(cli, dusty)
    done = cli("gc", "--store", dusty, "--json").json()
    counts = {"expired": 2, "expired_bytes": 200_002 + SIZE, "forgotten": 2, "held": 0}
    assert {name: done[name] for name in counts} == counts
    assert planned == counts | {"dry_run": True, "disk_bytes_before": planned["disk_bytes_before"]}
    assert before == {
        "live": "streaming",
        "out": "deleted",
        "tombstone": "deleted",
        "older": "expired",
        "old": "expired",
        "kept": "sealed",
    }
    assert states(cli, dusty) == {"live": "streaming", "tombstone": "deleted", "old": "expired", "kept": "sealed"}
    assert cli("show", "live", "--store", dusty, "--json").json()["owner"] == {"worker": "w", "epoch": 1}
    assert cli("verify", "--store", dusty).code == 0


def test_gc_gives_the_space_back(cli: Cli, tmp_path: Path) -> None:
    """The file is smaller, and what was deleted is in it no more."""
    store, secret = tmp_path / "streams.db", Random(1).randbytes(400_000)
    put(store, "old", Outcome.COMPLETED, retain_s=0.0, data=secret)
    put(store, "kept", Outcome.COMPLETED)
    said = cli("gc", "--store", store, "--json").json()
    assert said["disk_bytes_after"] < said["disk_bytes_before"]
    assert secret[:500] not in b"".join(path.read_bytes() for path in tmp_path.glob("streams.db*") if path.is_file())


def test_gc_tells_people(cli: Cli, dusty: Path) -> None:
    """What would go, what went, and what that gave; a second time nothing does."""
    planned = cli("gc", "--store", dusty, "--dry-run")
    assert planned.out.splitlines()[:2] == [
        "2 payloads would be dropped (195.3 KiB)",
        "2 tombstones would be forgotten",
    ]
    done = cli("gc", "--store", dusty)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:2] == ["2 payloads dropped (195.3 KiB)", "2 tombstones forgotten"]
    assert done.out.splitlines()[2].startswith("on disk: ")
    assert cli("gc", "--store", dusty).out.startswith("0 payloads dropped (0 bytes)\n0 tombstones forgotten\n")


def test_gc_beside_a_server_cuts_no_read(cli: Cli, dusty: Path) -> None:
    """Whether somebody reads there is not known here: what expired just now is left to the server, the rest goes."""
    with start_blocking_portal() as portal:
        server = open_store(dusty, policy=Policy(), serving=True)
        with portal.wrap_async_context_manager(server):
            beside = cli("gc", "--store", dusty, "--json").json()
            assert (beside["expired"], beside["held"], beside["forgotten"]) == (0, 2, 1)
            said = cli("gc", "--store", dusty, "--dry-run")
            assert "2 expired payloads left to the running server" in said.out
            assert portal.call(server.read, StreamId("old"), 0, 10)
    assert cli("gc", "--store", dusty, "--json").json()["expired"] == 2


def test_gc_leaves_a_running_answer_alone(tmp_path: Path, provider: ScriptedProvider) -> None:
    """A stream that a server drains goes on to its end."""
    provider.script(Script(tokens=20, hold_at=4))
    store = tmp_path / "streams.db"
    with serving(provider, store, "--retain-s", 60) as server, Plain(server.url) as client:
        _, stream = read_some(client, "k")
        assert run("gc", "--store", store).returncode == 0
        assert run("verify", "--store", store).returncode == 0
        provider.release()
        with Plain(server.url) as reader:
            assert reader.get(f"/streams/{stream}?live=tail").body == provider.sent(1)


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_of_a_good_store(cli: Cli, dusty: Path) -> None:
    """What was looked at, and what it is protected against; a program gets the same as JSON."""
    said = cli("verify", "--store", dusty)
    assert (said.code, said.err) == (0, "")
    about, counts, verdict = said.out.splitlines()
    assert about.startswith(f"store {dusty}: format ")
    assert about.endswith("durability process: what a reader has seen survives a kill of this process")
    assert counts == "6 streams (1 streaming, 1 sealed, 4 expired), 195.4 KiB of payload"
    assert verdict == "no damage"
    found = cli("verify", "--store", dusty, "--json").json()
    assert found["streams"] == {"pending": 0, "streaming": 1, "sealed": 1, "expired": 4}
    assert (found["ok"], found["damage"], found["durability"], found["store"]) == (True, [], "process", str(dusty))


def test_verify_names_the_damage(cli: Cli, store: Path) -> None:
    """A line each with the stream's id, and a failure; the other streams are good, and found so."""
    assert cli("gc", "--store", store).code == 0  # packs
    two = "(SELECT row FROM stream WHERE id = 'two')"
    edit(store, f"UPDATE frame SET data = zeroblob(length(data)) WHERE stream = {two}")
    said = cli("verify", "--store", store)
    assert (said.code, said.err) == (1, "")
    damage = [line for line in said.out.splitlines() if line.startswith("two: ")]
    assert len(damage) == 1
    assert not any(line.startswith(("one: ", "three: ")) for line in said.out.splitlines())
    assert said.out.splitlines()[-1] == "damaged: 1 stream"
    told = cli("verify", "--store", store, "--json")
    assert told.code == 1
    assert [each["stream"] for each in told.json()["damage"]] == ["two"]
    assert told.json()["streams"]["sealed"] == 3
    assert cli("verify", "one", "thr", "--store", store).out.splitlines()[1].startswith("2 streams (2 sealed)")
    assert cli("verify", "two", "--store", store).code == 1
    assert cli("verify", "two", "nobody", "--store", store).err == (
        f"resumestream: there is no stream nobody in {store}\n"
    )


def test_verify_of_what_cannot_be_opened(cli: Cli, store: Path) -> None:
    """A newer format, no store, no database: each says so, and nothing is made of it."""
    edit(store, "UPDATE stream SET tail = tail")
    with closing(sqlite3.connect(store)) as conn:
        conn.execute("PRAGMA user_version = 99")
    for args in (("verify",), ("gc",), ("rm", "one")):
        said = cli(*args, "--store", store)
        assert (said.code, said.out) == (1, "")
        assert "newer resumestream (format 99" in said.err
    absent = store.with_name("absent.db")
    assert "there is no store at" in cli("verify", "--store", absent).err
    assert not absent.exists()
    other = store.with_name("other.db")
    other.write_bytes(b"no database, " * 1000)
    assert "is not a resumestream store" in cli("verify", "--store", other).err


def test_gc_and_verify_say_why_they_take_no_url(cli: Cli) -> None:
    """They work on the store, and the refusal says how."""
    for name in ("gc", "verify"):
        said = cli(name, "--url", "http://127.0.0.1:1")
        assert (said.code, said.out) == (2, "")
        assert said.err == (
            f"resumestream: {name} works on the store itself, beside a running server too: run it on the server's "
            "machine, with --store\n"
        )


@pytest.mark.parametrize("args", [("ls",), ("ls", "--json"), ("show", "one"), ("verify",), ("gc", "--dry-run")])
def test_a_pipe_that_nobody_reads(args: tuple[str, ...], store: Path) -> None:
    """`... | true`: nobody hears of it."""
    process = subprocess.Popen(
        command(*args, "--store", store), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE_S) == 1


# --- beside others, and at size --------------------------------------------------------------------------------------


async def fill(store: MemoryStore, count: int) -> None:
    """Sealed streams of one byte, `s0` the oldest."""
    for number in range(count):
        stream = StreamId(f"s{number}")
        lease = await store.create(NewStream(stream, "p", "u", "w", store.now(), 60, 0))
        await store.append(lease, 0, b"x")
        await store.seal(lease, Seal(Outcome.COMPLETED, "end", "It ended."))


@pytest.mark.anyio
async def test_a_walk_leaves_nobody_out() -> None:
    """Though all that a page had is forgotten before the next: what stays is seen."""
    store = MemoryStore()
    with anyio.fail_after(DEADLINE_S):
        await fill(store, 10)
        walk, seen = Walk(store, Query(limit=3)), set[StreamId]()
        while page := await walk.page():
            seen.update(info.id for info in page)
            for number in (7, 8) if len(seen) == 3 else (4, 5, 6, 9) if len(seen) == 6 else ():
                await store.purge(StreamId(f"s{number}"), Gone.DELETED)
                await store.forget(StreamId(f"s{number}"))
    assert seen == {f"s{number}" for number in range(10)}


class Changing(MemoryStore):
    """Damaged, to who reads a stream while another process drops it."""

    meanwhile = "nothing"

    async def verify(self, stream: StreamId | None = None) -> list[str]:
        if stream is None or (await self.stat(stream)).gone:
            return []
        if self.meanwhile != "nothing":
            await self.purge(stream, Gone.DELETED)
        if self.meanwhile == "forgotten":
            await self.forget(stream)
        return ["there is nothing where its payload was"]


@pytest.mark.anyio
@pytest.mark.parametrize("meanwhile", ["nothing", "dropped", "forgotten"])
async def test_what_happens_meanwhile_is_no_damage(meanwhile: str) -> None:
    """A stream that is dropped while it is read is looked at again; what stays wrong is damage."""
    store = Changing()
    store.meanwhile = meanwhile
    with anyio.fail_after(DEADLINE_S):
        await fill(store, 3)
        inspection = Inspection(store, lambda stream, what: None, Progress())
        await inspection.all()
    assert len(inspection.damage) == (3 if meanwhile == "nothing" else 0)


def test_progress_is_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal only, and the last word is none."""
    for terminal, said in ((Terminal(), "\r\x1b[K1 stream\r\x1b[K"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress() as progress:
            progress.say("1 stream")
            progress.say("2 streams")  # too soon to be read
        assert terminal.getvalue() == said


class Pages(MemoryStore):
    """Counts what is asked for at once, and hands out records that are nobody else's, as a file does."""

    most = 0

    async def find(self, query: Query) -> list[StreamInfo]:
        found = await super().find(query)
        self.most = max(self.most, len(found))
        return [replace(info) for info in found]


@pytest.mark.anyio
async def test_memory_does_not_grow_with_the_store() -> None:
    """`verify` and `gc` hold a page of streams, however many there are."""
    store, peaks = Pages(), list[int]()
    with anyio.fail_after(DEADLINE_S):
        for _ in range(2):
            await fill(store, 4000 * (1 + len(peaks)))
            tracemalloc.start()
            await Inspection(store, lambda stream, what: None, Progress()).all()
            await collect(store, dry_run=True, progress=Progress())
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert store.most <= 1000
    assert peaks[1] < peaks[0] + 100_000
