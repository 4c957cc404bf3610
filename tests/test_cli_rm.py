"""`rm`: on a store alone, beside its servers, over HTTP, and against whoever else takes the stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from resumestream.errors import StreamNotFound
from resumestream.model import Gone, Lease, NewStream, Outcome, Seal, StreamId
from resumestream.recovery import delete
from resumestream.stores import MemoryStore
from resumestream.stores.peers import Alone
from resumestream.testing.provider import Script, ScriptedProvider

from .cli import Cli, Terminal, in_process, put, states
from .clients.plain import Plain
from .clients.sdks import CREDENTIAL
from .command import BODY, CHAT, DEADLINE_S, run, serving

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


def test_rm_deletes(cli: Cli, store: Path) -> None:
    """By ids, short ones too: unreadable at once, a tombstone stays; a stream without a living owner is ended first."""
    said = cli("rm", "two", "li", "live", "--store", store)
    assert (said.code, said.out, said.err) == (0, "2 streams deleted\n", "")
    assert states(cli, store) == {"live": "deleted", "three": "sealed", "two": "deleted", "one": "sealed"}
    ended = cli("show", "live", "--store", store, "--json").json()
    assert (ended["outcome"], ended["detail"]["code"], ended["owner"]["epoch"]) == ("cancelled", "deleted", 2)
    assert cli("show", "two", "--store", store, "--json").json()["outcome"] == "truncated"
    assert cli("tail", "two", "--store", store).code == 1
    assert cli("rm", "two", "--store", store).code == 0


def test_rm_forgets(cli: Cli, store: Path) -> None:
    """`--forget` leaves nothing, not even of what was deleted before."""
    assert cli("rm", "one", "--store", store).out == "1 stream deleted\n"
    said = cli("rm", "one", "live", "--store", store, "--forget")
    assert (said.code, said.out) == (0, "2 streams deleted and forgotten\n")
    assert list(states(cli, store)) == ["three", "two"]


def test_rm_by_label(cli: Cli, store: Path) -> None:
    """All that have all the labels, and no other; a second time there is nothing to do."""
    both = ("--label", "agent", "--label", "blue")
    assert cli("rm", "--store", store, *both).out == "2 streams deleted\n"
    assert states(cli, store) == {"live": "streaming", "three": "deleted", "two": "sealed", "one": "deleted"}
    again = cli("rm", "--store", store, *both)
    assert (again.code, again.out, again.err) == (0, "", "no streams\n")
    assert cli("rm", "--store", store, *both, "--forget").out == "2 streams deleted and forgotten\n"
    assert list(states(cli, store)) == ["live", "two"]


def test_rm_finds_all_before_it_deletes_any(cli: Cli, store: Path) -> None:
    """One wrong id and nothing has happened."""
    before = states(cli, store)
    said = cli("rm", "one", "nobody", "--store", store)
    assert (said.code, said.out, said.err) == (1, "", f"resumestream: there is no stream nobody in {store}\n")
    assert cli("rm", "one", "t", "--store", store).err == "resumestream: 2 streams begin with t: three, two\n"
    assert cli("rm", "", "--store", store).code == 1
    assert states(cli, store) == before


@pytest.mark.parametrize(
    ("args", "answer", "asks", "deletes"),
    [
        (("one", "two"), "n\n", True, False),
        (("one", "two"), "\n", True, False),
        (("one", "two"), "", True, False),
        (("one", "two"), "y\n", True, True),
        (("--label", "blue"), "n\n", True, False),
        (("one", "two", "--yes"), "", False, True),
        (("one", "on"), "", False, True),
        (("--label", "blue", "--label", "green"), "", False, False),
    ],
)
def test_rm_asks_on_a_terminal(
    args: tuple[str, ...],
    answer: str,
    asks: bool,
    deletes: bool,
    cli: Cli,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where more than one stream goes; anything but yes is no, and then the command has failed."""
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = cli("rm", "--store", store, *args)
    assert ("delete 2 streams?" in said.err) is asks
    assert said.code == (1 if asks and not deletes else 0)
    assert (states(cli, store)["one"] == "deleted") is deletes


