"""Credentials and prompts planted in requests turn up nowhere: not in files, logs, answers, metrics or tracebacks."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from resumestream import Policy, Principal, ResumeStream, Upstream
from resumestream.http.mount import alone
from resumestream.testing import Script, ScriptedProvider, running

from .bare import connected, exchange, request
from .cli import Cli, in_process
from .wire import BODY, CHAT, Client, Reading, Reply

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

MARK = "zQcAnArY"
"""In every secret, and in nothing else."""
MAGIC = b"\x28\xb5\x2f\xfd"


def canary(where: str, prefix: str = "") -> str:
    return f"{prefix}{MARK}-{where}-0123456789abcdefABCDEF"


PROMPT = f"please keep {canary('prompt')} to yourself"
HEADERS = {
    "authorization": f"Bearer {canary('authorization', 'sk-')}",
    "x-api-key": canary("x-api-key", "sk-ant-"),
    "x-goog-api-key": canary("x-goog-api-key", "AIza"),
    "api-key": canary("api-key"),
    "cookie": f"session={canary('cookie')}",
    "x-custom": canary("custom"),
    "openai-organization": canary("organization"),
    "user-agent": canary("agent"),
}
QUERY = f"?alt=sse&key={HEADERS['x-goog-api-key']}&access_token={canary('token')}"
"""`?key=` says who asks on the gateway only: with a value of its own, /streams would know the caller as another."""
KEY = canary("key").replace("-", ".")
CHAT_BODY = {**BODY, "messages": [{"role": "user", "content": PROMPT}], "user": canary("user")}
MULTIPART = {
    **HEADERS,
    "content-type": f"multipart/form-data; boundary={canary('boundary')}",
}
MULTIPART_BODY = (
    f'--{canary("boundary")}\r\ncontent-disposition: form-data; name="file"; filename="{canary("filename")}"\r\n\r\n'
    f"{PROMPT}\r\n--{canary('boundary')}--\r\n"
).encode()
OWN = canary("operator", "sk-")
"""The operator's own credential."""


class Records(logging.Handler):
    """Every record of every logger, with all that any formatter could make of it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(f"{record.name} {self.format(record)} {record.__dict__}")


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """Down to DEBUG, the servers' loggers too."""
    records, root = Records(), logging.getLogger()
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)  # `serve` turns it off for good
    level = root.level
    root.addHandler(records)
    root.setLevel(logging.DEBUG)
    yield records
    root.setLevel(level)
    root.removeHandler(records)


def found_in_files(root: Path) -> list[str]:
    """Every place below `root` that has a canary, inside compressed payload too."""
    found = []
    for path in (path for path in root.rglob("*") if path.is_file()):
        with contextlib.suppress(FileNotFoundError):
            found += [f"{path.name}: {where}" for where in found_in(path.read_bytes())]
    return found


def found_in(data: bytes) -> list[str]:
    found, at = _near(data), data.find(MAGIC)
    while at >= 0:
        with contextlib.suppress(ZstdError, EOFError):
            found += _near(ZstdDecompressor().decompress(data[at:], max_length=1 << 20))
        at = data.find(MAGIC, at + 1)
    return found


def _near(data: bytes) -> list[str]:
    # As text, as UTF-16, and in the other case: header names and hosts are lowered on their way.
    for mark in (MARK.encode(), MARK.encode("utf-16-le"), MARK.lower().encode()):
        if (at := data.find(mark)) >= 0:
            return [repr(data[max(0, at - 60) : at + 60])]
    return []


class Told:
    """Every answer that a caller got, checked as it comes."""

    def __init__(self, base: str) -> None:
        self.client = Client(base + "/llm", **HEADERS)
        self.base = base
        self.statuses: list[int] = []

    def seen(self, reply: Reply) -> Reply:
        text = f"{sorted(reply.headers.items())}".encode() + reply.body
        assert not found_in(text), found_in(text)
        self.statuses.append(reply.status)
        return reply

    def post(self, key: str, body: Any = CHAT_BODY, path: str = CHAT, **headers: str) -> Reply:
        return self.seen(self.client.ask("POST", path + QUERY, body, **{"idempotency_key": f"{KEY}.{key}", **headers}))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        return self.seen(self.client.ask(method, path, body, **headers))

    def operations(self) -> None:
        """What an operator is told, by whom every secret is shown."""
        operator = Client(self.base + "/ops", **HEADERS)
        for path in ("/metrics", "/usage?by=model", "/usage?by=label", "/usage?by=principal"):
            reply = self.seen(operator.get(path + QUERY.replace("?", "&" if "?" in path else "?")))
            assert (reply.status, len(reply.body) > 100) == (200, True)

    def bare(self, *data: bytes) -> Reply:
        return self.seen(exchange(self.base, b"".join(data)))


