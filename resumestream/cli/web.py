"""HTTP as a client: our own upstream call, turned to one server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self
from urllib.parse import urlencode

import anyio

from ..errors import ConfigError
from ..model import Head, Headers
from ..upstream import Call, Pool, RawHeaders, Upstream, target
from ..upstream.call import HttpAnswer

Parameters = Sequence[tuple[str, str]]


class Web:
    """Requests to one server, below `base_url`. Raises ConfigError for what is no URL or header."""

    def __init__(self, base_url: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.base_url = base_url.rstrip("/")
        self._upstream = Upstream(self.base_url)
        self._pool = Pool()
        try:
            self._headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        except UnicodeEncodeError:
            raise ConfigError("a header has characters that HTTP cannot carry") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.aclose()

    async def open(self, method: str, path: str, query: Parameters = (), body: bytes = b"") -> HttpAnswer:
        """The answer, its body still to come. Raises UpstreamUnreachable, UpstreamLost, InvalidHeader."""
        wanted = target(self.base_url, path.encode("ascii"), urlencode(query).encode())
        return await Call("", self._upstream, self._pool, method, wanted, self._headers, body, kept=_all).open()

    async def ask(self, method: str, path: str, query: Parameters = (), body: bytes = b"") -> tuple[Head, bytes]:
        """The whole answer."""
        answer = await self.open(method, path, query, body)
        return answer.head, await drained(answer)


def _all(status: int, headers: RawHeaders) -> Headers:
    """Also those of ours, which an upstream's record never has."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


async def drained(answer: HttpAnswer) -> bytes:
    """The rest of the body. Raises UpstreamLost where it is cut."""
    parts: list[bytes] = []
    try:
        while True:
            parts.append(await answer.receive())
    except anyio.EndOfStream:
        return b"".join(parts)
    finally:
        await answer.aclose()
