"""What the server does about a provider that fails: calls again, calls another, or goes on as a new segment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from resumestream import Policy, Principal, ResumeStream, Upstream, reads
from resumestream.errors import ConfigError
from resumestream.testing import Script, ScriptedProvider

from .wire import BODY, CHAT, Client, Reply, served

TOKENS = 6
OWN = {"authorization": "Bearer of-the-operator"}


class Two:
    """A server with two providers behind it."""

    def __init__(self, first: ScriptedProvider, second: ScriptedProvider, client: Client) -> None:
        self.first, self.second, self.client = first, second, client

    def calls(self) -> tuple[int, int]:
        return len(self.first.ledger()), len(self.second.ledger())

    def info(self, reply: Reply) -> Any:
        return self.client.get(f"/streams/{reply.stream}/info").json


@contextlib.contextmanager
def two(server: str, store: str = "memory:", **upstream: Any) -> Iterator[Two]:
    policy = Policy(drain_s=0, first_byte_s=5, stall_s=0.5)
    default = Script(tokens=TOKENS)
    with ScriptedProvider(default=default) as first, ScriptedProvider(default=Script(tokens=TOKENS + 1)) as second:
        upstreams = {
            "openai": Upstream(first.url, **upstream),
            "backup": Upstream(second.url, headers=OWN),
        }
        with served(first, store=store, policy=policy, server=server, upstreams=upstreams) as client:
            yield Two(first, second, client)


SERVERS = pytest.mark.parametrize("server", ["uvicorn", "hypercorn-trio"])


@SERVERS
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_provider_is_called_again(server: str, status: int) -> None:
    """Unseen by the caller; each try is in the record, and the answer is the one that worked."""
    with two(server, retries=2) as here:
        here.first.script(Script(status=status, headers={"retry-after": "0"}), Script(tokens=TOKENS))
        reply = here.client.post("busy")
        assert (reply.status, reply.cut) == (200, False)
        assert here.calls() == (2, 0)
        attempts = here.info(reply)["attempts"]
        assert [(attempt["status"], attempt["outcome"]) for attempt in attempts] == [
            (status, "provider_error"),
            (200, "completed"),
        ]
        assert attempts[0]["bytes"] == 0
        assert attempts[1]["bytes"] == len(reply.body)


@SERVERS
def test_a_provider_that_stays_busy_is_heard(server: str) -> None:
    """The last answer is the caller's, verbatim, and releases the key."""
    with two(server, retries=1) as here:
        here.first.script(default=Script(status=503, headers={"retry-after": "0", "x-which": "last"}))
        reply = here.client.post("busy")
        assert (reply.status, reply.headers["x-which"]) == (503, "last")
        assert here.calls() == (2, 0)
        assert here.client.post("busy").status == 503
        assert here.calls() == (4, 0)


@SERVERS
def test_who_asks_for_much_time_is_not_waited_for(server: str) -> None:
    with two(server, retries=3) as here:
        here.first.script(default=Script(status=429, headers={"retry-after": "3600"}))
        assert here.client.post("long").headers["retry-after"] == "3600"
        assert here.calls() == (1, 0)


@SERVERS
@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_for_everybody(server: str, status: int) -> None:
    with two(server, retries=3, fallbacks=["backup"]) as here:
        here.first.script(default=Script(status=status))
        assert here.client.post("no").status == status
        assert here.calls() == (1, 0)


@SERVERS
@pytest.mark.parametrize("failed", [Script(status=503), Script(status=429, headers={"retry-after": "3600"})])
def test_a_fallback_answers(server: str, failed: Script) -> None:
    """With its own credential, never the caller's, and the same request."""
    with two(server, fallbacks=["backup"]) as here:
        here.first.script(default=failed)
        reply = here.client.post("fall")
        assert reply.status == 200
        assert here.calls() == (1, 1)
        (mine,), (other,) = here.first.ledger(), here.second.ledger()
        assert dict(other.headers)["authorization"] == OWN["authorization"]
        assert mine.request_sha256 == other.request_sha256
        assert [attempt["upstream"] for attempt in here.info(reply)["attempts"]] == ["openai", "backup"]
        assert here.client.post("fall").body == reply.body
        assert here.calls() == (1, 1)


@SERVERS
def test_an_unreachable_provider_falls_back(server: str) -> None:
    with two(server, retries=1, fallbacks=["backup"]) as here:
        here.first.__exit__()
        try:
            reply = here.client.post("fall")
        finally:
            here.first.__enter__()
        assert reply.status == 200
        attempts = here.info(reply)["attempts"]
        assert [(attempt["upstream"], attempt["status"]) for attempt in attempts] == [
            ("openai", None),
            ("openai", None),
            ("backup", 200),
        ]