def look(told: Told, stream: str) -> None:
    """All that is said of a stream."""
    for method, path in (("HEAD", ""), ("GET", ""), ("GET", "/info"), ("GET", "?live=events"), ("GET", "?live=tail")):
        assert told.ask(method, f"/streams/{stream}{path}").status in (200, 204, 406, 502, 504)


def headers_raw(**more: str) -> list[tuple[str, str]]:
    return [*HEADERS.items(), *((name.replace("_", "-"), value) for name, value in more.items())]


# --- what can happen to a request --------------------------------------------------------------------------------


def happy(told: Told, provider: ScriptedProvider) -> None:
    """By key, again, by scope, without either, in form data, asynchronously, straight through."""
    first = told.post("happy")
    assert told.post("happy").headers["idempotent-replayed"] == "true"
    scope = {"stream_scope": canary("scope").replace("-", "."), "stream_occurrence": canary("occurrence")}
    told.ask("POST", CHAT + QUERY, CHAT_BODY, **scope)
    told.ask("POST", CHAT + QUERY, CHAT_BODY)
    told.ask("POST", CHAT, MULTIPART_BODY, **MULTIPART)
    told.ask("POST", CHAT + QUERY, CHAT_BODY, idempotency_key=f"{KEY}.later", prefer="respond-async")
    assert told.post("later").status == 200
    provider.script(Script(body=b"{}"), Script(body=b"{}"))
    assert told.ask("GET", f"/openai/v1/files{QUERY}").status == 200
    assert told.ask("PUT", f"/openai/v1/files{QUERY}", MULTIPART_BODY, **MULTIPART).status == 200
    look(told, first.stream)
    assert told.ask("GET", f"/streams?key={KEY}.happy").status == 200
    assert told.ask("GET", "/streams").status == 200


def provider_refuses(told: Told, provider: ScriptedProvider) -> None:
    """With a status, in its first event, behind some; and with a redirect."""
    scripts = [*(Script(status=status) for status in (400, 401, 429, 500, 529)), Script(error_at=0), Script(error_at=3)]
    for number, script in enumerate(scripts):
        provider.script(script)
        look(told, told.post(f"refused{number}").stream)
    provider.script(Script(status=302, headers={"location": "https://elsewhere.example/"}))
    assert told.post("redirect").status == 502


def provider_fails(told: Told, provider: ScriptedProvider) -> None:
    """Before its head, before its first byte, in the middle; with RST, FIN, garbage and silence."""
    scripts = [
        *(Script(fault=fault, before_head=True) for fault in ("fin", "rst", "garbage", "stall")),
        *(Script(fault=fault, at_byte=0) for fault in ("fin", "rst", "clean", "stall")),
        *(Script(fault=fault, at_event=3) for fault in ("fin", "rst", "garbage", "clean", "stall")),
        Script(tokens=4000),
    ]
    for number, script in enumerate(scripts):
        provider.script(script)
        if stream := told.post(f"failed{number}").headers.get("stream-id"):
            look(told, stream)
    provider.release()
    provider.script(Script(fault="rst", before_head=True))
    assert told.ask("GET", f"/openai/v1/models{QUERY}").status == 502


def provider_is_not_there(told: Told, provider: ScriptedProvider) -> None:
    """No connection; or one to somebody who speaks no HTTP."""
    assert told.post("dead", path="/dead/v1/chat/completions").status == 502
    assert told.ask("GET", f"/dead/v1/models{QUERY}").status == 502


