"""Callers that are killed in mid-stream and come back in a new process: the whole answer, one provider call."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from resumestream.testing.provider import Script
from resumestream.testing.running import ServerName

from .clients import agent
from .clients.process import Caller
from .clients.sdks import CALLERS, SDK_WARNINGS, ask, sdk_of
from .clients.served import served

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)

TOKENS = 12
WHOLE = Script(tokens=TOKENS).text
SERVERS: list[ServerName] = ["uvicorn", "hypercorn-trio"]


def upto(tokens: int) -> str:
    return Script(tokens=tokens).text


CASES: list[tuple[str, ServerName, str]] = [
    *((caller, "uvicorn", "sqlite") for caller in CALLERS),
    *((caller, "hypercorn-trio", "sqlite") for caller in CALLERS if caller.endswith("/sync")),
    ("openai-chat/sync", "uvicorn", "memory"),
]


@pytest.mark.parametrize(("caller", "server", "store"), CASES)
def test_a_caller_killed_at_any_event_resumes_in_a_new_process(
    caller: str, server: ServerName, store: str, tmp_path: Path
) -> None:
    """Killed at a random event, it attaches to the running answer; another attaches to the ended one. One is paid."""
    at = random.Random(f"{caller} {server} {store}").randint(0, TOKENS)
    url = "memory:" if store == "memory" else f"sqlite:///{tmp_path}/streams.db"
    with served(url, server=server) as gateway:
        provider, headers = gateway.provider, {"Idempotency-Key": "turn-1"}
        provider.script(Script(tokens=TOKENS, hold_at=sdk_of(caller).events_before_text + at))

        with Caller(ask, caller, gateway.url, headers) as killed:
            provider.wait_for(lambda calls: any(call.held for call in calls), timeout_s=20)
            killed.reads(upto(at))
            killed.kill()
        with Caller(ask, caller, gateway.url, headers) as restarted:
            restarted.reads(upto(at))
            provider.release()
            assert restarted.ends() == WHOLE
        with Caller(ask, caller, gateway.url, headers) as late:
            assert late.ends() == WHOLE

        (call,) = provider.ledger()
        assert (call.finished, call.disconnected, call.tokens_billed) == (True, False, TOKENS)


@pytest.mark.parametrize("caller", CALLERS)
def test_the_gateway_changes_nothing_that_an_undisturbed_caller_sees(caller: str) -> None:
    """Event for event, the SDK reads through the gateway what it reads from the provider itself."""
    with served() as gateway:
        gateway.provider.script(default=Script(tokens=TOKENS))
        direct: list[str] = []
        ask(caller, gateway.provider.url, {}, direct.append)
        through: list[str] = []
        ask(caller, gateway.url, {"Idempotency-Key": "turn-1"}, through.append)
        assert through == direct
        assert "".join(through) == WHOLE


@pytest.mark.parametrize("server", SERVERS)
def test_an_agent_killed_in_its_second_model_call_pays_for_two_in_all(server: ServerName, tmp_path: Path) -> None:
    """With a scope, a restarted agent repeats its steps and attaches to each of them."""
    at = random.Random(f"agent {server}").randint(1, TOKENS - 1)
    with served(f"sqlite:///{tmp_path}/streams.db", server=server) as gateway:
        provider, headers = gateway.provider, {"Stream-Scope": "turn-1"}
        provider.script(Script(tokens=3, tool=agent.TOOL), Script(tokens=TOKENS, hold_at=1 + at))
        first_step = f"{upto(3)}[tool]"

        with Caller(agent.run, gateway.url, headers) as killed:
            killed.reads(first_step + upto(at))
            killed.kill()
        with Caller(agent.run, gateway.url, headers) as restarted:
            restarted.reads(first_step + upto(at))
            provider.release()
            assert restarted.ends() == f"{first_step}{WHOLE}[result]{WHOLE}"

        calls = provider.ledger()
        assert [call.tokens_billed for call in calls] == [3, TOKENS]
        assert all(call.finished for call in calls)
