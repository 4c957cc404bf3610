"""`ls`, `show`, `tail`, `cancel`: beside a server, without one, and over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resumestream.cli.where import resolve
from resumestream.model import Gone, Outcome
from resumestream.testing.provider import Script, ScriptedProvider

from .cli import EVENTS, Cli, in_process, put
from .clients.plain import Plain
from .clients.sdks import CREDENTIAL
from .command import BODY, CHAT, DEADLINE_S, command, environment, read_some, run, serving, started


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
    """Three streams: one that went well, one that did not, one whose server died."""
    path = tmp_path / "streams.db"
    put(path, "well-1", Outcome.COMPLETED, labels=("agent", "blue"))
    put(path, "cut-22", Outcome.TRUNCATED, upstream="other", message="other.example closed the connection")
    put(path, "we-live", None, labels=("agent",))
    return path


# --- ls --------------------------------------------------------------------------------------------------------------


def test_ls_is_a_table(cli: Cli, store: Path) -> None:
    """A line a stream, newest first: how it ended or where it is, and what it is worth."""
    said = cli("ls", "--store", store)
    assert (said.code, said.err) == (0, "")
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0] == ["id", "state", "upstream", "bytes", "events", "age", "labels"]
    size = str(sum(map(len, EVENTS)))
    assert [line[:5] for line in lines[2:]] == [
        ["we-live", "streaming", "demo", size, "3"],
        ["cut-22", "truncated", "other", size, "3"],
        ["well-1", "completed", "demo", size, "3"],
    ]
    assert lines[4][6:] == ["agent", "blue"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), ["we-live", "cut-22", "well-1"]),
        (("--state", "sealed"), ["cut-22", "well-1"]),
        (("--upstream", "other"), ["cut-22"]),
        (("--label", "agent"), ["we-live", "well-1"]),
        (("--label", "agent", "--label", "blue"), ["well-1"]),
        (("--limit", "2"), ["we-live", "cut-22"]),
        (("--label", "green"), []),
    ],
)
def test_ls_filters(options: tuple[str, ...], ids: list[str], cli: Cli, store: Path) -> None:
    """All conditions hold; `--json` is one document."""
    said = cli("ls", "--store", store, "--json", *options)
    assert said.code == 0
    assert [record["id"] for record in said.json()["streams"]] == ids


def test_ls_of_nothing(cli: Cli, store: Path) -> None:
    """No stream is no error, and nothing on standard output that a script could take for one."""
    said = cli("ls", "--store", store, "--label", "green")
    assert (said.code, said.out, said.err) == (0, "", "no streams\n")


def test_what_has_expired_looks_so(cli: Cli, tmp_path: Path) -> None:
    """Retention holds for who looks from beside, too: before anybody purged, and after."""
    store = tmp_path / "streams.db"
    put(store, "old", Outcome.COMPLETED, retain_s=0.0)
    put(store, "deleted", Outcome.COMPLETED, gone=Gone.DELETED)
    table = cli("ls", "--store", store).out
    assert "expired (completed)" in table
    assert "deleted (completed)" in table
    assert cli("show", "old", "--store", store, "--json").json()["state"] == "expired"
    for stream in ("old", "deleted"):
        said = cli("tail", stream, "--store", store)
        assert (said.code, said.out) == (1, "")
        assert f"stream {stream} was" in said.err.lower()


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_begins_with_a_sentence(cli: Cli, store: Path) -> None:
    """What happened, for people; then the fields."""
    said = cli("show", "cut-22", "--store", store)
    lines = said.out.splitlines()
    assert lines[:2] == ["truncated: other.example closed the connection", ""]
    fields = dict(line.split(maxsplit=1) for line in lines[2:])
    assert fields["outcome"].strip() == "truncated"
    assert "req_1" in fields["attempts"]
    assert cli("show", "cut-22", "--store", store, "--json").json()["outcome"] == "truncated"


def test_ids_may_be_short(cli: Cli, store: Path) -> None:
    """A prefix that fits one stream only names it; the refusals say what is wrong with others."""
    assert cli("show", "cut", "--store", store, "--json").json()["id"] == "cut-22"
    ambiguous = cli("show", "we", "--store", store)
    assert (ambiguous.code, ambiguous.out) == (1, "")
    assert ambiguous.err == "resumestream: 2 streams begin with we: we-live, well-1\n"
    unknown = cli("show", "nobody", "--store", store)
    assert (unknown.code, unknown.err) == (1, f"resumestream: there is no stream nobody in {store}\n")


def test_no_control_sequence_reaches_a_terminal(cli: Cli, tmp_path: Path) -> None:
    """A provider writes part of a message: it cannot steer the terminal, nor style the text."""
    store = tmp_path / "streams.db"
    put(store, "bad", Outcome.PROVIDER_ERROR, message="it said \x1b]0;owned\x07 [bold]loud[/bold]")
    said = cli("show", "bad", "--store", store)
    assert "\x1b" not in said.out
    assert "[bold]loud[/bold]" in said.out


# --- tail ------------------------------------------------------------------------------------------------------------


def test_tail_gives_the_payload(cli: Cli, store: Path) -> None:
    """The bytes as they are, from the start or an offset, and success for what is complete."""
    said = cli("tail", "well-1", "--store", store)
    assert (said.code, said.out, said.err) == (0, b"".join(EVENTS).decode(), "")
    at = len(EVENTS[0])
    assert cli("tail", "well-1", "--store", store, "--offset", f"{at:016}").out == b"".join(EVENTS[1:]).decode()


def test_tail_tells_a_failure(cli: Cli, store: Path) -> None:
    """What came is written, then the exit code and standard error say that it is not all."""
    said = cli("tail", "cut-22", "--store", store)
    assert (said.code, said.out) == (1, b"".join(EVENTS).decode())
    assert said.err == "resumestream: truncated: other.example closed the connection\n"


@pytest.mark.parametrize("offset", ["x", "-2", "99999", "s02.0000000000000000"])
def test_tail_refuses_bad_offsets(offset: str, cli: Cli, store: Path) -> None:
    """Neither malformed ones nor those beyond the tail start anything."""
    said = cli("tail", "well-1", "--store", store, f"--offset={offset}")
    assert (said.code, said.out) == (1, "")
    assert "ffset" in said.err or "segment" in said.err


def test_a_broken_pipe_is_silent(tmp_path: Path, provider: ScriptedProvider) -> None:
    """`tail ... | head -1`: nobody hears of it."""
    provider.script(Script(tokens=20_000))
    store = tmp_path / "streams.db"
    with serving(provider, store) as server, Plain(server.url) as client:
        stream = client.post(CHAT, BODY, {"idempotency-key": "k"}).headers["stream-id"]
        tail = subprocess.Popen(
            command("tail", stream, "--store", store),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with tail:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert tail.stdout.readline().startswith(b"data: ")
            tail.stdout.close()
            assert tail.stderr.read() == b""
            assert tail.wait(DEADLINE_S) == 1


# --- beside a running server -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("over_http", [False, True], ids=["store", "url"])
def test_follows_a_live_stream(over_http: bool, tmp_path: Path, provider: ScriptedProvider) -> None:
    """`ls` and `show` see it streaming, `tail` goes along with it to the end, whoever holds the store."""
    provider.script(Script(tokens=20, hold_at=4))
    token = tmp_path / "token"
    token.write_text(f"{CREDENTIAL}\n")
    store = tmp_path / "streams.db"
    with serving(provider, store) as server, Plain(server.url) as client:
        at = ("--url", server.url, "--token-file", token) if over_http else ("--store", store)
        some, stream = read_some(client, "k")
        listed = json.loads(run("ls", *at, "--state", "streaming", "--json").stdout)["streams"]
        assert [record["id"] for record in listed] == [stream]
        assert run("show", stream, *at).stdout.startswith("streaming: ")
        with started("tail", stream, *at) as tail:
            assert tail.wait_for_out(len(some)).startswith(some)
            provider.release()
            assert tail.end() == 0
            assert (tail.stdout, tail.stderr) == (provider.sent(1), "")
        assert run("show", stream, *at).stdout.startswith("completed: ")


def test_over_http_a_failure_is_told(tmp_path: Path, provider: ScriptedProvider) -> None:
    """A stream that was cut ends `tail --url` with what came, its outcome and a failure; `cancel` says what it did."""
    provider.script(Script(tokens=20, hold_at=4))
    with serving(provider, tmp_path / "streams.db") as server, Plain(server.url) as client:
        at = ("--url", server.url, "--header", f"Authorization: Bearer {CREDENTIAL}")
        some, stream = read_some(client, "k")
        with started("tail", stream, *at) as tail:
            tail.wait_for_out(len(some))
            stopped = run("cancel", stream, *at)
            assert (stopped.returncode, stopped.stdout) == (0, f"{stream} is being stopped\n")
            assert tail.end() == 1
            assert tail.stderr.startswith("resumestream: cancelled: stopped on request")
            assert tail.stderr.count("\n") == 1
            assert provider.sent(1).startswith(tail.stdout)
        again = run("cancel", stream, *at)
        assert (again.returncode, again.stdout.split(": ")[0]) == (0, f"{stream} has ended before")


def test_over_http_a_going_server_says_how_to_read_on(tmp_path: Path, provider: ScriptedProvider) -> None:
    """A tail that is cut by the server's end does not take the stream for ended."""
    provider.script(Script(tokens=20, hold_at=4))
    with serving(provider, tmp_path / "streams.db") as server, Plain(server.url) as client:
        some, stream = read_some(client, "k")
        at = ("--url", server.url, "--header", f"Authorization: Bearer {CREDENTIAL}")
        with started("tail", stream, *at) as tail:
            tail.wait_for_out(len(some))
            server.process.terminate()
            assert tail.end() == 1
            assert f"read on with --offset {len(tail.stdout)}" in tail.stderr
        provider.release()
        assert server.end() == 0


