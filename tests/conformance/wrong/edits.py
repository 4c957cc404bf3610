"""What a wrong server does between the right one and its callers: ASGI apps that edit what passes."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

RawHeaders = list[tuple[bytes, bytes]]
Around = Callable[[ASGIApp], ASGIApp]


def messages(edit: Callable[[Scope, Message], Message]) -> Around:
    """What the server sends, edited."""

    def around(app: ASGIApp) -> ASGIApp:
        async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, lambda message: send(edit(scope, message)))

        return wrong

    return around


def headers(edit: Callable[[Scope, RawHeaders], RawHeaders]) -> Around:
    """Every answer's headers, edited."""

    def edited(scope: Scope, message: Message) -> Message:
        if message["type"] != "http.response.start":
            return message
        return {**message, "headers": edit(scope, list(message["headers"]))}

    return messages(edited)


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

    def edited(scope: Scope, message: Message) -> Message:
        if message.get("status") == right and scope["path"].endswith(path):
            return {**message, "status": wrong}
        return message

    return messages(edited)


def replaced(before: bytes, after: bytes) -> Around:
    """Bytes of every body, of the same length."""
    assert len(before) == len(after)

    def edited(scope: Scope, message: Message) -> Message:
        if message["type"] != "http.response.body":
            return message
        return {**message, "body": message.get("body", b"").replace(before, after)}

    return messages(edited)


def without_request_header(name: bytes) -> Around:
    """The server does not know a header that callers send."""

    def around(app: ASGIApp) -> ASGIApp:
        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope = {**scope, "headers": [(key, value) for key, value in scope["headers"] if key != name]}
            await app(scope, receive, send)

        return answering

    return around
