"""`resumestream serve` as a process: it starts with one line, ends in time, and its log outlives a kill."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from resumestream.cli import main
from resumestream.testing.provider import Script, ScriptedProvider

from .clients.plain import Plain
from .command import BODY, CHAT, run, serving, started

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "streams.db"


def record(store: Path, stream: str) -> Any:
    """The stream, looked at from beside any server."""
    shown = run("show", stream, "--store", store, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def open_chat(client: Plain, provider: ScriptedProvider, key: str = "k", events: int = 4) -> http.client.HTTPResponse:
    """An answer that waits after so many events, all of them read."""
    provider.script(Script(tokens=20, hold_at=events))
    headers = {"idempotency-key": key}
    response = client.begin("POST", CHAT, json.dumps(BODY).encode(), headers)
    body = b""
    while body.count(b"\n\n") < events:
        body += response.read1()
    return response


def is_cut(response: http.client.HTTPResponse) -> bool:
    """Read to the end: did it break?"""
    try:
        while response.read1():
            pass
    except (http.client.IncompleteRead, ConnectionError):
        return True
    return False


# --- the start -------------------------------------------------------------------------------------------------------


@BACKENDS
def test_serves_and_stops(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """One line once it accepts, the gateway at the root, logs elsewhere; SIGTERM ends an idle server at once."""
    with serving(provider, store, "--backend", backend) as server:
        with Plain(server.url) as client:
            reply = client.post(CHAT, BODY, {"idempotency-key": "k"})
            assert (reply.status, reply.cut, reply.body) == (200, False, provider.sent(1))
            assert reply.headers["location"] == f"/streams/{reply.headers['stream-id']}?live=events"
            assert client.get("/readyz").status == 200
        server.send(signal.SIGTERM)
        assert server.end(within_s=3) == 0
        assert server.stdout.decode() == f"resumestream: serving {server.url}\n"
        assert str(store) in server.stderr
        assert "survives a kill of this process" in server.stderr
        assert "Traceback" not in server.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "nothing to serve"),
        (("opnai",), "'opnai' is not a known one"),
        (("--upstream", "a=ftp://b"), "--upstream a: "),
        (("--upstream", "a"), "not NAME=URL"),
        (("--upstream", "streams=http://b"), "'streams' cannot be used"),
        (("openai", "--upstream", "openai=http://b"), "given twice"),
        (("openai", "--store", "memory:", "--workers", "2"), "a memory store lives in one process"),
        (("openai", "--store", "ftp://x"), "not understood"),
        (("openai", "--retain-s", "-1"), "retain_s"),
        (("openai", "--durability", "none"), "durability"),
    ],
)
def test_refuses_what_it_cannot_serve(
    args: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong options are a usage error that says which one, before anything is touched."""
    monkeypatch.setenv("RESUMESTREAM_STORE", str(tmp_path / "streams.db"))
    monkeypatch.setattr(sys, "argv", ["resumestream", "serve", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_worker_on_windows(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows cannot share the listening socket, and says so."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "argv", ["resumestream", "serve", "openai", "--workers", "2", "--store", str(store)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--workers is 1 on Windows" in capsys.readouterr().err


def test_trio_names_its_extra(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without trio or hypercorn the refusal says what to install."""
    monkeypatch.setitem(sys.modules, "hypercorn.trio", None)
    monkeypatch.setattr(sys, "argv", ["resumestream", "serve", "openai", "--backend", "trio", "--store", str(store)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "resumestream[trio]" in capsys.readouterr().err


def test_known_names_need_no_url(store: Path) -> None:
    """A known name serves; nothing is called until somebody asks."""
    with started("serve", "openai", "anthropic", "--store", store, "--port", "0") as server:
        assert server.wait_for_line().startswith("resumestream: serving http://127.0.0.1:")


def test_taken_port(provider: ScriptedProvider, store: Path) -> None:
    """A port that is taken is said in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("serve", "--upstream", f"demo={provider.url}", "--store", store, "--port", port)
    assert refused.returncode == 1
    assert f"cannot listen on http://127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_warns_beyond_this_machine(provider: ScriptedProvider, store: Path) -> None:
    """Whoever listens on all addresses is told who gets in."""
    options = ("--upstream", f"demo={provider.url}", "--store", store, "--port", 0, "--host", "0.0.0.0")
    with started("serve", *options) as server:
        server.wait_for_line()
        server.send(signal.SIGTERM)
        assert server.end() == 0
    assert "listening beyond this machine" in server.stderr


# --- the store -------------------------------------------------------------------------------------------------------


def damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)


def foreign(path: Path) -> None:
    path.write_bytes(b"Dear diary, today I was taken for a database." * 100)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE future (id)")
        conn.execute(f"PRAGMA application_id = {0x7273_7472}")
        conn.execute("PRAGMA user_version = 99")
    conn.close()


def directory(path: Path) -> None:
    path.mkdir()


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_bytes(b"no directory")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damaged, "not a resumestream store"),
        (foreign, "not a resumestream store"),
        (newer, "newer resumestream (format 99"),
        (directory, "is a directory"),
        (below_a_file, "cannot be made"),
    ],
)
def test_unusable_store(spoil: Any, said: str, provider: ScriptedProvider, tmp_path: Path) -> None:
    """A store that cannot be used ends the start with one line that says why; nothing is served."""
    store = tmp_path / "folder" / "streams.db"
    store.parent.mkdir()
    spoil(store)
    refused = run("serve", "--upstream", f"demo={provider.url}", "--store", store, "--port", "0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert said in refused.stderr
    assert str(store) in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_second_server(provider: ScriptedProvider, store: Path) -> None:
    """It serves the same streams: what one was paid for, the other answers without a call."""
    with serving(provider, store) as server, serving(provider, store) as second:
        with Plain(server.url) as client, Plain(second.url) as other:
            first = client.post(CHAT, BODY, {"idempotency-key": "k"})
            again = other.post(CHAT, BODY, {"idempotency-key": "k"})
        assert again.headers["idempotent-replayed"] == "true"
        assert first.body == again.body == provider.sent(1)
        assert first.headers["stream-node"] != again.headers["stream-node"]
        assert len(provider.ledger()) == 1


# --- the end ---------------------------------------------------------------------------------------------------------


@BACKENDS
def test_drains_before_it_ends(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """SIGTERM cuts readers and admits nothing, and what runs finishes: the log has it whole."""
    with serving(provider, store, "--backend", backend) as server, Plain(server.url) as reader:
        response = open_chat(reader, provider)
        server.send(signal.SIGTERM)
        assert is_cut(response)
        with Plain(server.url) as late:
            refused = late.post(CHAT, BODY, {"idempotency-key": "other"})
            assert (refused.status, refused.json()["error"]["code"]) == (503, "draining")
            assert late.get("/readyz").status == 503
        provider.release()
        assert server.end(within_s=5) == 0
        assert "Traceback" not in server.stderr
    seen = record(store, response.headers["stream-id"])
    assert (seen["outcome"], seen["bytes"]) == ("completed", len(provider.sent(1)))
    assert len(provider.ledger()) == 1


@BACKENDS
def test_ends_in_time(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """What does not finish in `drain_s` is sealed `interrupted`, with what came; the process ends 1 s later at most."""
    with serving(provider, store, "--backend", backend, "--drain-s", "0.5") as server, Plain(server.url) as reader:
        response = open_chat(reader, provider)
        server.send(signal.SIGTERM)
        asked_at = time.monotonic()
        assert server.end() == 0
        assert 0.5 <= time.monotonic() - asked_at < 1.5
        assert is_cut(response)
    seen = record(store, response.headers["stream-id"])
    assert (seen["outcome"], seen["detail"]["code"], seen["events"]) == ("interrupted", "shutdown", 4)


@BACKENDS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_hurries(backend: str, number: signal.Signals, provider: ScriptedProvider, store: Path) -> None:
    """Whoever asks twice does not wait for the drain; everything is sealed all the same."""
    with serving(provider, store, "--backend", backend) as server, Plain(server.url) as reader:
        response = open_chat(reader, provider)
        server.send(number)
        assert is_cut(response)
        server.send(number)
        assert server.end(within_s=2) == 0
        assert "Traceback" not in server.stderr
    assert record(store, response.headers["stream-id"])["outcome"] == "interrupted"


@BACKENDS
def test_a_deaf_reader_delays_nothing(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """A reader that takes no byte cannot keep the process alive."""
    event = b"data: " + b"x" * 100_000 + b"\n\n"
    provider.script(Script(body=event * 200 + b"data: [DONE]\n\n"))
    with serving(provider, store, "--backend", backend, "--drain-s", "0.5") as server:
        url = urlsplit(server.url)
        with socket.create_connection((url.hostname, url.port)) as deaf:
            deaf.sendall(
                b"POST /demo/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k\r\n"
                b'content-length: 16\r\n\r\n{"stream": true}'
            )
            provider.wait_for(lambda calls: any(call.finished for call in calls), timeout_s=20)
            server.send(signal.SIGTERM)
            asked_at = time.monotonic()
            assert server.end() == 0
            assert time.monotonic() - asked_at < 1.5
    with serving(provider, store) as server, Plain(server.url) as client:
        assert client.get("/streams").status == 200


@BACKENDS
def test_a_kill_loses_nothing_seen(backend: str, provider: ScriptedProvider, store: Path) -> None:
    """After SIGKILL the next start seals `interrupted`, and what a reader had seen is there, byte for byte."""
    provider.script(Script(tokens=20, hold_at=7))
    with serving(provider, store, "--backend", backend) as server, Plain(server.url) as reader:
        response = reader.begin("POST", CHAT, json.dumps(BODY).encode(), {"idempotency-key": "k"})
        seen = b""
        while seen.count(b"\n\n") < 7:
            seen += response.read1()
        stream = response.headers["stream-id"]
        server.kill()
        response.close()
    assert record(store, stream)["state"] == "streaming"  # looking at it recovers nothing
    with serving(provider, store, "--backend", backend) as server, Plain(server.url) as reader:
        head = reader.head(f"/streams/{stream}").headers
        assert (head["stream-state"], head["stream-outcome"]) == ("sealed", "interrupted")
        assert reader.get(f"/streams/{stream}").body.startswith(seen)
        again = reader.post(CHAT, BODY, {"idempotency-key": "k"})
        assert again.headers["stream-id"] == stream
    assert len(provider.ledger()) == 1


# --- cancelled from beside it ----------------------------------------------------------------------------------------


def test_a_stored_stop_is_carried_out(provider: ScriptedProvider, store: Path) -> None:
    """`cancel --store` reaches the running server: the provider is left, the partial kept."""
    with serving(provider, store) as server, Plain(server.url) as reader:
        response = open_chat(reader, provider)
        stream = response.headers["stream-id"]
        asked = run("cancel", stream, "--store", store)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert f"{stream} is to be stopped" in asked.stdout
        provider.wait_for(lambda calls: calls[0].disconnected)
        seen = record(store, stream)
        assert (seen["outcome"], seen["events"]) == ("cancelled", 4)
        response.close()


def test_a_stored_stop_waits_for_a_server(provider: ScriptedProvider, store: Path) -> None:
    """`cancel` on a store that nobody serves is kept: the next start seals `cancelled`."""
    with serving(provider, store) as server, Plain(server.url) as reader:
        stream = open_chat(reader, provider).headers["stream-id"]
        server.kill()
    assert run("cancel", stream[:8], "--store", store).returncode == 0
    seen = record(store, stream)
    assert (seen["state"], seen["cancel_requested"]) == ("streaming", True)
    with serving(provider, store):
        assert record(store, stream)["outcome"] == "cancelled"


def test_a_copied_store_serves(provider: ScriptedProvider, store: Path, tmp_path: Path) -> None:
    """A store is one file once its server has ended: moved elsewhere it has everything, keys included."""
    with serving(provider, store) as server, Plain(server.url) as client:
        first = client.post(CHAT, BODY, {"idempotency-key": "k"})
        server.send(signal.SIGTERM)
        assert server.end() == 0
    moved = shutil.copy(store, tmp_path / "moved.db")
    with serving(provider, moved) as server, Plain(server.url) as client:
        again = client.post(CHAT, BODY, {"idempotency-key": "k"})
        assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(provider.ledger()) == 1
