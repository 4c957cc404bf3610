"""A scripted provider, the gateway before it, and a server around that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.applications import Starlette

from resumestream import Policy, ResumeStream
from resumestream.testing.provider import ScriptedProvider
from resumestream.testing.running import ServerName, running

UPSTREAMS = ("openai", "anthropic", "gemini", "provider")
"""All of them are the scripted provider."""


@dataclass(frozen=True)
class Served:
    provider: ScriptedProvider
    url: str
    """Of the mount point: `{url}/{upstream}/{path}`."""


@contextmanager
def served(
    store: str = "memory:",
    *,
    server: ServerName = "uvicorn",
    policy: Policy | None = None,
    prepare: Callable[[Starlette], None] = lambda app: None,
) -> Iterator[Served]:
    """`prepare` may add the host's own middleware."""
    with ScriptedProvider() as provider:
        streams = ResumeStream(store, dict.fromkeys(UPSTREAMS, provider.url), policy)
        app = Starlette()
        prepare(app)
        streams.install(app, "/llm")
        with running(app, server=server) as url:
            yield Served(provider, f"{url}/llm")
