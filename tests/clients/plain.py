"""A caller that hides nothing: status, headers and body as they came, and whether the body was cut."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from .sdks import CREDENTIAL

DEADLINE_S = 20


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    cut: bool
    """The body did not end as framed."""

    def json(self) -> Any:
        return json.loads(self.body)


class Plain:
    """One keep-alive connection. Sends the credential, and `headers` with every request."""

    def __init__(self, url: str, **headers: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=DEADLINE_S)
        self.headers = {"authorization": f"Bearer {CREDENTIAL}", "content-type": "application/json", **headers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def head(self, path: str) -> Reply:
        return self.ask("HEAD", path)

    def post(self, path: str, body: bytes | object, headers: Mapping[str, str] | None = None) -> Reply:
        """`body` that is not bytes is sent as JSON."""
        return self.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        return self.rest(self.begin(method, path, body, headers))

    def begin(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send the request and wait for the head of its answer."""
        self._connection.request(method, self._path + path, body or None, {**self.headers, **(headers or {})})
        return self._connection.getresponse()

    def rest(self, response: http.client.HTTPResponse) -> Reply:
        """The answer, once its body has ended."""
        headers = {name.lower(): value for name, value in response.getheaders()}
        parts: list[bytes] = []
        cut = True
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError), response:
            while piece := response.read1():
                parts.append(piece)
            cut = bool(response.length)  # read1 takes a short body with a length for a whole one
        if cut:
            self._connection.close()
        return Reply(response.status, headers, b"".join(parts), cut)

    # --- the streams face ----------------------------------------------------------------------------------------

    def stream_of(self, key: str) -> str:
        """The id of the newest stream of `key`."""
        return str(self.get(f"/streams?key={key}").json()["streams"][0]["id"])