@pytest.mark.parametrize("over_http", [False, True], ids=["store", "url"])
@pytest.mark.parametrize("by_label", [False, True], ids=["id", "label"])
def test_rm_stops_what_a_server_drains(
    over_http: bool, by_label: bool, tmp_path: Path, provider: ScriptedProvider
) -> None:
    """The provider is left, readers are cut, nothing is readable any more, and the server goes on."""
    provider.script(Script(tokens=20, hold_at=4))
    store = tmp_path / "streams.db"
    with serving(provider, store) as server, Plain(server.url, **{"stream-label": "mine"}) as client:
        at = ("--url", server.url, *MINE) if over_http else ("--store", store)
        response = client.begin("POST", CHAT, json.dumps(BODY).encode(), {"idempotency-key": "k"})
        assert response.read1()
        stream = response.headers["stream-id"]
        done = run("rm", *at, *(("--label", "mine") if by_label else (stream,)))
        assert (done.returncode, done.stdout, done.stderr) == (0, "1 stream deleted\n", "")
        provider.wait_for(lambda calls: calls[0].disconnected)
        assert b"[DONE]" not in client.rest(response).body
        with Plain(server.url) as other:
            told = other.get(f"/streams/{stream}/info")
            assert (told.status, told.json()["gone"]["why"], told.json()["outcome"]) == (410, "deleted", "cancelled")
            assert other.post(CHAT, BODY, {"idempotency-key": "k"}).status == 410
            assert run("rm", stream, *at, "--forget").returncode == 0
            assert other.get(f"/streams/{stream}/info").status == 404
        assert len(provider.ledger()) == 1


def test_rm_over_http_only_your_own(cli: Cli, tmp_path: Path, provider: ScriptedProvider) -> None:
    """Nobody deletes a stream of another principal; the refusal is the server's."""
    with serving(provider, tmp_path / "streams.db") as server, Plain(server.url) as client:
        stream = client.post(CHAT, BODY, {"idempotency-key": "k"}).headers["stream-id"]
        said = cli("rm", stream, "--url", server.url)
        assert (said.code, said.err) == (1, f"resumestream: There is no stream '{stream}' for this caller.\n")
        assert client.get(f"/streams/{stream}").status == 200


class Contended(MemoryStore):
    """Another process takes a stream over, or ends it, right before we would."""

    ends = False

    async def acquire(self, stream: StreamId, worker: str, *, after: int) -> Lease:
        info = await self.stat(stream)
        if info.epoch == 1:
            lease = await super().acquire(stream, "other", after=1)
            if self.ends:
                await self.seal(lease, Seal(Outcome.INTERRUPTED, "process_died", "Its server died."))
        return await super().acquire(stream, worker, after=after)


@pytest.mark.anyio
@pytest.mark.parametrize("ends", [False, True])
async def test_rm_against_a_takeover(ends: bool) -> None:
    """Whoever is faster: the stream is deleted, and ended once."""
    store = Contended()
    store.ends = ends
    with anyio.fail_after(DEADLINE_S):
        await store.create(NewStream(StreamId("s"), "p", "u", "w", store.now(), 60, 60))
        await delete(store, StreamId("s"))
        info = await store.stat(StreamId("s"))
        assert info.seal
        assert (info.gone, info.seal.outcome) == (Gone.DELETED, Outcome.INTERRUPTED if ends else Outcome.CANCELLED)
        assert ends or len(await store.ledger()) == 1


class Told(Alone):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def tell(self, worker: str) -> None:
        self.told.append(worker)


@pytest.mark.anyio
async def test_rm_tells_the_owner() -> None:
    """Whoever drained the stream hears of it at once, and not only when it next looks."""
    store, peers = MemoryStore(), Told()
    store.peers = peers
    with anyio.fail_after(DEADLINE_S):
        await store.create(NewStream(StreamId("s"), "p", "u", "owner", store.now(), 60, 60))
        await delete(store, StreamId("s"))
        await store.forget(StreamId("s"))
        assert peers.told == ["owner"]
        with pytest.raises(StreamNotFound):
            await store.stat(StreamId("s"))