@SERVERS
def test_a_fallback_whose_headers_cannot_be_made_is_passed_by(server: str) -> None:
    """What makes them is the application's: its failure is logged, and nobody's outcome but its own."""

    async def broken(principal: Principal) -> dict[str, str]:
        raise RuntimeError("no vault")

    with ScriptedProvider(default=Script(tokens=TOKENS)) as last:
        upstreams = {
            "openai": Upstream(last.url + "/nowhere", fallbacks=["broken", "good"], headers=OWN),
            "broken": Upstream("http://127.0.0.1:1", headers=broken),
            "good": Upstream(last.url, headers=OWN),
        }
        with served(last, policy=Policy(drain_s=0), server=server, upstreams=upstreams) as client:
            last.script(Script(status=503))
            reply = client.post("passed")
            assert (reply.status, reply.cut) == (200, False)
            attempts = client.get(f"/streams/{reply.stream}/info").json["attempts"]
            assert [(attempt["upstream"], attempt["status"]) for attempt in attempts] == [
                ("openai", 503),
                ("good", 200),
            ]


@SERVERS
def test_headers_are_made_once_a_call(server: str) -> None:
    """And anew for the next one: credentials may change."""
    made = 0

    async def counted(principal: Principal) -> dict[str, str]:
        nonlocal made
        made += 1
        return {"authorization": f"Bearer {made}"}

    with two(server, retries=1, headers=counted) as here:
        assert here.client.post("one").status == 200
        assert made == 1
        here.first.script(Script(status=503, headers={"retry-after": "0"}), Script(tokens=TOKENS))
        assert here.client.post("two").status == 200
        sent = [dict(call.headers)["authorization"] for call in here.first.ledger()]
        assert sent == ["Bearer 1", "Bearer 2", "Bearer 3"]


@SERVERS
@pytest.mark.parametrize("asks", ["openai", "backup"])
def test_each_upstream_is_asked_for_usage_as_it_is_configured(server: str, asks: str) -> None:
    """Whoever answers: what only we asked for is metered, and no caller gets it."""
    with (
        ScriptedProvider(default=Script(status=503)) as first,
        ScriptedProvider(default=Script(tokens=TOKENS)) as second,
    ):
        upstreams = {
            "openai": Upstream(first.url, fallbacks=["backup"], include_usage=asks == "openai"),
            "backup": Upstream(second.url, headers=OWN, include_usage=asks == "backup"),
        }
        with served(first, policy=Policy(drain_s=0), server=server, upstreams=upstreams) as client:
            reply = client.post("fall")
            assert (reply.status, b"prompt_tokens" in reply.body) == (200, False)
            sizes = [call.request_bytes for provider in (first, second) for call in provider.ledger()]
            assert (sizes[0] > sizes[1]) is (asks == "openai")
            answered = client.get(f"/streams/{reply.stream}/info").json["attempts"][-1]
            assert (answered["usage"] is not None) is (asks == "backup")


@SERVERS
@pytest.mark.parametrize("fault", ["fin", "rst"])
def test_what_may_have_been_billed_is_not_called_again(server: str, fault: Any) -> None:
    """Neither this upstream nor another one, unless the first takes the same key for the same call."""
    script = Script(fault=fault, before_head=True)
    with two(server, retries=3, fallbacks=["backup"], failover="segment") as here:
        here.first.script(default=script)
        reply = here.client.post("unknown")
        assert reply.status == 502
        assert reply.headers["x-should-retry"] == "false"
        assert here.calls() == (1, 0)


@SERVERS
def test_a_forwarded_key_makes_it_safe(server: str) -> None:
    """The same key at every try of one call, another one for another stream, and never the caller's."""
    with two(server, retries=2, forward_key=True) as here:
        here.first.script(Script(fault="rst", before_head=True), Script(tokens=TOKENS))
        assert here.client.post("mine").status == 200
        assert here.client.post("other").status == 200
        keys = [dict(call.headers)["idempotency-key"] for call in here.first.ledger()]
        assert keys[0] == keys[1] != keys[2]
        assert "mine" not in keys


