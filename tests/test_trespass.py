"""Nobody gets at what is another's: on no route, by no ticket, from no web page, through no proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.requests import HTTPConnection

from resumestream import Principal
from resumestream.identity import sign_ticket
from resumestream.model import StreamId
from resumestream.testing import Script

from .attack import SERVERS, Site, site
from .wire import BODY, CHAT, Client, Reply


@pytest.fixture(scope="module", params=SERVERS)
def attacked(request: pytest.FixtureRequest) -> Iterator[Site]:
    """On asyncio and on trio."""
    with site(request.param) as attacked:
        yield attacked


# --- other people's streams --------------------------------------------------------------------------------------

STATES = ["pending", "streaming", "completed", "failed", "refused", "cancelled", "expired", "deleted"]
ROUTES = [
    ("GET", "", {}),
    ("GET", "?offset=0", {}),
    ("GET", "?offset=99999", {}),
    ("GET", "?offset=nonsense", {}),
    ("GET", "?offset=now&live=nonsense", {}),
    ("GET", "?from_event=99999", {}),
    ("GET", "?live=tail", {}),
    ("GET", "?live=events", {}),
    ("GET", "", {"last_event_id": "0000000000000000"}),
    ("GET", "?ticket=", {}),
    ("GET", "?ticket=v1.e30.00", {}),
    ("HEAD", "", {}),
    ("GET", "/info", {}),
    ("POST", "/cancel", {}),
    ("DELETE", "", {}),
    ("DELETE", "?forget=true", {}),
    ("DELETE", "?forget=nonsense", {}),
]  # fmt: skip


def made(site: Site, state: str) -> str:
    """A stream of `owner` in that state."""
    provider, owner = site.provider, site.client("owner")
    scripts = {
        "pending": Script(fault="stall", before_head=True),
        "streaming": Script(tokens=3, hold_at=1),
        "failed": Script(fault="fin", at_event=1),
        "refused": Script(status=401),
        "cancelled": Script(tokens=3, hold_at=1),
    }
    provider.script(scripts.get(state, Script(tokens=3)))
    headers = {"stream_label": state, "stream_retain": "0" if state == "expired" else ""}
    if state in ("pending", "streaming", "cancelled"):
        stream = owner.post(f"is-{state}", prefer="respond-async", **headers).stream
        provider.wait_for(lambda calls: bool(calls) and calls[-1].held, timeout_s=5)
    else:
        stream = owner.post(f"is-{state}", **headers).stream
    if state == "cancelled":
        assert owner.ask("POST", f"/streams/{stream}/cancel").status == 202
        owner.get(f"/streams/{stream}?live=tail")
    if state == "deleted":
        assert owner.ask("DELETE", f"/streams/{stream}").status == 204
    if state == "expired":
        owner.get(f"/streams/{stream}?live=tail")
    return stream


def looks(reply: Reply, stream: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but its date and the id that was asked for."""
    headers = {name: value for name, value in reply.headers.items() if name != "date"}
    return reply.status, headers, reply.body.replace(stream.encode(), b"ID")


@pytest.mark.parametrize("state", STATES)
def test_what_is_not_yours_is_not_there(attacked: Site, state: str) -> None:
    """On every route, in every state: the 404 of an id that never was, byte for byte; and nothing changes."""
    owner, foreign = attacked.client("owner"), attacked.client("foreign")
    stream = made(attacked, state)
    never = "0" * len(stream)
    before = owner.get(f"/streams/{stream}/info")
    nobody = Client(f"{attacked.base}/llm", authorization="", x_forwarded_for="192.0.2.1")
    tickets = [
        attacked.streams.ticket(stream, ttl_s=0),
        attacked.streams.ticket(never, allow=["read", "stop", "delete"]),
    ]
    with_tickets = [(method, f"{path}?ticket={ticket}", {}) for method, path, _ in ROUTES[:1] for ticket in tickets]
    for client in (foreign, nobody):
        for method, path, headers in [*ROUTES, *with_tickets]:
            there = client.ask(method, f"/streams/{stream}{path}", **headers)
            not_there = client.ask(method, f"/streams/{never}{path}", **headers)
            assert there.status == 404, (method, path)
            assert looks(there, stream) == looks(not_there, never), (method, path)
    assert before.status == (410 if state in ("expired", "deleted") else 200)
    assert owner.get(f"/streams/{stream}/info").json == before.json
    assert owner.get(f"/streams?label={state}").json["streams"][0]["id"] == stream
    attacked.provider.release()
    owner.ask("DELETE", f"/streams/{stream}?forget=true")
    attacked.serves()


