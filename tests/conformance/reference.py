"""The reference server as the suite wants it: its upstreams, and windows and caps that a run can reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp

from resumestream import Policy, ResumeStream, Upstream
from resumestream.conformance.context import Setting
from resumestream.conformance.exchange import Address
from resumestream.conformance.levels import CLOSED, LEVELS, SPARE_CREDENTIAL
from resumestream.testing.provider import ScriptedProvider
from resumestream.testing.running import ServerName, running

LIMITS: dict[str, Any] = {
    "first_byte_s": 3,
    "stall_s": 5,
    "keepalive_s": 0.5,
    "receive_s": 2,
    "settle_s": 1,
    "max_duration_s": 8,
    "max_retain_s": 604_800,
    "tombstone_s": 6,
    "erase_s": 4,
    "max_stream_bytes": 6 << 20,
    "max_event_bytes": 1 << 17,
    "max_request_bytes": 1 << 17,
    "max_head_bytes": 1 << 15,
    "max_live_streams": 60,
    "max_orphan_drains": 40,
    "max_total_bytes": 24 << 20,
}
"""Declared to the suite, and the server's policy."""

ALL = tuple(LEVELS)


def reference(provider_url: str, store: str) -> Starlette:
    streams = ResumeStream(
        store,
        {
            "main": Upstream(provider_url),
            "closed": Upstream(CLOSED),
            "other": Upstream(f"{provider_url}/other"),
            "retrying": Upstream(provider_url, retries=1, fallbacks=["spare"]),
            "segments": Upstream(provider_url, failover="segment", fallbacks=["spare"]),
            "responses": Upstream(provider_url, resume="responses"),
            "spare": Upstream(f"{provider_url}/spare", headers={"authorization": SPARE_CREDENTIAL}),
        },
        Policy(drain_s=0.2, **LIMITS),
    )
    app = Starlette()
    streams.install(app, "/llm")
    return app


@contextmanager
def setting(
    store: str = "memory:",
    *,
    server: ServerName = "uvicorn",
    around: Callable[[Starlette], ASGIApp] = lambda app: app,
    deadline_s: float = 30,
) -> Iterator[Setting]:
    """A run's setting with the reference server in it; `around` may put something between it and its callers."""
    with ScriptedProvider() as provider, running(around(reference(provider.url, store)), server=server) as url:
        yield Setting(
            address=Address.parse(f"{url}/llm"),
            provider=provider,
            upstream_url=provider.url,
            limits=LIMITS,
            deadline_s=deadline_s,
        )