def test_a_server_shows_only_your_own(cli: Cli, tmp_path: Path, provider: ScriptedProvider) -> None:
    """Without the caller's credential its streams are not there; the server's refusal is passed on."""
    with serving(provider, tmp_path / "streams.db") as server, Plain(server.url) as client:
        stream = client.post(CHAT, BODY, {"idempotency-key": "k"}).headers["stream-id"]
        assert cli("ls", "--url", server.url, "--json").json() == {"streams": []}
        said = cli("show", stream, "--url", server.url)
        assert (said.code, said.out) == (1, "")
        assert said.err == f"resumestream: There is no stream '{stream}' for this caller.\n"
        mine = ("--url", server.url, "--header", f"Authorization: Bearer {CREDENTIAL}")
        assert [record["id"] for record in cli("ls", *mine, "--json").json()["streams"]] == [stream]
        assert cli("ls", *mine, "--limit", "0").code == 2


def test_what_is_no_server(cli: Cli, provider: ScriptedProvider) -> None:
    """Something else at the URL, or nothing at all, is said in one line."""
    other = cli("ls", "--url", provider.url)
    assert (other.code, other.err.count("\n")) == (1, 1)
    assert "is --url the mount point" in other.err
    nobody = cli("ls", "--url", "http://127.0.0.1:1")
    assert (nobody.code, nobody.err.count("\n")) == (1, 1)
    assert "cannot be reached" in nobody.err


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("ls", "--store", "a", "--url", "http://b"),
        ("ls", "--store", "memory:"),
        ("ls", "--store", "ftp://a"),
        ("ls", "--state", "sleeping"),
        ("ls", "--limit", "0"),
        ("ls", "--header", "a: b"),
        ("ls", "--url", "http://a", "--header", "a"),
        ("ls", "--url", "http://a", "--token-file", "/no/such/file"),
        ("ls", "--url", "a"),
        ("show",),
        ("ls", "--limit", "1001"),
        ("rm",),
        ("rm", "x", "--label", "y"),
        ("rm", "x", "--header", "a: b"),
        ("rm", "x", "--store", "memory:"),
        ("gc", "x"),
        ("gc", "--store", "memory:"),
        ("gc", "--url", "http://a"),
        ("verify", "--store", "memory:"),
        ("verify", "--url", "http://a"),
        ("usage", "--by", "colour"),
        ("usage", "--since", "yesterday"),
        ("usage", "--store", "memory:"),
        ("forecast",),
    ],
    ids=" ".join,
)
def test_wrong_usage(args: tuple[str, ...], cli: Cli) -> None:
    """Exit code 2 and a word on standard error; commands that are not there yet are wrong usage, too."""
    said = cli(*args)
    assert (said.code, said.out) == (2, "")
    assert said.err


def test_a_store_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    """Looking makes nothing."""
    said = cli("ls", "--store", tmp_path / "streams.db")
    assert (said.code, said.out) == (1, "")
    assert "there is no store at" in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_default_store(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line, then the environment, then the user's data directory."""
    monkeypatch.setenv("RESUMESTREAM_STORE", str(store))
    assert len(cli("ls", "--json").json()["streams"]) == 3
    assert resolve("other.db") == "other.db"
    monkeypatch.setenv("RESUMESTREAM_STORE", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Path(resolve(None)).parts[-2:] == ("resumestream", "streams.db")
    assert tmp_path in Path(resolve(None)).parents
    if sys.platform == "linux":
        assert resolve(None) == os.fspath(tmp_path / "data" / "resumestream" / "streams.db")
        monkeypatch.delenv("XDG_DATA_HOME")
        assert resolve(None) == os.fspath(tmp_path / ".local" / "share" / "resumestream" / "streams.db")