def test_neither_keys_nor_labels_nor_cursors_lead_to_others(attacked: Site) -> None:
    """They find, consent to, delete and count one's own; a foreign id is one that never was."""
    owner, foreign = attacked.client("owner"), attacked.client("foreign")
    stream = owner.post("shared-key", stream_label="shared").stream
    foreigns = foreign.post("shared-key", stream_label="of-foreign")
    assert foreigns.stream != stream
    assert "idempotent-replayed" not in foreigns.headers
    for query in ("label=shared", "state=sealed&label=shared"):
        assert foreign.get(f"/streams?{query}").json == {"streams": []}
    assert [found["id"] for found in foreign.get("/streams?key=shared-key").json["streams"]] == [foreigns.stream]
    never = "0" * len(stream)
    for ask in (
        lambda which: foreign.get(f"/streams?after={which}"),
        lambda which: foreign.post("shared-key", stream_retry=which),
        lambda which: foreign.post("another-key", stream_retry=which),
    ):
        there, not_there = ask(stream), ask(never)
        assert there.status in (400, 422)
        assert looks(there, stream) == looks(not_there, never)
    assert foreign.ask("DELETE", "/streams?label=shared&forget=true").status == 204
    assert owner.get(f"/streams/{stream}").status == 200
    assert owner.post("shared-key", stream_label="shared").stream == stream
    attacked.serves()


# --- what operators see ------------------------------------------------------------------------------------------

OPERATIONS = [(method, path) for method in ("GET", "HEAD", "POST", "DELETE") for path in (
    "/metrics", "/metrics?name[]=x", "/usage", "/usage?by=principal", "/usage?by=label&since=1h", "/usage?by=nonsense"
)]  # fmt: skip


def test_nobodys_numbers_are_in_a_host_app_without_a_hook(attacked: Site) -> None:
    """On every route, whatever is shown: the 404 of a path that never was, byte for byte."""
    attacked.client("owner").post("operated", stream_label="operated")
    ticket = attacked.streams.ticket(attacked.client("owner").post("operated").stream)
    nobody = Client(f"{attacked.base}/llm", authorization="", x_forwarded_for="192.0.2.1")
    for client in (attacked.client("owner"), attacked.client("foreign"), attacked.client("operators"), nobody):
        for method, path in OPERATIONS:
            mark = "&" if "?" in path else "?"
            for asked in (path, f"{path}{mark}ticket={ticket}", f"{path}{mark}key=operators"):
                reply = client.ask(method, asked)
                assert reply.status == 404, (method, asked)
                assert looks(reply, "-")[1:] == looks(client.ask(method, "/usage/never"), "-")[1:], (method, asked)
    attacked.serves()


def test_what_operators_see_is_nothing_to_a_foreign_principal(hooked: Site) -> None:
    """Whom the hook refuses finds no route; whom it admits sees their own sums, and of the numbers of all nothing."""
    ann, eve, bob = hooked.client("ann"), hooked.client("eve"), hooked.client("bob")
    boss = hooked.client("boss")
    ann.post("operated", stream_label="operated")
    for method, path in OPERATIONS:
        assert bob.ask(method, path).status == 404, (method, path)
    for who in (ann, eve, bob):
        assert looks(who.get("/metrics"), "-") == looks(who.get("/usage/never"), "-")
    for by in ("model", "label", "principal"):
        told = eve.get(f"/usage?by={by}")
        assert (told.json["total"]["calls"], told.json["groups"]) == (0, [])
        assert ann.get(f"/usage?by={by}").json["total"]["calls"] > 0
    told = boss.get("/metrics")
    assert told.status == 200
    assert not [word for word in (b"ann", b"operated", b"principal=") if word in told.body]


