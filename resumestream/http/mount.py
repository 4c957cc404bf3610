"""Where the faces are, whatever server, proxy or host app lies above them."""

from __future__ import annotations

from collections.abc import Awaitable
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ConfigError, NotFound

_FACES = "resumestream.faces"
_ALONE = "resumestream.alone"
_REQUESTS = ("http", "websocket")


def checked(path: str) -> str:
    """A mount point without its last slash, empty at the root. Raises ConfigError."""
    if not path.startswith("/") or "{" in path:
        raise ConfigError(f"the path {path!r} cannot be mounted at; use a fixed one that begins with '/', as in '/llm'")
    return path.rstrip("/")


def located(app: ASGIApp, path: str) -> ASGIApp:
    """`app`, its endpoints told that the faces are at `path` below its root: see `faces_path`."""

    def telling(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] in _REQUESTS:
            scope = {**scope, _FACES: _root(scope) + path}
        return app(scope, receive, send)

    return telling


def faces_path(scope: Scope) -> str | None:
    """Where the faces are, as a request to an endpoint of the host's own knows it; None: it does not."""
    path: str | None = scope.get(_FACES)
    return path


def alone(faces: ASGIApp) -> ASGIApp:
    """`faces` as all that their server serves: no app lies around them. Servers that run a lifespan need not say so."""

    def telling(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return faces({**scope, _ALONE: True}, receive, send)

    return telling


def is_alone(scope: Scope) -> bool:
    return _ALONE in scope


def mounted(app: ASGIApp, faces: ASGIApp, path: str) -> ASGIApp:
    """`app`, with `faces` answering at `path` and below."""
    told = located(app, path)

    def either(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine: it would hold its own scope for as long as the answer takes
        if scope["type"] in _REQUESTS:
            root = _root(scope)
            below = scope["path"][len(_within(root, scope["path"])) :]
            if below == path or below.startswith(path + "/"):
                return faces({**scope, "root_path": root + path}, receive, send)
        return told(scope, receive, send)

    return either


def split(scope: Scope) -> tuple[str, bytes]:
    """The first path segment below the mount point, and the rest as the caller wrote it, from its `/` on.

    Raises NotFound where the path names the mount point in a way of its own (`/llm%2Fopenai`), which a rule of the
    host about paths may have read differently.
    """
    path, raw = scope["path"], scope.get("raw_path") or b""
    raw = raw.partition(b"?")[0]
    if _text(raw) != path:
        raw = quote(path).encode()  # there was none, or a middleware rewrote the path alone
    root = _within(_root(scope), path)
    depth = root.count("/")
    parts = raw.split(b"/", depth + 2)
    if _text(b"/".join(parts[: depth + 1])) != root:
        raise NotFound("The path to the mount point has percent-encoded slashes.")
    below = parts[depth + 1 :]
    return _text(below[0]) if below else "", b"/" + below[1] if len(below) > 1 else b""


def _root(scope: Scope) -> str:
    return str(scope.get("root_path", "")).rstrip("/")


def _within(root: str, path: str) -> str:
    """What of `root` is in `path`: all of it, says ASGI; but hypercorn, and hosts that set a `root_path` for the proxy
    before them, leave out what the proxy cut off."""
    while root and path != root and not path.startswith(root + "/"):
        _, slash, root = root.lstrip("/").partition("/")
        root = slash + root
    return root


def _text(raw: bytes) -> str:
    return unquote(raw.decode("latin-1"))
