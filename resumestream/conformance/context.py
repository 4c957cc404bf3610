"""What a check gets: a caller of its own, an upstream of its own, the server's declared limits, and a deadline."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from resumestream.testing.provider import Script, ScriptedProvider

from .answer import Answer
from .exchange import Address, Exchange
from .limits import WINDOWS
from .paths import CHAT, request_body
from .upstream import HEADER, ScriptedUpstream
from .verdicts import Failed

_POLL_S = 0.02
_CLEAN_UP_S = 20.0
_CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
_DEFAULT_KEY = "the check's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a run is made against."""

    address: Address
    provider: ScriptedProvider
    upstream_url: str
    """Where the server reaches the provider."""
    limits: Mapping[str, float] = field(default_factory=dict)
    deadline_s: float = 30.0
    """For a check; the windows that it needs come on top."""


class Context:
    """`post` and `ask` send a request and return at once; what is looked at of the answer is waited for."""

    def __init__(self, setting: Setting, needs: tuple[str, ...] = ()) -> None:
        self._setting = setting
        windows_s = sum(setting.limits[name] for name in needs if name in WINDOWS)
        self._until = time.monotonic() + setting.deadline_s + windows_s
        name = secrets.token_hex(8)
        self.key = f"conformance-{name}"
        """An idempotency key that nobody else has."""
        self.caller = {"authorization": f"Bearer conformance-{secrets.token_hex(12)}"}
        """The headers of the principal that asks, unless a request says otherwise."""
        self.stranger = {"authorization": f"Bearer conformance-{secrets.token_hex(12)}"}
        """Those of another one."""
        self.upstream = ScriptedUpstream(setting.provider, name, self._until)
        self._script = self.upstream.script(Script(tokens=5))
        self._exchanges: list[tuple[Exchange, Mapping[str, str]]] = []

    # --- asking --------------------------------------------------------------------------------------------------

    def post(
        self,
        *scripts: Script,
        path: str = CHAT,
        upstream: str = "main",
        key: str | None = _DEFAULT_KEY,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
        wire: bytes | None = None,
    ) -> Answer:
        """A call through the gateway, by default a keyed one of the check's caller. `scripts`: what the upstream's
        calls for it get in turn, the last from then on; none: those of the last request."""
        if scripts:
            self._script = self.upstream.script(*scripts)
        fields: dict[str, str | None] = {"content-type": "application/json"}
        if key is not None:
            fields["idempotency-key"] = self.key if key is _DEFAULT_KEY else key
        sent = request_body(path) if body is None else body
        return self.ask("POST", f"/{upstream}{path}", body=sent, headers={**fields, **(headers or {})}, wire=wire)

    def get(self, path: str, headers: Mapping[str, str | None] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str | None] | None = None,
        wire: bytes | None = None,
        window: int | None = None,
    ) -> Answer:
        """Any request of the check's caller. A header that is None is left out. `wire`: the bytes that go over the
        connection instead. `window`: how many bytes may come before they are read."""
        fields = {**self.caller, HEADER: self._script, **{k.lower(): v for k, v in (headers or {}).items()}}
        sent = [(name, value) for name, value in fields.items() if value is not None]
        exchange = Exchange(self._setting.address, method, path, sent, body, self._until, wire=wire, window=window)
        self._exchanges.append((exchange, {name: value for name, value in sent if name in _CREDENTIALS}))
        return Answer(exchange)

    def wire(self, method: str, path: str, *more: tuple[str, str], body: bytes = b"", version: str = "1.1") -> bytes:
        """The check's own request as bytes, with just these headers beside `Host`, its caller and its script: for
        what a client library would not send. The framing of the body is among `more`."""
        fields = [("host", self.authority), *self.caller.items(), (HEADER, self._script), *more]
        lines = [f"{method} {self.root}{path} HTTP/{version}", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    # --- streams -------------------------------------------------------------------------------------------------

    def read(self, stream: str, query: str = "", **options: Any) -> Answer:
        """`GET /streams/{stream}?{query}`."""
        return self.get(f"/streams/{stream}" + (f"?{query}" if query else ""), **options)

    def head(self, stream: str, **options: Any) -> Answer:
        return self.ask("HEAD", f"/streams/{stream}", **options)

    def info(self, stream: str, **options: Any) -> Any:
        """The JSON of `GET /streams/{stream}/info`."""
        return self.get(f"/streams/{stream}/info", **options).json()

    def sealed(self, stream: str) -> Answer:
        """HEAD of a stream once it is sealed."""
        return self.eventually(
            lambda: self.head(stream), lambda seen: seen.get("stream-state") == "sealed", "stream-state: sealed"
        )

    def eventually(self, ask: Callable[[], Answer], met: Callable[[Answer], bool], what: str) -> Answer:
        """Ask again and again until it is so. Raises Failed at the check's deadline, with what was seen last."""
        while not met(answer := ask().end()):
            if time.monotonic() + _POLL_S > self._until:
                shown = {name: value for name, value in answer.headers if name.startswith("stream-")}
                raise Failed(what, f"status {answer.status}, {shown}", answer.request)
            answer.leave()  # a long wait asks often, and would run out of files
            time.sleep(_POLL_S)  # HTTP tells of no event
        return answer

    # --- the rest ------------------------------------------------------------------------------------------------

    def expect(self, met: bool, expected: str, seen: object, request: str = "") -> None:
        """What no one answer shows. Raises Failed unless met."""
        if not met:
            raise Failed(expected, str(seen), request)

    @property
    def limits(self) -> Mapping[str, float]:
        """What the server declared."""
        return self._setting.limits

    def limit(self, name: str) -> float:
        """A limit that the check said it needs."""
        return self._setting.limits[name]

    def limit_bytes(self, name: str) -> int:
        return int(self._setting.limits[name])

    @property
    def left_s(self) -> float:
        """Of the check's deadline."""
        return self._until - time.monotonic()

    @property
    def root(self) -> str:
        """The path of the mount point, as `Location` begins with; empty for the root."""
        return self._setting.address.root

    @property
    def authority(self) -> str:
        """What `Host` says."""
        return self._setting.address.authority

    def clean_up(self) -> None:
        """Leave nothing behind: no connection, no stream, no call."""
        made, unseen = dict[str, Mapping[str, str]](), list[Mapping[str, str]]()
        for exchange, who in self._exchanges:
            if exchange.answered:
                made |= {value: who for name, value in exchange.headers if name == "stream-id"}
            elif exchange.request.startswith("POST") and who not in unseen:
                unseen.append(who)
            exchange.leave()
        until = time.monotonic() + _CLEAN_UP_S
        for who in unseen:  # the streams of requests whose answers nobody looked at
            with contextlib.suppress(ValueError, TypeError, KeyError):
                made |= {entry["id"]: who for entry in json.loads(self._tidy("GET", "/streams", who, until))["streams"]}
        for stream, who in made.items():
            self._tidy("DELETE", f"/streams/{stream}?forget=true", who, until)
        self.upstream.close()

    def _tidy(self, method: str, path: str, who: Mapping[str, str], until: float) -> bytes:
        """The body of the answer, whatever it is; none where nothing comes."""
        with contextlib.suppress(Failed):
            exchange = Exchange(self._setting.address, method, path, list(who.items()), b"", until)
            try:
                exchange.read_until(lambda: False, "the end")
            finally:
                exchange.leave()
            return exchange.body
        return b""