# --- tickets -----------------------------------------------------------------------------------------------------


def forged(site: Site, stream: str, other: str) -> Iterator[tuple[str, str]]:
    """Every ticket that must not do, and why."""
    good = site.streams.ticket(stream)
    version, payload, mac = good.split(".")
    _, others, _ = site.streams.ticket(other).split(".")
    _, stops, _ = site.streams.ticket(stream, allow=["stop", "delete"]).split(".")
    yield from ((f"cut at {at}", good[:at]) for at in range(len(good)))
    for at in range(0, len(good), 3):
        yield f"character {at}", good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
    yield "longer", good + "0"
    yield "a part more", good + ".x"
    yield "another version", f"v2.{payload}.{mac}"
    yield "no version", f"{payload}.{mac}"
    yield "no signature", f"{version}.{payload}."
    yield "upper case", f"{version}.{payload}.{mac.upper()}"
    yield "another stream's claims", f"{version}.{others}.{mac}"
    yield "other claims", f"{version}.{stops}.{mac}"
    yield "another stream's", site.streams.ticket(other)
    yield "another action's", site.streams.ticket(stream, allow=["stop", "delete"])
    yield "expired", site.streams.ticket(stream, ttl_s=0)
    yield "another secret's", sign_ticket([b"guess" * 8], StreamId(stream), ["read"], None)
    yield "no secret's", sign_ticket([b""], StreamId(stream), ["read"], None)
    yield "padded", f"{version}.{payload}=.{mac}"
    yield "huge", f"{version}.{'A' * 8000}.{mac}"
    yield "not ASCII", f"{version}.{payload}.%F0%9F%8E%AB"
    yield "NUL", f"{good}%00"
    yield "the second of two", f"&ticket={good}&ticket=x"
    yield "empty", ""


def test_no_forged_ticket_does(attacked: Site) -> None:
    """404, as if there were no stream, also where the caller's credential would do: a ticket is what was shown."""
    owner = attacked.client("owner")
    stream, other = owner.post("ticketed").stream, owner.post("other").stream
    nobody = Client(f"{attacked.base}/llm", authorization="", origin="https://evil.example")
    good = attacked.streams.ticket(stream)
    count = 0
    for why, ticket in forged(attacked, stream, other):
        reply = nobody.get(f"/streams/{stream}?ticket={ticket}")
        assert reply.status == 404, why
        count += 1
    assert count > 150
    assert nobody.get(f"/streams/{stream}?ticket={good}").status == 200
    assert nobody.ask("HEAD", f"/streams/{stream}?ticket={good}").status == 200
    for method, path, status in [
        ("POST", f"/streams/{stream}/cancel", 404),
        ("DELETE", f"/streams/{stream}", 404),
        ("GET", f"/streams/{other}", 404),
        ("GET", f"/streams/{stream}/other", 404),
        ("GET", "/streams", 403),
        ("DELETE", "/streams?label=x", 403),
        ("GET", "/openai/v1/models", 403),
        ("POST", CHAT, 403),
    ]:
        mark = "&" if "?" in path else "?"
        assert nobody.ask(method, f"{path}{mark}ticket={good}").status == status, (method, path)
    attacked.serves()


# --- drive-bys: web pages, rebinding and proxies -----------------------------------------------------------------

