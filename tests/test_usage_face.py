"""`GET /usage` and `resumestream usage`: who sees what, and sums that are the provider's own ledger's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from resumestream import Policy, Principal, ResumeStream, Upstream, anyone
from resumestream.http.access import Action
from resumestream.model import Gone, Outcome
from resumestream.testing import Script, ScriptedProvider, running

from .bare import exchange, request
from .cli import SIZE, Cli, in_process, put
from .clients.plain import Plain
from .clients.sdks import CREDENTIAL
from .command import BODY as ASKED
from .command import CHAT, serving
from .wire import Client, Reply, served

SERVERS = ["uvicorn", "hypercorn-trio"]
PROMPT = "canary-prompt-5d1f"
KEY = "canary-key-77aa"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line, in this process."""
    return in_process(monkeypatch, capsys, tmp_path)


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


async def hook(conn: HTTPConnection, action: Action) -> Principal | None:
    """`Bearer no` is nobody, `Bearer boss` an admin, and everybody else who they say."""
    name = conn.headers.get("authorization", "").removeprefix("Bearer ") or "no"
    return None if name == "no" else Principal(name, admin=name == "boss")


def asking(provider: ScriptedProvider) -> dict[str, Upstream]:
    return {"openai": Upstream(provider.url, include_usage=True)}


def usage(client: Client, query: str = "", who: str = "boss") -> Any:
    reply = client.get(f"/usage{query}", authorization=f"Bearer {who}")
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    return reply.json


def called(client: Client, provider: ScriptedProvider) -> Reply:
    """One call by ann, with one attach while it runs and two replays afterwards."""
    provider.script(Script(tokens=20, hold_at=4))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    sent = {"authorization": "Bearer ann", "idempotency_key": KEY, "stream_label": "blue"}
    first = client.open("POST", "/openai/v1/chat/completions", body, **sent)
    attached = client.open("POST", "/openai/v1/chat/completions", body, **sent)
    provider.release()
    replies = first.rest(), attached.rest()
    beyond = client.ask("POST", "/openai/v1/chat/completions", body, **sent, stream_offset="99999999")
    assert beyond.status == 416  # and counts as nothing
    late = [client.ask("POST", "/openai/v1/chat/completions", body, **sent) for _ in range(2)]
    assert {reply.body for reply in (*replies, *late)} == {replies[0].body}
    return replies[0]


@pytest.mark.parametrize("server", SERVERS)
def test_sums_are_the_providers_own(provider: ScriptedProvider, server: str) -> None:
    """One call is one call however many read it; reads by id cost nothing and count nowhere."""
    with served(provider, upstreams=asking(provider), authorize=hook, server=server) as client:
        stream = called(client, provider).stream
        for path in (f"/streams/{stream}", f"/streams/{stream}?live=tail", f"/streams/{stream}?live=events"):
            assert client.get(path, authorization="Bearer ann").status == 200
        told = usage(client)
        (call,) = provider.ledger()
        total = told["total"]
        assert (total["calls"], total["outcomes"], total["attaches"], total["replays"]) == (1, {"completed": 1}, 1, 2)
        assert (total["tokens"]["output"], total["calls_without_usage"]) == (call.tokens_billed, 0)
        times_three = {name: 3 * count for name, count in total["tokens"].items()}
        assert total["plain_retries"] == {
            "estimate": True,
            "calls": 3,
            "tokens": times_three,
            "calls_without_usage": 0,
        }
        assert told["groups"] == [{"model": "m", **total}]
        assert (told["by"], told["since"]) == ("model", None)
        assert usage(client, "?by=label")["groups"] == [{"label": "blue", **total}]
        assert usage(client, "?by=principal&since=1h")["groups"] == [{"principal": "ann", **total}]
        assert usage(client, "?since=0s")["total"]["calls"] == 0


