"""`GET /metrics`: numbers that are true, of bounded number, and for operators only."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

import resumestream.http
from resumestream import Policy, Principal, ResumeStream, Upstream, anyone
from resumestream.errors import StoreFull
from resumestream.http.access import Action
from resumestream.http.measures import MEASURES
from resumestream.stores import MemoryStore
from resumestream.testing import Script, ScriptedProvider, running

from .attack import SERVERS
from .fakes import broken
from .wire import BODY, CHAT, Client, served

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(default=Script(tokens=5)) as provider:
        yield provider


async def hook(conn: HTTPConnection, action: Action) -> Principal | None:
    """`Bearer scraper` alone operates; `Bearer no` is nobody, and everybody else who they say."""
    name = conn.headers.get("authorization", "").removeprefix("Bearer ") or "no"
    no = name == "no" or (action == "operate" and name != "scraper")
    return None if no else Principal(name, admin=name == "scraper")


def scrape(client: Client) -> Series:
    reply = client.get("/metrics", authorization="Bearer scraper")
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(reply.body.decode()))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(client: Client, name: str, **labels: str) -> float:
    return scrape(client)[f"resumestream_{name}", frozenset(labels.items())]


def until(met: Callable[[], bool]) -> None:
    """For what is counted when an answer has left, which its reader may be told a moment before."""
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def called(client: Client, provider: ScriptedProvider, key: str = "k") -> int:
    """One call, one attach while it runs, two replays. The bytes of one answer."""
    provider.script(Script(tokens=20, hold_at=4))
    sent = {"authorization": "Bearer ann", "idempotency_key": key, "stream_label": f"label-{key}"}
    body = {**BODY, "model": f"model-{key}"}
    first = client.open("POST", CHAT, body, **sent)
    attached = client.open("POST", CHAT, body, **sent)
    provider.release()
    replies = [first.rest(), attached.rest(), *(client.ask("POST", CHAT, body, **sent) for _ in range(2))]
    assert len({reply.body for reply in replies}) == 1
    return len(replies[0].body)


# --- what it tells -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_counters_are_the_providers_ledger(provider: ScriptedProvider, server: str) -> None:
    """And what `/usage` says of the same calls."""
    upstreams = {"openai": Upstream(provider.url, include_usage=True)}
    with served(provider, upstreams=upstreams, authorize=hook, server=server) as client:
        size = called(client, provider)
        (call,) = provider.ledger()
        told = client.get("/usage", authorization="Bearer scraper").json["total"]
        until(lambda: value(client, "reader_payload_bytes_total") == 4 * size)
        assert value(client, "provider_calls_total", upstream="openai", outcome="completed") == 1
        assert value(client, "provider_payload_bytes_total", upstream="openai") == size == told["bytes"]
        assert value(client, "tokens_total", upstream="openai", kind="output") == call.tokens_billed
        for kind in ("input", "output", "cached_input", "reasoning"):
            assert value(client, "tokens_total", upstream="openai", kind=kind) == told["tokens"][kind]
        assert (value(client, "attaches_total"), value(client, "replays_total")) == (1, 2)


@pytest.mark.parametrize("server", SERVERS)
def test_gauges_follow_a_stream(provider: ScriptedProvider, server: str) -> None:
    """While it is read, after its reader left, and after its end."""
    names = ("drains", "orphan_drains", "readers")

    def gauges() -> tuple[float, ...]:
        found = scrape(client)
        states = [("live_streams", frozenset({("state", state)})) for state in ("pending", "streaming")]
        keys = [*((name, frozenset[tuple[str, str]]()) for name in names), *states]
        return tuple(found[f"resumestream_{name}", labels] for name, labels in keys)

    with served(provider, authorize=hook, server=server) as client:
        assert gauges() == (0, 0, 0, 0, 0)
        provider.script(Script(tokens=20, hold_at=4))
        reader = client.open("POST", CHAT, BODY, idempotency_key="k")
        reader.read(10)
        assert gauges() == (1, 0, 1, 0, 1)
        reader.close()
        until(lambda: gauges() == (1, 1, 0, 0, 1))
        provider.release()
        until(lambda: gauges() == (0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("script", "outcome"),
    [(Script(status=401), "provider_error"), (Script(fault="fin", at_event=3), "truncated")],
)
def test_calls_count_by_outcome(provider: ScriptedProvider, script: Script, outcome: str) -> None:
    """Each under its own, and the others stay at the zero they were told with."""
    with served(provider, authorize=hook) as client:
        before = scrape(client)
        provider.script(script)
        client.post("k")
        calls = ("resumestream_provider_calls_total", frozenset({("upstream", "openai"), ("outcome", outcome)}))
        after = scrape(client)
        changed = {name for name, was in before.items() if after[name] != was and name[0] == calls[0]}
        assert (changed, after[calls]) == ({calls}, 1)


def test_a_source_of_ones_own_has_no_upstream(provider: ScriptedProvider) -> None:
    """It counts as `-`, which no upstream can be named; so does what refuses its reader."""
    streams = ResumeStream("memory:", {"openai": provider.url}, Policy(drain_s=0), authorize=hook)

    async def source() -> Any:
        yield "data: 1\n\n"

    async def own(request: Request) -> Response:
        return await streams.response(key="k", source=source, request=request, events="events" in request.query_params)

    host = Starlette(routes=[Route("/own", own)])
    streams.install(host, "/llm")
    with running(host) as base:
        client = Client(base + "/llm")
        assert Client(base).get("/own").status == 200
        assert value(client, "provider_calls_total", upstream="-", outcome="completed") == 1
        assert Client(base).get("/own", authorization="Bearer no").status == 401
        assert value(client, "refusals_total", type="unauthorized") == 1
        assert Client(base).get("/own?events", last_event_id="0000000000000999").status == 416
        assert value(client, "refusals_total", type="offset-beyond-tail") == 1


def test_refusals_count_by_type(provider: ScriptedProvider) -> None:
    """On every face."""
    with served(provider, authorize=hook) as client:
        for _ in range(2):
            assert client.post("a b").status == 400
        assert client.get("/streams/x").status == 404
        assert client.post("k", authorization="Bearer no").status == 401
        found = scrape(client)
        refusals = {next(iter(labels))[1]: count for (name, labels), count in found.items() if "refusals" in name}
        assert {code: count for code, count in refusals.items() if count} == {
            "invalid-header": 2,
            "stream-not-found": 1,
            "unauthorized": 1,
        }


def test_ready_is_what_readyz_says(provider: ScriptedProvider) -> None:
    """0 where the store cannot write, and the metrics still come."""
    store = MemoryStore()
    full = broken(store, "probe", error=StoreFull("no space"))
    with served(provider, store=store, authorize=hook) as client:  # type: ignore[arg-type]
        assert (client.get("/readyz").status, value(client, "ready")) == (503, 0)
        full["on"] = False
        assert (client.get("/readyz").status, value(client, "ready")) == (200, 1)


def test_no_caller_makes_a_series(provider: ScriptedProvider) -> None:
    """Keys, labels, models, principals, paths, unknown upstreams and odd methods: the same series before and after."""
    with served(provider, authorize=hook) as client:
        before = scrape(client)
        for number in range(3):
            called(client, provider, key=f"key-{number}")
            client.post("k", authorization=f"Bearer user-{number}")
            client.get(f"/streams/none-{number}")
            client.ask("POST", f"/nobody-{number}/v1/x", BODY)
            client.ask("GET", f"/openai/v1/models-{number}")
            client.ask("BREW", f"/streams?label=label-{number}")
        after = scrape(client)
        assert after.keys() == before.keys()
        assert after != before
        names = {value for _, labels in after for _, value in labels}
        assert [name for name in names if any(char.isdigit() for char in name)] == []


def test_the_series_are_those_that_are_documented(provider: ScriptedProvider) -> None:
    """The reference is drawn from the table; every row of it is scraped, with its labels and its type, and no more."""
    with served(provider, authorize=hook) as client:
        reply = client.get("/metrics", authorization="Bearer scraper")
        types = dict(line.split()[2:] for line in reply.body.decode().splitlines() if line.startswith("# TYPE"))
        assert types == {measure.name: "counter" if measure.grows else "gauge" for measure in MEASURES}
        labels = {name: {label for label, _ in pairs} for name, pairs in scrape(client)}
        assert labels == {measure.name: set(measure.labels) for measure in MEASURES}
        assert [name for name in labels if not name.startswith("resumestream_")] == []


def test_the_hosts_registry_is_its_own(provider: ScriptedProvider) -> None:
    """Nothing of ours gets into the library's default one, and a second server in the process has its own numbers."""
    with served(provider, authorize=hook) as client, served(provider, authorize=hook) as other:
        client.post("k")
        assert value(client, "provider_calls_total", upstream="openai", outcome="completed") == 1
        assert value(other, "provider_calls_total", upstream="openai", outcome="completed") == 0
        assert [family.name for family in REGISTRY.collect() if "resumestream" in family.name] == []