@SERVERS
@pytest.mark.parametrize("store", ["memory:", "sqlite", "file"])
@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script(tokens=TOKENS, fault="fin", at_event=3), "truncated"),
        (Script(tokens=TOKENS, fault="rst", at_event=3), "truncated"),
        (Script(tokens=TOKENS, fault="stall", at_event=3), "stalled"),
        (Script(tokens=TOKENS, fault="clean", at_event=3), "truncated"),
        (Script(tokens=TOKENS, error_at=3), "provider_error"),
        (Script(tokens=TOKENS, fault="fin", at_byte=0), "truncated"),
    ],
    ids=["fin", "rst", "stall", "clean", "error", "nothing"],
)
def test_a_dead_segment_is_followed(server: str, store: str, script: Script, outcome: str, tmp_path: Any) -> None:
    """Its reader gets what came, and the failure; who asks again with the key gets the new one whole; readers by offset
    see the boundary, and no byte of one in the other."""
    where = {"memory:": store, "sqlite": f"{tmp_path}/streams.db", "file": f"file://{tmp_path}/log"}[store]
    with two(server, where, fallbacks=["backup"], failover="segment") as here:
        here.first.script(default=script)
        here.second.script(default=Script(tokens=TOKENS + 1, fault="stall", before_head=True))
        reading = here.client.open("POST", CHAT, BODY, idempotency_key="goes-on")
        here.second.wait_for(lambda calls: any(call.held for call in calls))
        here.second.release()
        first = reading.rest()
        assert first.status == 200
        assert b"error" in first.body
        assert (b"segment_ended" in first.body) == (outcome != "provider_error")
        second = here.client.post("goes-on")
        assert (second.status, second.headers["stream-offset"]) == (200, "s02.0000000000000000")
        assert second.stream == first.stream
        assert second.body.endswith(b"data: [DONE]\n\n")
        assert here.calls() == (1, 1)
        whole = here.client.get(f"/streams/{first.stream}?offset=-1")
        assert whole.body == second.body
        assert whole.headers["stream-next-offset"] == f"s02.{len(second.body):016}"
        dead = here.client.get(f"/streams/{first.stream}?offset=0")
        assert first.body.startswith(dead.body)
        assert dead.headers["stream-next-offset"] == f"{len(dead.body):016}"
        assert dead.headers["stream-closed"] == "true"
        assert dead.headers["stream-outcome"] == "completed"
        dead_end = f"{len(dead.body):016}"
        for path, sent in (
            ("?offset=0", {}),
            (f"?offset={dead_end}", {}),
            ("?offset=0&live=tail", {}),
            ("?offset=0&live=events", {}),
            ("?live=events", {"last_event_id": f"{dead_end}.end"}),
        ):
            reply = here.client.get(f"/streams/{first.stream}{path}", **sent)
            assert reply.headers["stream-segment-outcome"] == outcome
            assert reply.headers["stream-next-segment"] == "s02.0000000000000000"
        assert "stream-segment-outcome" not in whole.headers
        assert "stream-segment-outcome" not in here.client.ask("HEAD", f"/streams/{first.stream}").headers
        info = here.info(first)
        assert (info["state"], info["outcome"]) == ("sealed", "completed")
        assert [(one["segment"], one["bytes"], one["outcome"]) for one in info["segments"]] == [
            (1, len(dead.body), outcome),
            (2, len(second.body), "completed"),
        ]
        assert [(one["upstream"], one["outcome"]) for one in info["attempts"]] == [
            ("openai", outcome),
            ("backup", "completed"),
        ]
        part = here.client.get(f"/streams/{first.stream}?offset=s02.0000000000000000")
        assert part.body == second.body
        assert here.client.get(f"/streams/{first.stream}?offset=s03.0000000000000000").status == 416
        events = here.client.get(f"/streams/{first.stream}?live=events&offset=0")
        if script.at_byte != 0:
            assert b"resumestream.end" in events.body
            assert b"id: s02" not in events.body
        later = here.client.get(f"/streams/{first.stream}?live=events")
        assert b"id: s02." in later.body


@SERVERS
def test_without_another_the_first_ending_stands(server: str) -> None:
    """All fallbacks failed: the stream ends as its segment did, and the tries are in the record."""
    with two(server, fallbacks=["backup"], failover="segment") as here:
        here.first.script(default=Script(tokens=TOKENS, fault="fin", at_event=3))
        here.second.script(default=Script(status=500))
        reply = here.client.post("both")
        assert b"truncated" in reply.body
        info = here.info(reply)
        assert (info["outcome"], len(info["segments"])) == ("truncated", 1)
        assert [(one["status"], one["outcome"], one["bytes"] > 0) for one in info["attempts"]] == [
            (200, "truncated", True),
            (500, "provider_error", False),
        ]
        assert here.client.post("both").headers["idempotent-replayed"] == "true"
        assert here.calls() == (1, 1)