def test_a_refusal_that_is_told_again_avoids_no_call(provider: ScriptedProvider) -> None:
    """A plain retry would have been refused as well, and nobody pays for that."""
    with served(provider, upstreams=asking(provider), authorize=hook) as client:
        provider.script(Script(status=429, headers={"retry-after": "30"}))
        for _ in range(3):
            assert client.post("k", authorization="Bearer ann").status == 429
        total = usage(client)["total"]
        assert len(provider.ledger()) == total["calls"] == 1
        assert (total["attaches"], total["replays"], total["plain_retries"]["calls"]) == (0, 0, 0)


@pytest.mark.parametrize("place", ["sqlite:///{}/streams.db", "file://{}/streams"])
def test_sums_outlive_the_server_and_the_answers(provider: ScriptedProvider, tmp_path: Path, place: str) -> None:
    """After a restart, an expiry and a deletion they are the same: what was paid stays paid."""
    store = place.format(tmp_path)
    more: dict[str, Any] = {"upstreams": asking(provider), "authorize": hook, "store": store}
    with served(provider, **more) as client:
        stream = called(client, provider).stream
    with served(provider, **more) as client:
        before = usage(client)
        assert (before["total"]["calls"], before["total"]["attaches"], before["total"]["replays"]) == (1, 1, 2)
        assert client.ask("DELETE", f"/streams/{stream}?forget=true", authorization="Bearer ann").status == 204
        assert usage(client) | {"until": 0} == before | {"until": 0}
        provider.reset()
        sent = {"authorization": "Bearer ann", "stream_retain": "0"}
        stream = client.post("short", **sent).stream
        client.post("short", **sent)
        after = usage(client)["total"]
        assert client.get(f"/streams/{stream}", authorization="Bearer ann").status == 410
        assert (after["calls"], after["attaches"] + after["replays"]) == (2, 3)
    with served(provider, **more) as client:
        assert usage(client)["total"] == after


def test_everybody_sees_their_own(provider: ScriptedProvider) -> None:
    """Whatever they ask by; an admin sees all."""
    with served(provider, upstreams=asking(provider), authorize=hook) as client:
        called(client, provider)
        provider.reset()
        client.post("k", authorization="Bearer bob")
        for by in ("model", "label", "principal"):
            assert usage(client, f"?by={by}", "ann")["total"]["replays"] == 2
            assert usage(client, f"?by={by}", "bob")["total"]["replays"] == 0
            assert usage(client, f"?by={by}", "bob")["total"]["calls"] == 1
            assert usage(client, f"?by={by}", "eve")["groups"] == []
        everybody = usage(client, "?by=principal")
        assert ({it["principal"] for it in everybody["groups"]}, everybody["total"]["calls"]) == ({"ann", "bob"}, 2)


def test_no_key_prompt_or_credential_is_told(provider: ScriptedProvider) -> None:
    """The principal is a hash, and a stream's key is nowhere."""
    with served(provider, upstreams=asking(provider), authorize=anyone) as client:
        provider.script(Script())
        secret = "Bearer sk-canary-1234567890abcdef"
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
        client.ask("POST", "/openai/v1/chat/completions", body, authorization=secret, idempotency_key=KEY)
        for by in ("model", "label", "principal"):
            reply = client.get(f"/usage?by={by}", authorization=secret)
            assert reply.json["total"]["calls"] == 1
            assert [canary for canary in (b"sk-canary", KEY.encode(), PROMPT.encode()) if canary in reply.body] == []


# --- refusals --------------------------------------------------------------------------------------------------------


def test_in_a_mount_it_is_off(provider: ScriptedProvider) -> None:
    """Without a hook nobody finds it, whatever they show and however they ask; other paths look the same."""
    with served(provider) as client:
        for path in ("/usage", "/usage?by=colour", "/usage/", "/usage/x"):
            for method in ("GET", "POST"):
                assert client.ask(method, path).status == 404
                assert client.ask(method, path, authorization="").status == 404


