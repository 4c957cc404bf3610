"""A plain HTTP client over a real socket, and a served resumestream: what the tests of the faces stand on."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette

from resumestream import Policy, ResumeStream
from resumestream.testing import ScriptedProvider, running

TIMEOUT_S = 10
CHAT = "/openai/v1/chat/completions"
BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


@dataclass(frozen=True)
class Reply:
    """An answer read to its end. `cut`: the body broke."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def stream(self) -> str:
        return self.headers["stream-id"]


class Reading:
    """An answer that is being read."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        data = b""
        while len(data) < size:
            piece = self._response.read1(size - len(data))
            assert piece, f"the body ended after {len(data)} of {size} bytes"
            data += piece
        return data

    def rest(self) -> Reply:
        """Read to the end."""
        try:
            body, cut = self._response.read(), False
        except http.client.IncompleteRead as error:
            body, cut = error.partial, True
        except ConnectionError:
            body, cut = b"", True
        self.close()
        return Reply(self.status, self.headers, body, cut)

    def close(self) -> None:
        """Leave, as a caller does that dies."""
        self._response.close()
        self._connection.close()


class Client:
    """`base` is where the faces are mounted; `headers` go with every request."""

    def __init__(self, base: str, **headers: str) -> None:
        self.base, self._headers = base, {"authorization": "Bearer test", **_dashed(headers)}

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> Reading:
        url = urlsplit(self.base)
        assert url.hostname is not None
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
        sent = {name: value for name, value in {**self._headers, **_dashed(headers)}.items() if value}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        connection.request(method, url.path + path, data, sent)
        return Reading(connection)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        return self.open(method, path, body, **headers).rest()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def post(self, key: str = "", **headers: str) -> Reply:
        """A chat call, with a key unless that is empty."""
        return self.ask("POST", CHAT, BODY, idempotency_key=key, **headers)


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextlib.contextmanager
def served(
    provider: ScriptedProvider,
    *,
    store: str = "memory:",
    policy: Policy | None = None,
    server: Any = "uvicorn",
    **more: Any,
) -> Iterator[Client]:
    """A Starlette app with resumestream installed at /llm, in front of the provider."""
    more = {"upstreams": {"openai": provider.url}, "policy": policy or Policy(drain_s=0), **more}
    streams = ResumeStream(store, **more)
    app = Starlette()
    streams.install(app, "/llm")
    with running(app, server=server) as base:
        yield Client(base + "/llm")