DRIVE_BYS = {
    "form on a page": {"origin": "https://evil.example", "content_type": "text/plain"},
    "sandboxed frame": {"origin": "null"},
    "page of this very server": {"origin": "http://127.0.0.1:8787", "sec_fetch_site": "same-origin"},
    "page on another port": {"origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"},
    "fetch without CORS": {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    "image": {"sec_fetch_site": "cross-site", "sec_fetch_dest": "image"},
    "page of an odd site": {"sec_fetch_site": "nobody-knows"},
    "DNS rebinding": {"host": "evil.example"},
    "DNS rebinding with a port": {"host": "evil.example:8787"},
    "rebinding, same origin": {"host": "evil.example", "sec_fetch_site": "same-origin"},
    "loopback in a name": {"host": "127.0.0.1.evil.example"},
    "X-Forwarded-For": {"x_forwarded_for": "192.0.2.1"},
    "X-Forwarded-For, loopback": {"x_forwarded_for": "127.0.0.1"},
    "X-Forwarded-Host": {"x_forwarded_host": "localhost"},
    "Forwarded": {"forwarded": "for=192.0.2.1;host=localhost"},
    "X-Real-IP": {"x_real_ip": "127.0.0.1"},
    "Via": {"via": "1.1 proxy"},
    "tunnel": {"cf_connecting_ip": "192.0.2.1"},
    "Tailscale": {"tailscale_user_login": "ann@example"},
}


@pytest.mark.parametrize("row", DRIVE_BYS)
def test_no_drive_by_passes_the_loopback_rule(attacked: Site, row: str) -> None:
    """Nobody's call, the operator's credential, a credential that a page could write into its URL: 403 before any call.
    What was bought so is not there."""
    drive_by, nobody = DRIVE_BYS[row], Client(f"{attacked.base}/llm", authorization="")
    cross_site = drive_by.get("sec_fetch_site", drive_by.get("origin", "same-origin")) != "same-origin"
    local = nobody.post("local").stream
    paid = nobody.ask("POST", "/paid/v1/chat/completions", BODY, idempotency_key="paid").stream
    before = attacked.calls
    asked = [
        *(
            (method, path, "")
            for method in ("POST", "GET", "PUT", "DELETE")
            for path in (CHAT, "/paid/v1/chat/completions")
        ),
        ("POST", "/paid/v1/chat/completions", "Bearer guess"),
        ("GET", "/streams", ""),
        ("GET", "/streams", "Bearer guess"),
        ("DELETE", "/streams?label=x", ""),
        *([("POST", f"{CHAT}?key=guess", "")] if cross_site else []),
    ]
    for method, path, credential in asked:
        body = BODY if method in ("POST", "PUT") else None
        reply = nobody.ask(method, path, body, authorization=credential, **drive_by)
        assert (reply.status, reply.json["type"].rpartition(":")[2]) == (403, "authorize-required"), (method, path)
    for stream in (local, paid):
        for method, path in (("GET", ""), ("GET", "/info"), ("POST", "/cancel"), ("DELETE", "")):
            assert nobody.ask(method, f"/streams/{stream}{path}", **drive_by).status == 404
    assert attacked.calls == before
    assert nobody.get(f"/streams/{local}").status == 200
    attacked.serves()


PREFLIGHT = {
    "origin": "https://evil.example",
    "access_control_request_method": "POST",
    "access_control_request_headers": "authorization, idempotency-key",
    "access_control_request_private_network": "true",
}


@pytest.mark.parametrize(
    "path", [CHAT, "/paid/v1/x", "/nobody/x", "/streams", "/streams/x", "/streams/x/cancel", "/healthz"]
)
def test_no_preflight_succeeds(attacked: Site, path: str) -> None:
    """Answered here with nothing that a browser takes for a yes; nor does any answer to a page say so."""
    before = attacked.calls
    reply = attacked.client().ask("OPTIONS", path, **PREFLIGHT)
    assert (reply.status, reply.body) == (204, b"")
    assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert attacked.calls == before
    given = {"access-control-allow-origin": "*", "access-control-allow-credentials": "true"}
    attacked.provider.script(Script(tokens=3, headers=given), Script(tokens=3, headers=given))
    for method in ("POST", "GET"):
        reply = attacked.client().ask(method, CHAT, BODY if method == "POST" else None, origin="https://evil.example")
        assert reply.status in (200, 404)
        assert not [name for name in reply.headers if name.startswith("access-control-")]
        assert reply.headers["x-content-type-options"] == "nosniff"
    attacked.serves()


# --- the order of refusals ---------------------------------------------------------------------------------------


async def nobody_may(conn: HTTPConnection, action: str) -> Principal | None:
    """Ann and Eve are two users who see what they pay, the boss operates, and everybody else is nobody."""
    name = conn.headers.get("authorization", "").removeprefix("Bearer ")
    operates = name == "boss" or not conn.url.path.endswith("/metrics")
    return Principal(name, admin=name == "boss") if name in ("ann", "eve", "boss") and operates else None


@pytest.fixture(scope="module", params=SERVERS)
def hooked(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(request.param, nobody_may) as hooked:
        yield hooked


WRONG: list[tuple[str, str, dict[str, str], int, int]] = [
    ("POST", CHAT, {}, 401, 200),
    ("POST", CHAT, {"idempotency_key": "a b"}, 401, 400),
    ("POST", CHAT, {"idempotency_key": "k", "stream_scope": "s"}, 401, 400),
    ("POST", CHAT, {"stream_offset": "0"}, 401, 412),
    ("POST", CHAT, {"stream_retain": "x"}, 401, 400),
    ("POST", "/nobody/v1/x", {}, 401, 404),
    ("POST", "/openai/v1/../x", {}, 401, 400),
    ("GET", "/openai/v1/..%2fx", {}, 401, 400),
    ("GET", "/nobody/x", {}, 401, 404),
    ("GET", "/streams", {}, 401, 200),
    ("GET", "/streams?limit=x", {}, 401, 400),
    ("GET", "/streams?after=x", {}, 401, 400),
    ("DELETE", "/streams", {}, 401, 400),
    ("GET", "/streams/x?offset=x", {}, 404, 404),
    ("POST", "/streams/x/cancel", {}, 404, 404),
]


@pytest.mark.parametrize(("method", "path", "headers", "nobodys", "anns"), WRONG)
def test_who_may_not_learns_nothing_else(
    hooked: Site, method: str, path: str, headers: dict[str, str], nobodys: int, anns: int
) -> None:
    """The hook comes before everything that could be wrong; on a single stream its no is a 404."""
    body = BODY if method == "POST" else None
    assert hooked.client("bob").ask(method, path, body, **headers).status == nobodys
    assert hooked.client("ann").ask(method, path, body, **headers).status == anns


def test_on_one_stream_404_then_410_then_400(hooked: Site) -> None:
    """Whatever else is wrong with the question."""
    ann, bob = hooked.client("ann"), hooked.client("bob")
    stream = ann.post("order").stream
    wrong = ("?offset=x", "?offset=99999", "?live=x", "?from_event=x")
    assert [bob.get(f"/streams/{stream}{query}").status for query in wrong] == [404] * 4
    assert [ann.get(f"/streams/{stream}{query}").status for query in wrong] == [400, 416, 400, 400]
    ann.ask("DELETE", f"/streams/{stream}")
    assert [bob.get(f"/streams/{stream}{query}").status for query in wrong] == [404] * 4
    assert [ann.get(f"/streams/{stream}{query}").status for query in wrong] == [410] * 4


def test_a_ticket_is_not_asked_of_the_hook(hooked: Site) -> None:
    """It is signed for whoever holds it."""
    stream = hooked.client("ann").post("for-bob").stream
    assert hooked.client("bob").get(f"/streams/{stream}?ticket={hooked.streams.ticket(stream)}").status == 200