def test_who_is_not_admitted_finds_nothing(provider: ScriptedProvider) -> None:
    """The hook's no is a 404 in a mount; what else is wrong is told to those who are admitted."""
    with served(provider, authorize=hook) as client:
        assert client.get("/usage?by=colour", authorization="Bearer no").status == 404
        for query in ("?by=colour", "?since=yesterday", "?since=", "?since=1", "?by="):
            refusal = client.get(f"/usage{query}", authorization="Bearer ann")
            assert (refusal.status, refusal.json["type"].rpartition(":")[2]) == (400, "invalid-query")
        assert client.ask("POST", "/usage", authorization="Bearer ann").status == 405


def test_a_server_of_ones_own_goes_by_its_hook(provider: ScriptedProvider) -> None:
    """There is no host app to hide it from: the refusal is what it is elsewhere."""
    streams = ResumeStream("memory:", asking(provider), Policy(drain_s=0), authorize=hook)
    with running(streams.asgi) as base:
        client = Client(base)
        assert client.get("/usage", authorization="Bearer no").status == 401
        assert usage(client)["total"]["calls"] == 0


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_on_a_server_and_on_its_store(cli: Cli, provider: ScriptedProvider, tmp_path: Path) -> None:
    """The same sums; at a server one's own, by the loopback rule, and in its store all."""
    store = tmp_path / "streams.db"
    with serving(provider, store) as server, Plain(server.url) as client:
        provider.script(Script())
        for _ in range(3):
            client.post(CHAT, ASKED, {"idempotency-key": "k", "stream-label": "blue"})
        mine = ("--url", server.url, "--header", f"Authorization: Bearer {CREDENTIAL}", "--by", "label")
        told = cli("usage", *mine, "--json").json()
        (group,) = told["groups"]
        assert (group["label"], group["calls"], group["attaches"] + group["replays"]) == ("blue", 1, 2)
        beside = cli("usage", "--store", store, "--by", "label", "--json").json()
        assert beside | {"until": 0} == told | {"until": 0}
        assert cli("usage", *mine, "--since", "0s", "--json").json()["groups"] == []
        assert cli("usage", "--url", server.url, "--json").json()["groups"] == []
        lines = cli("usage", *mine).out.splitlines()
        assert lines[0].split()[:5] == ["label", "calls", "completed", "attaches", "replays"]
        assert lines[-1].startswith("2 calls avoided: as plain retries they would have taken an estimated ")
        for forwarded in (("X-Forwarded-For", "1.2.3.4"), ("Origin", "https://app.example")):
            bearer = ("Authorization", f"Bearer {CREDENTIAL}")
            assert exchange(server.url, request("GET", "/usage", bearer, forwarded)).status == 403


def test_the_command_on_a_store_alone(cli: Cli, tmp_path: Path) -> None:
    """Everybody's calls, also of what is gone; what told no usage is said."""
    store = tmp_path / "streams.db"
    put(store, "well-1", Outcome.COMPLETED, labels=("blue", "red"))
    put(store, "gone-2", Outcome.TRUNCATED, principal="you", gone=Gone.DELETED)
    put(store, "live-3", None)
    said = cli("usage", "--store", store, "--by", "label")
    assert (said.code, said.err) == (0, "")
    rows = [line.split() for line in said.out.splitlines() if line.strip()]
    found = {row[0]: row[1:] for row in rows if row[0] in ("-", "blue", "red", "total")}
    assert {name: (row[:2], row[8]) for name, row in found.items()} == {
        "-": (["1", "0"], "1"),
        "blue": (["1", "1"], "1"),
        "red": (["1", "1"], "1"),
        "total": (["2", "1"], "2"),
    }
    assert said.out.rstrip().endswith("2 calls told no usage.")
    told = cli("usage", "--store", store, "--by", "principal", "--json").json()
    assert [(it["principal"], it["bytes"]) for it in told["groups"]] == [("me", SIZE), ("you", SIZE)]
    wrong = cli("usage", "--store", store, "--since", "1y")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