@SERVERS
def test_a_stop_is_no_failure(server: str) -> None:
    with two(server, fallbacks=["backup"], failover="segment") as here:
        here.first.script(default=Script(tokens=TOKENS, hold_at=3))
        reading = here.client.open("POST", CHAT, BODY, idempotency_key="stop")
        reading.read(10)
        stream = reading.headers["stream-id"]
        assert here.client.ask("POST", f"/streams/{stream}/cancel").status == 202
        assert b"cancelled" in reading.rest().body
        assert here.calls() == (1, 0)


@SERVERS
def test_a_stop_while_it_waits_makes_no_call(server: str) -> None:
    """Nothing was billed: the key is free."""
    with two(server, retries=1) as here:
        here.first.script(Script(status=503, headers={"retry-after": "50"}), default=Script(tokens=TOKENS))
        accepted = here.client.post("wait", prefer="respond-async")
        here.first.wait_for(lambda calls: any(call.ended for call in calls))
        assert here.client.ask("POST", f"/streams/{accepted.stream}/cancel").status == 202
        assert here.client.post("wait").status == 200
        assert here.calls() == (2, 0)


@pytest.mark.parametrize(
    ("upstreams", "says"),
    [
        ({"a": Upstream("http://a", fallbacks=["b"])}, "no configured upstream"),
        ({"a": Upstream("http://a", fallbacks=["a"], headers=OWN)}, "the upstream itself"),
        ({"a": Upstream("http://a", fallbacks=["b"]), "b": Upstream("http://b")}, "no headers= of its own"),
        (
            {
                "a": Upstream("http://a", fallbacks=["b"]),
                "b": Upstream("http://b", headers=OWN, dialect="anthropic"),
            },
            "another dialect",
        ),
    ],
)
def test_a_fallback_that_cannot_be_one_is_refused(upstreams: dict[str, Upstream], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ResumeStream("memory:", upstreams=upstreams)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": 11},
        {"retries": True},
        {"fallbacks": "b"},
        {"failover": "x"},
        {"failover": "segment"},
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Upstream("http://a", **wrong)


def dead(here: Two, key: str, **headers: str) -> Reply:
    """What the reader of a segment got that another one follows; that one waits after an event."""
    here.first.script(default=Script(tokens=TOKENS, fault="fin", at_event=3))
    here.second.script(default=Script(tokens=TOKENS + 1, hold_at=1))
    reply = here.client.post(key, **headers)
    assert b"segment_ended" in reply.body
    return reply


@SERVERS
@pytest.mark.parametrize("store", ["memory:", "sqlite"])
@pytest.mark.parametrize("leave", ["cancel", "grace:0.1"])
def test_who_is_sent_away_has_not_left(server: str, store: str, leave: str, tmp_path: Any) -> None:
    """It is told to ask again, and what it finds then is the call that it was told of, going on."""
    where = f"{tmp_path}/streams.db" if store == "sqlite" else store
    with two(server, where, fallbacks=["backup"], failover="segment") as here:
        first = dead(here, "again", stream_on_disconnect=leave)
        time.sleep(0.3)  # longer than the grace: that it passes is what is tested
        again = here.client.open("POST", CHAT, BODY, idempotency_key="again")
        assert again.headers["stream-offset"] == "s02.0000000000000000"
        here.second.release()
        reply = again.rest()
        assert (reply.stream, reply.cut) == (first.stream, False)
        assert reply.body.endswith(b"data: [DONE]\n\n")
        assert here.info(first)["outcome"] == "completed"
        assert here.calls() == (1, 1)


@SERVERS
def test_who_reads_a_dead_segment_has_not_left(server: str) -> None:
    """The same for a reader by offset, which comes when the next one is there already."""
    with two(server, fallbacks=["backup"], failover="segment") as here:
        first = dead(here, "late", stream_on_disconnect="cancel")
        late = here.client.get(f"/streams/{first.stream}?offset=0&live=tail")
        assert late.cut
        late = here.client.get(f"/streams/{first.stream}?offset=0&live=tail")
        here.second.release()
        assert here.client.post("late").body.endswith(b"data: [DONE]\n\n")


@SERVERS
@pytest.mark.parametrize("returns", [False, True])
def test_who_does_not_come_back_has_left(server: str, returns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its time, or for good after it has come back: then `on_disconnect` holds as ever."""
    monkeypatch.setattr(reads, "RETURN_S", 900 if returns else 0.1)
    with two(server, fallbacks=["backup"], failover="segment") as here:
        first = dead(here, "gone", stream_on_disconnect="cancel")
        if returns:
            again = here.client.open("POST", CHAT, BODY, idempotency_key="gone")
            again.read(10)
            again.close()
        here.second.wait_for(lambda calls: calls[0].disconnected)
        end = here.client.get(f"/streams/{first.stream}?live=tail")
        assert (end.cut, here.info(first)["detail"]["code"]) == (True, "nobody_listens")