# --- who gets it -------------------------------------------------------------------------------------------------


def test_in_a_mount_it_is_off(provider: ScriptedProvider) -> None:
    """Without a hook nobody finds it, whatever they show and however they ask."""
    with served(provider) as client:
        for path in ("/metrics", "/metrics?name[]=x", "/metrics/", "/metrics/x"):
            for method in ("GET", "POST"):
                assert client.ask(method, path).status == 404
                assert client.ask(method, path, authorization="").status == 404


@pytest.mark.parametrize("who", ["no", "ann"])
def test_only_who_may_operate_finds_it_in_a_mount(provider: ScriptedProvider, who: str) -> None:
    """It is about everybody: a principal that may only call gets what nobody gets."""
    with served(provider, authorize=hook) as client:
        nothing = client.get("/metrics", authorization="Bearer no")
        refusal = client.get("/metrics", authorization=f"Bearer {who}")
        assert (refusal.status, refusal.body) == (404, nothing.body)
        assert client.ask("POST", "/metrics", authorization=f"Bearer {who}").status == 404
        assert client.ask("POST", "/metrics", authorization="Bearer scraper").status == 405


def test_a_server_of_ones_own_goes_by_its_hook(provider: ScriptedProvider) -> None:
    """There is no host app to hide it from; `anyone` is the open choice for this as well."""
    for authorize, who, status in ((hook, "no", 401), (hook, "ann", 401), (anyone, "ann", 200)):
        streams = ResumeStream("memory:", {"openai": provider.url}, Policy(drain_s=0), authorize=authorize)
        with running(streams.asgi) as base:
            told = Client(base).get("/metrics", authorization=f"Bearer {who}")
            assert (told.status, b"resumestream_" in told.body) == (status, status == 200)
            assert scrape(Client(base))


