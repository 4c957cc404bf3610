"""Straight through: what creates no stream goes to the upstream and back with bounded memory, unrecorded."""

from __future__ import annotations

from contextlib import aclosing

import anyio
from starlette.types import Message, Receive, Scope, Send

from ..errors import UpstreamLost, UpstreamRedirect, UpstreamSilent
from ..model import Head
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
        await self._inbound.while_connected(self._relay, scope, send)

    async def _relay(self, scope: Scope, send: Send) -> None:
        async with aclosing(await self._open()) as answer:
            self._inbound.ignore()  # an upstream that answered takes no more of the body
            start = self._start(answer.head)
            try:
                await send(start)
                whole = await self._body(answer, send)
                await answer.aclose()  # before the end: the caller's next call finds the connection
                if whole:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    cut(scope)
            except BaseException:
                cut(scope)
                raise

    async def _open(self) -> Answer:
        wait_s = self._policy.first_byte_s
        with anyio.move_on_after(wait_s):
            return await self._source.open()
        raise UpstreamSilent(f"Upstream {self._source.upstream} sent no answer within {wait_s:g} s.")

    def _start(self, head: Head) -> Message:
        """The status line and headers. Raises UpstreamRedirect."""
        if 300 <= head.status < 400 and head.status != 304:
            raise UpstreamRedirect(
                f"Upstream {self._source.upstream} answered {head.status}, a redirect, which is never followed. "
                "Configure the URL it leads to."
            )
        names = {name for name, _ in headers.UNCACHED}
        kept = [(name, value) for name, value in head.headers if name not in names]
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*kept, *headers.UNCACHED)]
        return {"type": "http.response.start", "status": head.status, "headers": raw}

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
