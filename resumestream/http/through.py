"""Straight through: what creates no stream goes to the upstream and back with bounded memory, unrecorded."""

from __future__ import annotations

import anyio
from starlette.types import Receive, Scope, Send

from ..errors import UpstreamLost, UpstreamRedirect, UpstreamSilent
from ..ports import Answer, Source
from . import headers
from .guard import cut
from .inbound import Inbound
from .site import Site


class Through:
    """One call that nobody can come back to. Raises ResumeStreamError before the status line."""

    def __init__(self, site: Site, source: Source, inbound: Inbound) -> None:
        self._source, self._inbound, self._policy = source, inbound, site.policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._inbound.while_connected(lambda: self._relay(scope, send))

    async def _relay(self, scope: Scope, send: Send) -> None:
        wait_s = self._policy.first_byte_s
        answer: Answer | None = None
        with anyio.move_on_after(wait_s):
            answer = await self._source.open()
        if answer is None:
            raise UpstreamSilent(f"Upstream {self._source.upstream} sent no answer within {wait_s:g} s.")
        try:
            head = answer.head
            if 300 <= head.status < 400 and head.status != 304:
                raise UpstreamRedirect(
                    f"Upstream {self._source.upstream} answered {head.status}, a redirect, which is never followed. "
                    "Configure the URL it leads to."
                )
            names = {name for name, _ in headers.UNCACHED}
            kept = [(name, value) for name, value in head.headers if name not in names]
            raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*kept, *headers.UNCACHED)]
            await send({"type": "http.response.start", "status": head.status, "headers": raw})
            if not await self._body(answer, send):
                cut(scope)
                return
        finally:
            await answer.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, answer: Answer, send: Send) -> bool:
        """Whether the body ended as it should."""
        while True:
            with anyio.move_on_after(self._policy.stall_s):
                try:
                    data = await answer.receive()
                except anyio.EndOfStream:
                    return True
                except UpstreamLost:
                    return False
                await send({"type": "http.response.body", "body": data, "more_body": True})
                continue
            return False