def test_a_server_of_ones_own_without_a_hook_tells_this_machine(provider: ScriptedProvider) -> None:
    """By the loopback rule, also to those who show a credential."""
    streams = ResumeStream("memory:", {"openai": provider.url}, Policy(drain_s=0))
    with running(streams.asgi) as base:
        client = Client(base)
        assert scrape(client)
        assert client.get("/metrics", authorization="").status == 200
        for elsewhere in ({"x_forwarded_for": "192.0.2.1"}, {"origin": "https://evil.example"}, {"host": "evil"}):
            refusal = client.get("/metrics", **elsewhere)
            assert (refusal.status, refusal.json["type"].rpartition(":")[2]) == (403, "authorize-required")


# --- the library -------------------------------------------------------------------------------------------------


def test_without_the_library_it_says_what_to_install(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """501, to operators only: for others there is nothing."""
    monkeypatch.delitem(sys.modules, "resumestream.http.exposition", raising=False)
    monkeypatch.delattr(resumestream.http, "exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with served(provider, authorize=hook) as client:
        missing = client.get("/metrics", authorization="Bearer scraper")
        assert (missing.status, missing.json["type"]) == (501, "urn:resumestream:problem:not-installed")
        assert missing.headers["content-type"] == "application/problem+json"
        assert "pip install 'resumestream[metrics]'" in missing.json["detail"]
        assert client.get("/metrics", authorization="Bearer ann").status == 404
        assert client.post("k").status == 200


def test_who_never_scrapes_never_imports_it() -> None:
    """The library registers collectors in its own registry as soon as it is imported."""
    program = "import sys, resumestream, resumestream.cli; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0
