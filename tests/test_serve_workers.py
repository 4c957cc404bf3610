"""`resumestream serve --workers N` as processes: one line, one store, no worker missed, none left behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from resumestream.cli.worker import MARK
from resumestream.testing.provider import Script, ScriptedProvider

from .clients.plain import Plain
from .command import BODY, CHAT, DEADLINE_S, Process, run, serving, started

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
EVENTS = 4
"""Where a held answer waits."""


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "streams.db"


def pids(server: Process, starts: int = 2) -> dict[int, int]:
    """Each worker's process, after so many starts."""
    found = server.wait_for_err(r"worker (\d+) serves, pid (\d+)\n", starts)
    return {int(match[1]): int(match[2]) for match in found}


def stopped(pid: int) -> bool:
    """Every thread of it: the state follows the name in parentheses (proc(5))."""
    try:
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread that has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


@contextmanager
def frozen(pid: int, store: Path) -> Iterator[None]:
    """Frozen while the store's write lock was ours: who is frozen with it has everybody refused until it thaws."""
    with closing(sqlite3.connect(store, timeout=DEADLINE_S, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        os.kill(pid, signal.SIGSTOP)
        while not stopped(pid):
            time.sleep(0.001)
        other.execute("ROLLBACK")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def each_its_client(server: Process, store: Path, *workers: int) -> Iterator[list[Plain]]:
    """A connection to each of two workers, made while the other could not accept it."""
    with ExitStack() as stack:
        clients = []
        for worker in workers:
            (other,) = set(workers) - {worker}
            with frozen(other, store):
                client = stack.enter_context(Plain(server.url))
                assert client.get("/readyz").status == 200
                clients.append(client)
        yield clients


def begin(client: Plain, key: str = "k") -> http.client.HTTPResponse:
    return client.begin("POST", CHAT, json.dumps(BODY).encode(), {"idempotency-key": key})


def read(response: http.client.HTTPResponse, events: int) -> bytes:
    body = b""
    while body.count(b"\n\n") < events:
        body += response.read1()
    return body


def held(client: Plain, provider: ScriptedProvider) -> http.client.HTTPResponse:
    """An answer that waits after EVENTS, all of them read."""
    provider.script(Script(tokens=20, hold_at=EVENTS))
    response = begin(client)
    read(response, EVENTS)
    return response


def record(store: Path, stream: str) -> Any:
    """The stream, looked at from beside any server."""
    shown = run("show", stream, "--store", store, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def accepts(server: Process) -> bool:
    url = urlsplit(server.url)
    try:
        socket.create_connection((url.hostname or "", url.port or 0), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


def before_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` at the start of each worker's interpreter, and in no other."""
    lines = ["import os, sys, time", f"if {MARK!r} in os.environ:", *(f"    {line}" for line in code.splitlines())]
    (tmp_path / "sitecustomize.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)


# --- serving ---------------------------------------------------------------------------------------------------------


@BACKENDS
def test_serves_and_stops(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """One line once all accept; each log line says whose it is; SIGTERM ends idle workers at once."""
    with serving(provider, store, "--workers", 2, "--backend", backend) as server:
        assert set(pids(server)) == {1, 2}
        with Plain(server.url) as client:
            reply = client.post(CHAT, BODY, {"idempotency-key": "k"})
            assert (reply.status, reply.cut, reply.body) == (200, False, provider.sent(1))
        server.send(signal.SIGTERM)
        assert server.end(within_s=3) == 0
    assert server.stdout.decode() == f"resumestream: serving {server.url}\n"
    assert "Traceback" not in server.stderr
    logged = [re.match(r"worker \d \(pid \d+\) |(?=\d{4}-)", line) for line in server.stderr.splitlines()]
    assert len({match and match[0] for match in logged} - {None}) == 3
    assert None not in logged
    assert not accepts(server)


@BACKENDS
def test_a_stream_is_every_workers(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """What one worker drains, another one serves live, byte for byte, without a second call."""
    with (
        serving(provider, store, "--workers", 2, "--backend", backend) as server,
        each_its_client(server, store, *pids(server).values()) as (one, two),
    ):
        first = held(one, provider)
        second = begin(two)
        started_with = read(second, EVENTS)
        provider.release()
        assert started_with + two.rest(second).body == provider.sent(1)
        assert one.rest(first).cut is False
        assert first.headers["stream-id"] == second.headers["stream-id"]
        assert first.headers["stream-node"] != second.headers["stream-node"]
        assert second.headers["idempotent-replayed"] == "true"
    assert len(provider.ledger()) == 1


def test_a_frozen_worker_takes_no_connection_with_it(provider: ScriptedProvider, store: Path) -> None:
    """Whoever connects while one worker hangs is answered by another, every time, whichever it is that hangs."""
    nodes = []
    with serving(provider, store, "--workers", 2) as server:
        for turn, pid in enumerate(pids(server).values()):
            with frozen(pid, store):
                for number in range(5):
                    with Plain(server.url) as client:
                        reply = client.post(CHAT, BODY, {"idempotency-key": f"{turn}-{number}"})
                        assert reply.status == 200
                        nodes.append(reply.headers["stream-node"])
    assert len(set(nodes[:5])) == len(set(nodes[5:])) == 1
    assert nodes[0] != nodes[5]


# --- workers that die ------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_killed_worker_is_replaced(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """The other one serves on meanwhile, and the new one serves as well."""
    with serving(provider, store, "--workers", 2, "--backend", backend) as server:
        before = pids(server)
        os.kill(before[1], signal.SIGKILL)
        with Plain(server.url) as client:
            assert client.post(CHAT, BODY, {"idempotency-key": "k"}).status == 200
        after = pids(server, starts=3)
        assert after[1] != before[1]
        assert after[2] == before[2]
        with each_its_client(server, store, *after.values()) as clients:
            replies = [client.post(CHAT, BODY, {"idempotency-key": "k"}) for client in clients]
        assert [reply.body for reply in replies] == [provider.sent(1)] * 2
        server.send(signal.SIGTERM)
        assert server.end(within_s=3) == 0
    assert "worker 1 ended: killed by signal 9; starting another" in server.stderr
    assert server.stdout.decode() == f"resumestream: serving {server.url}\n"
    assert len(provider.ledger()) == 1


def test_a_stopped_worker_is_replaced(provider: ScriptedProvider, store: Path) -> None:
    """SIGTERM to one worker recycles it: its answers finish, then another takes its place."""
    with serving(provider, store, "--workers", 2) as server:
        before = pids(server)
        with each_its_client(server, store, *before.values()) as (client, _):
            response = held(client, provider)
            os.kill(before[1], signal.SIGTERM)
            server.wait_for_err(r"worker 1 .* stopping")
            provider.release()
            response.close()
            assert pids(server, starts=3)[1] != before[1]
        assert record(store, response.headers["stream-id"])["outcome"] == "completed"


def test_workers_that_never_start(
    provider: ScriptedProvider, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three starts that fail end it all, with how they failed."""
    before_workers(tmp_path, monkeypatch, "sys.stderr.write('no luck\\n')\nos._exit(7)")
    refused = run("serve", "--upstream", f"demo={provider.url}", "--store", store, "--port", 0, "--workers", 4)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("no luck\n") == 3
    assert refused.stderr.endswith("3 starts in a row failed, the last one of worker 1: exit code 7\n")
    assert "Traceback" not in refused.stderr


def test_a_worker_that_cannot_be_replaced(
    provider: ScriptedProvider, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a server is none: the rest drains, and whoever watches the supervisor sees it fail."""
    before_workers(tmp_path, monkeypatch, f"if os.path.exists({str(tmp_path / 'broken')!r}): os._exit(7)")
    with serving(provider, store, "--workers", 2) as server:
        (tmp_path / "broken").touch()
        os.kill(pids(server)[2], signal.SIGKILL)
        assert server.end() == 1
    assert server.stderr.endswith("3 starts in a row failed, the last one of worker 2: exit code 7\n")
    assert not accepts(server)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_bad_store_is_said_once(backend: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    """Whatever the number of workers, the first one finds it, and no other is started."""
    options = ("--store", tmp_path, "--port", 0, "--workers", 3, "--backend", backend)
    refused = run("serve", "--upstream", f"demo={provider.url}", *options)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"resumestream: {tmp_path} is a directory; name a file in it\n"


# --- the end ---------------------------------------------------------------------------------------------------------


@BACKENDS
def test_ends_in_time(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """All workers together have `drain_s`, and 1 s to end."""
    options = ("--workers", 2, "--backend", backend, "--drain-s", "0.5")
    with serving(provider, store, *options) as server, Plain(server.url) as reader:
        response = held(reader, provider)
        server.send(signal.SIGTERM)
        asked_at = time.monotonic()
        assert server.end() == 0
        assert 0.5 <= time.monotonic() - asked_at < 1.5
        response.close()
    seen = record(store, response.headers["stream-id"])
    assert (seen["outcome"], seen["detail"]["code"], seen["events"]) == ("interrupted", "shutdown", EVENTS)
    assert not accepts(server)


def test_a_frozen_worker_delays_nothing(provider: ScriptedProvider, store: Path) -> None:
    """What does not end by itself is killed when the time is over."""
    with serving(provider, store, "--workers", 2, "--drain-s", "0.5") as server:
        os.kill(pids(server)[2], signal.SIGSTOP)
        server.send(signal.SIGTERM)
        asked_at = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - asked_at < 1.5
    assert not accepts(server)


def test_stops_before_it_serves(
    provider: ScriptedProvider, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while a worker starts, however long that takes, is an orderly end without the line."""
    before_workers(tmp_path, monkeypatch, "sys.stderr.write('slow\\n')\ntime.sleep(60)")
    options = ("--store", store, "--port", 0, "--workers", 2, "--drain-s", "0.1")
    with started("serve", "--upstream", f"demo={provider.url}", *options) as server:
        server.wait_for_err("slow\n")
        server.send(signal.SIGTERM)
        assert server.end(within_s=3) == 0
    assert server.stdout == b""
    assert server.stderr.count("slow\n") == 1


@BACKENDS
def test_signals_to_all_processes_drain(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """Service managers send SIGTERM to supervisor and workers alike: that is one stop, and what runs finishes."""
    with serving(provider, store, "--workers", 2, "--backend", backend) as server, Plain(server.url) as reader:
        response = held(reader, provider)
        server.send(signal.SIGTERM)
        for pid in pids(server).values():
            os.kill(pid, signal.SIGTERM)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
        for pid in pids(server).values():
            os.kill(pid, signal.SIGTERM)
        provider.release()
        assert server.end(within_s=5) == 0
    seen = record(store, response.headers["stream-id"])
    assert (seen["outcome"], seen["bytes"]) == ("completed", len(provider.sent(1)))


@BACKENDS
def test_a_second_signal_hurries(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """Whoever asks twice does not wait for the drain; everything is sealed all the same."""
    with serving(provider, store, "--workers", 2, "--backend", backend) as server, Plain(server.url) as reader:
        response = held(reader, provider)
        server.send(signal.SIGINT)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
        server.send(signal.SIGINT)
        assert server.end(within_s=2) == 0
    assert record(store, response.headers["stream-id"])["outcome"] == "interrupted"
    assert "Traceback" not in server.stderr


@BACKENDS
def test_no_orphans(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """Workers whose supervisor was killed drain and end by themselves."""
    options = ("--workers", 2, "--backend", backend, "--drain-s", "0.5")
    with serving(provider, store, *options) as server, Plain(server.url) as reader:
        response = held(reader, provider)
        assert len(pids(server)) == 2
        killed_at = time.monotonic()
        server.kill()  # and read its standard error to the end, which the workers have, too
        assert 0.5 <= time.monotonic() - killed_at < 3
        assert not accepts(server)
        response.close()
    seen = record(store, response.headers["stream-id"])
    assert (seen["outcome"], seen["detail"]["code"]) == ("interrupted", "shutdown")
    assert "Traceback" not in server.stderr
