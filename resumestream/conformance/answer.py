"""An answer as a check looks at it: each look says, where it fails, what was expected, what was seen, and on what."""

from __future__ import annotations

import json
from typing import Any, Self

from .exchange import Exchange, Headers
from .sse import Event, events, without_keepalives
from .verdicts import Failed

_SHOWN = 80
"""Bytes or characters of what was seen that a failure quotes."""


class Members(dict[str, Any]):
    """A JSON object of an answer. Asked for a member that is not there it raises Failed."""

    def __init__(self, members: dict[str, Any], *, request: str) -> None:
        super().__init__(members)
        self._request = request

    def __missing__(self, name: str) -> Any:
        raise Failed(f"a member {name!r}", f"only {', '.join(self)}", self._request)


class Answer:
    """What a server answers to one request. Nothing is waited for before it is looked at; all waits raise Failed."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def request(self) -> str:
        """Method and path."""
        return self._exchange.request

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def headers(self) -> Headers:
        """In their order, names in lower case."""
        return self._exchange.headers

    @property
    def body(self) -> bytes:
        """As far as it was read."""
        return self._exchange.body

    @property
    def payload(self) -> bytes:
        """The body as far as it was read, without what keeps a connection alive."""
        return without_keepalives(self.body)

    @property
    def events(self) -> list[Event]:
        """The whole events in the payload."""
        return events(self.payload)

    @property
    def ended(self) -> str:
        """`framed`, `cut`, or empty as long as neither has been read."""
        return self._exchange.ended

    @property
    def began_s(self) -> float:
        """When the request was sent, on the monotonic clock."""
        return self._exchange.began_s

    @property
    def stream(self) -> str:
        """The `Stream-Id`."""
        return self.value("stream-id")

    # --- waiting -------------------------------------------------------------------------------------------------

    def until(self, size: int) -> Self:
        """Read so many bytes of the body, or to its end where that comes first."""
        self._exchange.read_until(lambda: len(self.body) >= size, f"{size} bytes")
        return self

    def until_events(self, count: int) -> Self:
        """Read so many whole events. Raises Failed where the answer ends before."""
        self._exchange.read_until(lambda: len(self.events) >= count, f"{count} events")
        return self.expect(len(self.events) >= count, f"{count} events", f"{len(self.events)}, then the end")

    def end(self) -> Self:
        """Read to the end, however it comes."""
        self._exchange.read_until(lambda: False, "the end")
        return self

    def closes(self) -> Self:
        """The server ends the connection behind the answer."""
        self.end()
        self._exchange.read_close()
        return self

    def silent_for(self, seconds: float) -> Self:
        """Read whatever comes in that time."""
        self._exchange.read_for(seconds)
        return self

    def leave(self, *, reset: bool = False) -> Self:
        """Go away in mid-answer, with FIN or with RST."""
        self._exchange.leave(reset=reset)
        return self

    # --- looking -------------------------------------------------------------------------------------------------

    def expect(self, met: bool, expected: str, seen: object) -> Self:
        """Raises Failed unless met."""
        if not met:
            raise Failed(expected, str(seen), self.request)
        return self

    def has_status(self, *allowed: int) -> Self:
        wanted = " or ".join(map(str, allowed))
        if self.status in allowed:
            return self
        with_body = self.end().body[: _SHOWN * 4] if self.status >= 300 else b""
        return self.expect(False, f"status {wanted}", f"{self.status} {_text(with_body)}".strip())

    def get(self, name: str) -> str | None:
        """The header's value; where it is there more than once, joined with commas."""
        values = [value for known, value in self.headers if known == name.lower()]
        return ", ".join(values) if values else None

    def value(self, name: str) -> str:
        """The same, and it must be there."""
        found = self.get(name)
        if found is None:
            raise Failed(f"a header {name}", f"none (status {self.status})", self.request)
        return found

    def has_header(self, name: str, value: str) -> Self:
        found = self.get(name)
        return self.expect(found == value, f"{name}: {value}", "no such header" if found is None else found)

    def lacks_header(self, name: str) -> Self:
        return self.expect(self.get(name) is None, f"no header {name}", self.get(name))

    def has_body(self, body: bytes) -> Self:
        """The whole body is this."""
        return self._same(body, self.end().body)

    def has_payload(self, payload: bytes) -> Self:
        """The whole body, without keep-alives, is this."""
        return self._same(payload, self.end().payload)

    def _same(self, expected: bytes, seen: bytes) -> Self:
        if expected == seen:
            return self
        pairs = enumerate(zip(expected, seen, strict=False))
        at = next((at for at, (one, other) in pairs if one != other), min(len(expected), len(seen)))
        return self.expect(
            False,
            f"{len(expected)} bytes of body, at byte {at} {_text(expected[at : at + _SHOWN]) or 'the end'}",
            f"{len(seen)} bytes, there {_text(seen[at : at + _SHOWN]) or 'the end'}",
        )

    def ends_framed(self) -> Self:
        """It ends as its framing says: for every client it is whole."""
        return self.expect(self.end().ended == "framed", "a body that ends as framed", "one that was cut")

    def ends_cut(self) -> Self:
        """It ends so that every client knows that something is missing."""
        return self.expect(self.end().ended == "cut", "a body that breaks off", "one that ends as if it were whole")

    def json(self) -> Any:
        """The whole body as JSON."""
        try:
            return json.loads(self.end().body, object_hook=lambda members: Members(members, request=self.request))
        except ValueError:
            raise Failed("JSON", _text(self.body[:_SHOWN]), self.request) from None

    def is_problem(self, status: int, code: str) -> Any:
        """An error of the server's own, with this code; gives its JSON."""
        self.has_status(status)
        media_type = self.value("content-type").partition(";")[0]
        self.expect(media_type == "application/problem+json", "content-type application/problem+json", media_type)
        problem = self.json()
        kind = problem.get("type", "") if isinstance(problem, dict) else ""
        self.expect(kind == f"urn:resumestream:problem:{code}", f"a problem of type {code}", kind)
        return problem


def _text(data: bytes) -> str:
    return repr(data.decode("utf-8", "replace")) if data else ""