def refused_by_us(told: Told, provider: ScriptedProvider) -> None:
    """Every status that a wrong request gets."""
    first, chat, files = told.post("ours"), f"/llm{CHAT}{QUERY}", f"/openai/v1/files{QUERY}"
    another, jwt = {**CHAT_BODY, "user": "another"}, f"Bearer eyJhbGciOiJIUzI1NiJ9.e30.{MARK}"
    told_statuses = [
        (400, told.post("ours", idempotency_key=f"{KEY} {KEY}")),
        (400, told.post("ours", path="/openai/v1/%2e%2e/x")),
        (400, told.post("ours", authorization=jwt)),
        (403, told.post("", path="/app/v1/chat/completions", origin="https://evil.example")),
        (404, told.post("ours", path="/nobody/v1/chat/completions")),
        (404, told.ask("GET", f"/streams/{first.stream}{QUERY}&ticket={canary('ticket')}")),
        (405, told.ask("PATCH", f"/streams/{first.stream}{QUERY}")),
        (412, told.post("unknown", stream_offset="0")),
        (413, told.post("large", body=(PROMPT * 4000).encode())),
        (414, told.bare(request("GET", chat + "&x=" + "y" * 9000, *headers_raw()))),
        (416, told.post("ours", stream_offset="99999")),
        (422, told.post("ours", body=another)),
        (422, told.post("ours", stream_retry="another")),
        (431, told.bare(request("GET", chat, *headers_raw(x_long=canary("long") * 300)))),
        (501, told.ask("GET", files, upgrade="h3", connection="upgrade")),
        (204, told.ask("DELETE", f"/streams/{first.stream}")),
        (410, told.post("ours")),
    ]
    assert [reply.status for _, reply in told_statuses] == [status for status, _ in told_statuses]


def body_stops(told: Told, provider: ScriptedProvider) -> None:
    """In the middle, and nobody hears of it again."""
    whole = request(
        "POST", f"/llm{CHAT}{QUERY}", *headers_raw(idempotency_key=KEY), body=json.dumps(CHAT_BODY).encode()
    )
    assert told.bare(whole[:-20]).status == 408
    with connected(told.base) as sock:
        sock.sendall(whole[:-20])
    assert told.bare(b"GET /\x00" + PROMPT.encode() + b" HTTP/1.1\r\n", *[b"x: y\r\n"], b"\r\n").status == 400


def source_raises(told: Told, provider: ScriptedProvider) -> None:
    """A generator of the host's own, with the words of an SDK: the log has the traceback, without the key."""
    reply = told.seen(Client(told.base, **HEADERS).ask("GET", f"/own{QUERY}"))
    assert reply.cut
    assert told.seen(Client(told.base, **HEADERS).ask("GET", f"/own{QUERY}")).status in (200, 502)


def hook_raises(told: Told, provider: ScriptedProvider) -> None:
    """The one that gives the operator's headers, with one of them in its words."""
    assert told.post("broken", path="/broken/v1/chat/completions").status == 500


def provider_quotes(told: Told, provider: ScriptedProvider) -> None:
    """What it refuses, whoever's it is: the caller reads stars, and so does the disk."""
    quoted = "Incorrect API key provided: {}. See https://x.example/keys?key={}&a=b."
    for number, (path, secret) in enumerate(
        [(CHAT, HEADERS["authorization"][7:]), (CHAT, HEADERS["api-key"]), ("/paid/v1/chat/completions", OWN)]
    ):
        text = quoted.format(secret, secret)
        body = json.dumps({"error": {"message": text}}).encode()
        provider.script(Script(status=401, body=body, headers={"www-authenticate": f"Bearer realm={secret}"}))
        reply = told.post(f"quoted{number}", path=path)
        assert (reply.status, len(reply.body)) == (401, len(body))
        assert reply.json["error"]["message"] == quoted.format("*" * len(secret), "*" * len(secret))
        look(told, reply.stream)
    provider.script(Script(status=404, body=f"no {OWN}".encode(), headers={"content-type": "text/plain"}))
    assert told.ask("GET", "/paid/v1/models").body == f"no {'*' * len(OWN)}".encode()


