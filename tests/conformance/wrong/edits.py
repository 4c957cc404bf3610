"""What a wrong server does between the right one and its callers: ASGI apps that edit what passes."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

RawHeaders = list[tuple[bytes, bytes]]
Around = Callable[[ASGIApp], ASGIApp]


def headers(edit: Callable[[Scope, RawHeaders], RawHeaders]) -> Around:
    """Every answer's headers, edited."""

    def around(app: ASGIApp) -> ASGIApp:
        async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
            async def edited(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": edit(scope, list(message["headers"]))}
                await send(message)

            await app(scope, receive, edited)

        return wrong

    return around


def renamed(name: bytes, other: bytes) -> Around:
    return headers(lambda scope, fields: [(other if key == name else key, value) for key, value in fields])


def without(name: bytes, *, method: str = "") -> Around:
    """The header is missing, from answers to that method alone if one is given."""

    def edit(scope: Scope, fields: RawHeaders) -> RawHeaders:
        if method and scope.get("method") != method:
            return fields
        return [(key, value) for key, value in fields if key != name]

    return headers(edit)


def unpadded(name: bytes) -> Around:
    """The offset in that header without its zeros."""
    return headers(lambda scope, fields: [(key, value.lstrip(b"0") if key == name else value) for key, value in fields])


def status(wrong: int, right: int, *, path: str = "") -> Around:
    """Another status than the right one, below that path alone if one is given."""

    def around(app: ASGIApp) -> ASGIApp:
        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            async def edited(message: Message) -> None:
                if (
                    message["type"] == "http.response.start"
                    and message["status"] == right
                    and scope["path"].endswith(path)
                ):
                    message = {**message, "status": wrong}
                await send(message)

            await app(scope, receive, edited)

        return answering

    return around


def replaced(before: bytes, after: bytes) -> Around:
    """Bytes of every body, of the same length."""
    assert len(before) == len(after)

    def around(app: ASGIApp) -> ASGIApp:
        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            async def edited(message: Message) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": message.get("body", b"").replace(before, after)}
                await send(message)

            await app(scope, receive, edited)

        return answering

    return around


def without_request_header(name: bytes) -> Around:
    """The server does not know a header that callers send."""

    def around(app: ASGIApp) -> ASGIApp:
        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope = {**scope, "headers": [(key, value) for key, value in scope["headers"] if key != name]}
            await app(scope, receive, send)

        return answering

    return around
