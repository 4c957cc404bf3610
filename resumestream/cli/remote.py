"""A running server's streams, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

import anyio

from ..errors import ResumeStreamError, UpstreamLost
from ..metering import By
from ..upstream.call import HttpAnswer
from .streams import Listing, Reading, Record, Wanted
from .web import Parameters, Web, drained


class Remote:
    """Sees what the headers' principal may see."""

    def __init__(self, url: str, headers: Sequence[tuple[str, str]]) -> None:
        self._web = Web(url, headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._web.__aexit__(*exc)

    async def listing(self, wanted: Wanted) -> Listing:
        query = [("label", label) for label in wanted.labels]
        query += [("state", wanted.state.value)] if wanted.state else []
        query += [("upstream", wanted.upstream)] if wanted.upstream else []
        query += [("after", wanted.after)] if wanted.after else []
        page = await self._json("GET", "/streams", [*query, ("limit", str(wanted.limit))])
        try:
            return Listing(page["streams"], page.get("next"))
        except (LookupError, TypeError, AttributeError):
            raise _no_server(self._web.base_url) from None

    async def record(self, stream: str) -> Record:
        record: Record = await self._json("GET", f"{_path(stream)}/info", gone=True)
        return record

    async def read(self, stream: str, offset: str) -> Reading:
        answer = await self._web.open("GET", _path(stream), [("live", "tail"), ("offset", offset)])
        if not answer.head.ok:
            raise _refusal(answer.head.status, await drained(answer))
        return _Reading(self, stream, answer)

    async def cancel(self, stream: str) -> Record:
        before = await self.record(stream)
        await self._ask("POST", f"{_path(stream)}/cancel")
        return before

    async def delete(self, streams: Sequence[str], *, forget: bool) -> None:
        for stream in streams:
            await self._ask("DELETE", _path(stream), _forgetting(forget))

    async def delete_labelled(self, labels: tuple[str, ...], *, forget: bool) -> None:
        await self._ask("DELETE", "/streams", [*(("label", label) for label in labels), *_forgetting(forget)])

    async def usage(self, by: By, since: str | None) -> Mapping[str, Any]:
        told = await self._json("GET", "/usage", [("by", by.value), *([("since", since)] if since else [])])
        if not (isinstance(told, dict) and {"groups", "total"} <= told.keys()):
            raise _no_server(self._web.base_url)
        return told

    async def _json(self, method: str, path: str, query: Parameters = (), *, gone: bool = False) -> Any:
        body = await self._ask(method, path, query, gone=gone)
        try:
            return json.loads(body)
        except ValueError:
            raise _no_server(self._web.base_url) from None

    async def _ask(self, method: str, path: str, query: Parameters = (), *, gone: bool = False) -> bytes:
        """`gone`: a 410 is an answer as well."""
        told, body = await self._web.ask(method, path, query)
        if told.ok or (gone and told.status == 410):
            return body
        raise _refusal(told.status, body)


class _Reading:
    def __init__(self, remote: Remote, stream: str, answer: HttpAnswer) -> None:
        self._remote, self._stream, self._answer = remote, stream, answer
        self._at = int(answer.head.get("stream-offset") or 0)

    async def receive(self) -> bytes:
        """A stream that did not end well ends in a cut body: whether that was its end, its record tells."""
        try:
            data = await self._answer.receive()
        except UpstreamLost:
            record = await self._remote.record(self._stream)
            if record["closed"] and self._at == record["bytes"]:
                raise anyio.EndOfStream from None
            raise ResumeStreamError(
                f"the server cut the answer at offset {self._at} of a stream that goes on; "
                f"read on with --offset {self._at}"
            ) from None
        self._at += len(data)
        return data

    async def aclose(self) -> None:
        await self._answer.aclose()


def _path(stream: str) -> str:
    return f"/streams/{quote(stream, safe='')}"


def _forgetting(forget: bool) -> list[tuple[str, str]]:
    return [("forget", "true")] if forget else []


def _refusal(status: int, body: bytes) -> ResumeStreamError:
    """The server's own words, where it is one of ours."""
    try:
        return ResumeStreamError(str(json.loads(body)["detail"]))
    except (ValueError, LookupError, TypeError):
        return ResumeStreamError(f"the server answered {status}; is --url the mount point of resumestream?")


def _no_server(url: str) -> ResumeStreamError:
    return ResumeStreamError(f"{url} answers, but not as resumestream does; --url is its mount point")