SCENARIOS: tuple[Callable[[Told, ScriptedProvider], None], ...] = (
    happy,
    provider_refuses,
    provider_fails,
    provider_is_not_there,
    refused_by_us,
    body_stops,
    source_raises,
    hook_raises,
    provider_quotes,
)


# --- the server --------------------------------------------------------------------------------------------------


async def broken(principal: Principal) -> dict[str, str]:
    raise LookupError(f"the vault does not know Bearer {OWN}")


async def raising() -> AsyncIterator[str]:
    yield "data: 1\n\n"
    raise PermissionError(f"Error code: 401 - Incorrect API key provided: {OWN}")


def app(store: str, provider: str, dead: int) -> Starlette:
    paid = Upstream(provider, headers={"authorization": f"Bearer {OWN}", "x-own": OWN})
    upstreams = {
        "openai": provider,
        "dead": f"http://127.0.0.1:{dead}",
        "paid": paid,
        "app": paid,
        "broken": Upstream(provider, headers=broken),
    }
    policy = Policy(
        drain_s=0, first_byte_s=0.3, stall_s=0.3, receive_s=0.3, settle_s=0.05, keepalive_s=0.1, erase_s=0.2,
        relocate_s=0.2, max_request_bytes=60_000, max_head_bytes=8_000, max_stream_bytes=200_000,
    )  # fmt: skip
    streams = ResumeStream(store, upstreams, policy)

    async def own(request: Request) -> Response:
        return await streams.response(key=KEY, source=raising, request=request)

    # For the operator: the same faces as those of a server of its own, so that the loopback rule admits the test
    host = Starlette(routes=[Route("/own", own), Mount("/ops", alone(streams.asgi))])
    streams.install(host, "/llm")
    return host


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return in_process(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ("server", "store"),
    [("uvicorn", "sqlite:///{}/streams.db"), ("hypercorn-trio", "file://{}/store")],
    ids=["uvicorn-sqlite", "hypercorn-trio-filesystem"],
)
def test_canaries_turn_up_nowhere(server: Any, store: str, tmp_path: Path, records: Records, cli: Cli) -> None:
    """Through all that can happen; while streams are live, when they are sealed, packed, deleted and erased."""
    root = (tmp_path / "kept").resolve()
    root.mkdir()
    url = store.format(root)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead_port = listener.getsockname()[1]
    with ScriptedProvider(default=Script(tokens=5)) as provider:
        with running(app(url, provider.url, dead_port), server=server) as base:
            told = Told(base)
            for scenario in SCENARIOS:
                scenario(told, provider)
                told.operations()
                assert not found_in_files(root), scenario.__name__
            provider.script(Script(tokens=5, hold_at=2))
            live: Reading = told.client.open("POST", CHAT + QUERY, CHAT_BODY, idempotency_key=f"{KEY}.live")
            live.read(10)
            assert not found_in_files(root)
            provider.release()
            told.seen(live.rest())
            ids = [record["id"] for record in told.ask("GET", "/streams").json["streams"]]
            assert len(ids) > 20
            for stream in ids[::2]:
                told.ask("DELETE", f"/streams/{stream}")
            assert not found_in_files(root)
        told_by_commands = [cli(*command, "--store", url) for command in (["gc"], ["ls"], ["verify"], ["show", ids[1]])]
    assert not found_in_files(root)
    assert [said.code for said in told_by_commands] == [0, 0, 0, 0]
    assert not found_in(repr(told_by_commands).encode())
    logged = "\n".join(records.text)
    assert "PermissionError" in logged
    assert ("GET /llm/streams" in logged) == (server == "uvicorn")  # its access log
    assert not found_in(logged.encode()), found_in(logged.encode())


def test_a_canary_that_is_there_is_found(tmp_path: Path) -> None:
    """In plain files, in databases, in compressed payload: what looks for them can fail."""
    assert not found_in_files(tmp_path)
    for text in (MARK.encode(), b"\0\1" + canary("x").lower().encode(), MARK.encode("utf-16-le")):
        (tmp_path / "file").write_bytes(b"before" + text)
        assert found_in_files(tmp_path)
    from resumestream.stores._zstd import compress

    packed = b"before" + compress(f"{PROMPT} {'and more ' * 100}".encode()) + b"after"
    assert found_in(packed)
