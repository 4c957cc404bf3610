"""The servers that the benchmarks compare, each a process of its own under uvicorn: `python peers.py NAME [ARGUMENT]`.

held      an ASGI app whose answers stay open, as those of live streams do: the provider of those
raw       a bare ASGI app that sends from memory: the ceiling for any Python app under uvicorn, and the provider
relay URL a plain Starlette + aiohttp relay of what is at URL, as one writes it in an afternoon; it keeps nothing
ours URL  resumestream in front of URL; a third argument is its store

`GET /_cpu` on each: the CPU seconds that the process has used so far, all its threads. A server ends with its stdin.
Each imports what it needs when it is made, so that none carries the others.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from urllib.parse import parse_qsl

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

BLOCK_BYTES = 256 * 1024
SSE = (b"content-type", b"text/event-stream")


def event(number: int) -> bytes:
    """One chunk of an OpenAI chat completion, about 270 bytes, as that provider sends them today."""
    chunk = {
        "id": "chatcmpl-bench0123456789abcdefghijk",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench-1",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": [{"index": 0, "delta": {"content": f" w{number:06}"}, "logprobs": None, "finish_reason": None}],
        "obfuscation": "x" * 12,
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


@cache
def events(count: int) -> list[bytes]:
    """A whole answer, by event."""
    return [*map(event, range(count - 1)), b"data: [DONE]\n\n"]


@cache
def blocks(count: int) -> list[bytes]:
    """The same, in large blocks."""
    body = b"".join(events(count))
    return [body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES)]


@cache
def several(count: int) -> bytes:
    return event(0) * count


def raw() -> ASGIApp:
    """`?n=EVENTS`: the answer in large blocks, with its length. `&rate=N`: one send an event, N of them a second, and
    with N = 0 as fast as the socket takes them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = {name: int(value) for name, value in parse_qsl(scope["query_string"].decode())}
        paced, headers = "rate" in asked, [SSE]
        pieces = events(asked["n"]) if paced else blocks(asked["n"])
        if not paced:
            headers.append((b"content-length", str(sum(map(len, pieces))).encode()))
        gap_s = 1 / asked["rate"] if asked.get("rate") else 0
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        now = asyncio.get_running_loop().time
        due = now()
        for piece in pieces:
            if gap_s:
                due += gap_s
                await asyncio.sleep(due - now())
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


def held() -> ASGIApp:
    """`?bytes=N&piece=M&rate=R`: so many bytes of events, in pieces of about M, R of them a second, and with R = 0 as
    fast as the socket takes them. Then the answer stays open, unless `&end=1` ends it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked = {name: int(value) for name, value in parse_qsl(scope["query_string"].decode())}
        piece = several(max(1, asked["piece"] // len(event(0))))
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        for _ in range(0, asked["bytes"], len(piece)):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if asked["rate"]:
                await asyncio.sleep(1 / asked["rate"])
        if asked.get("end"):
            return await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        while (await receive())["type"] != "http.disconnect":
            pass
        return None

    return app


def relay(upstream: str) -> ASGIApp:
    import aiohttp
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield {"session": session}

    async def endpoint(request: Request) -> StreamingResponse:
        url = f"{upstream}{request.url.path}?{request.url.query}"
        answer = await request.state.session.post(url, data=await request.body())

        async def body() -> AsyncIterator[bytes]:
            async with answer:
                async for data in answer.content.iter_any():
                    yield data

        return StreamingResponse(body(), answer.status, media_type="text/event-stream")

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=["POST"])], lifespan=lifespan)


def ours(upstream: str, store: str) -> ASGIApp:
    from resumestream import ResumeStream

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError(scope["type"])  # how an ASGI app says that it has no lifespan

    return ResumeStream(store, upstreams={"openai": upstream}).wrap(host, "/")


def metered(app: ASGIApp) -> ASGIApp:
    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/_cpu":
            return await app(scope, receive, send)
        body = str(time.process_time()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return None

    return either


PEERS: dict[str, Callable[..., ASGIApp]] = {"held": held, "raw": raw, "relay": relay, "ours": ours}


def main(name: str, *arguments: str) -> None:
    # With its protocol named: else asyncio leaves Nagle's algorithm on, 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    app = metered(PEERS[name](*arguments))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))

    def end_with_stdin() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end_with_stdin, daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
