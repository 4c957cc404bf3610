"""The sockets. Requests are parsed by h11; answers are written byte by byte, since a provider must be able to break
every rule of HTTP, at a place of its choice."""

from __future__ import annotations

import asyncio
import contextlib
import http
import itertools
import socket
import struct
import sys
from collections.abc import Coroutine
from enum import Enum
from typing import Any

import h11

from .control import Control, Playing
from .plan import Plan

_MAX_HEAD_BYTES = 1024 * 1024
"""A script may travel in a header."""
_GARBAGE = b"\x00\xffthis is not HTTP\r\n\r\n"
_LINGER_S = 2.0
"""How long to read on, or to wait for unsent bytes, when a connection is to end in one definite way."""


async def serve(control: Control, listener: socket.socket) -> None:
    """Until cancelled. A defect of its own ends it with that error: a meter that lies must not go on."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count(1):
            sock, _ = await loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            group.create_task(Connection(control, sock, number).run())


class _Ending(Enum):
    """What becomes of the connection after an answer."""

    REUSED = 0
    FIN = 1
    HALF = 2
    RST = 3
    GONE = 4


class Connection:
    """Requests one after the other, until one of the two ends it."""

    def __init__(self, control: Control, sock: socket.socket, number: int) -> None:
        self._control, self._sock, self._number = control, sock, number
        self._loop = asyncio.get_running_loop()
        self._parser = h11.Connection(h11.SERVER, _MAX_HEAD_BYTES)

    async def run(self) -> None:
        with self._sock:
            try:
                while isinstance(request := await self._event(), h11.Request):
                    if not await self._exchange(request):
                        return
                    ahead, _ = self._parser.trailing_data
                    self._parser = h11.Connection(h11.SERVER, _MAX_HEAD_BYTES)
                    if ahead:
                        self._parser.receive_data(ahead)
            except h11.RemoteProtocolError as error:
                with contextlib.suppress(OSError):
                    await self._send(_head(400, {"content-length": "0", "connection": "close", "x-why": str(error)}))
            except OSError:
                pass  # it went away between two requests

    async def _exchange(self, request: h11.Request) -> bool:
        """One request and its answer; True when the connection can take another."""
        if request.target.startswith(b"/_"):
            return await self._answer_test(request)
        task = asyncio.current_task()
        assert task is not None
        playing = self._control.began(self._number, task, request)
        try:
            if playing.script.reply_before_body:
                # With its body unread, that the client left shows only when a write fails.
                ending = await self._play_to_end(playing, self._control.plan(playing, b""), request)
            else:
                plan = self._control.plan(playing, await self._body())
                ending = await self._while_connected(self._play_to_end(playing, plan, request))
            if ending is _Ending.RST:
                await self._reset()
        except (OSError, h11.RemoteProtocolError):
            ending = _Ending.GONE
        if ending in (_Ending.RST, _Ending.GONE):
            self._control.ended(playing, disconnected=ending is _Ending.GONE)
        if ending in (_Ending.FIN, _Ending.HALF):
            await self._linger(_LINGER_S if ending is _Ending.FIN else None)
        return ending is _Ending.REUSED

    async def _answer_test(self, request: h11.Request) -> bool:
        body = await self._body()
        try:
            status, content = await self._control.answer(request.method.decode(), request.target.decode(), body)
        except (ValueError, LookupError, AttributeError) as error:
            status, content = 400, str(error).encode()
        await self._send(_head(status, {"content-length": str(len(content))}) + content)
        return True

    # --- playing a plan -----------------------------------------------------------------------------------------

    async def _play_to_end(self, playing: Playing, plan: Plan, request: h11.Request) -> _Ending:
        """Whoever has seen the end of an answer finds it in the ledger: nothing awaits between the two."""
        ending = await self._play(playing, plan, request)
        if ending in (_Ending.FIN, _Ending.HALF):
            self._sock.shutdown(socket.SHUT_WR)
        if ending is not _Ending.RST:
            self._control.ended(playing, disconnected=False)
        return ending

    async def _play(self, playing: Playing, plan: Plan, request: h11.Request) -> _Ending:
        script, call, body = plan.script, playing.call, plan.body
        await asyncio.sleep(script.headers_delay_s)
        for status in script.informational:
            await self._send(_head(status, {}))
        if script.before_head and (ending := await self._break(playing, plan)):
            return ending

        framing = "close" if plan.framing == "chunked" and request.http_version == b"1.0" else plan.framing
        asked_to_close = any(name == b"connection" and value.lower() == b"close" for name, value in request.headers)
        keep_alive = script.keep_alive and not (asked_to_close or script.reply_before_body or framing == "close")
        without_body = request.method == b"HEAD" or plan.status in (204, 304)
        framed = {"chunked": {"transfer-encoding": "chunked"}, "length": {"content-length": str(plan.length)}}
        headers = {} if plan.status == 204 else framed.get(framing, {})
        call.status = plan.status
        if 200 <= plan.status < 300:
            call.prompt_tokens_billed = script.prompt_tokens
        await self._send(_head(plan.status, headers | plan.headers, keep_alive=keep_alive))
        self._control.changed()

        chunked = framing == "chunked" and not without_body
        end = b"0\r\n\r\n" if chunked else b""
        for begin, until in () if without_body else plan.pieces():
            if ending := await self._at(playing, plan, begin):
                return ending
            # Also lets the other connections run: a send that does not block does not yield.
            await asyncio.sleep(script.delay_s * (plan.events_begun(until) - plan.events_begun(begin)))
            if 200 <= plan.status < 300:
                call.tokens_billed = plan.tokens_begun(until)
            piece = body[begin:until]
            last = until == len(body) and plan.plain_end
            # The end goes out with the last piece: a client that leaves after the semantic end has missed nothing.
            await self._send((b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece) + (end if last else b""))
            call.bytes_sent, call.events_sent = until, plan.events_whole(until)
            self._control.changed()
        if ending := await self._at(playing, plan, len(body)):
            return ending
        if not (body and plan.plain_end):
            await self._send(end)
        return _Ending.REUSED if keep_alive else _Ending.FIN

    async def _at(self, playing: Playing, plan: Plan, offset: int) -> _Ending | None:
        """What the script wants at this place in the body."""
        if plan.hold == offset:
            await self._hold(playing)
        return await self._break(playing, plan) if plan.fault == offset else None

    async def _break(self, playing: Playing, plan: Plan) -> _Ending | None:
        match plan.script.fault:
            case "rst":
                return _Ending.RST
            case "fin":
                return _Ending.FIN
            case "half-close":
                return _Ending.HALF
            case "garbage":
                await self._send(_GARBAGE)
                return _Ending.FIN
            case "stall":
                await self._hold(playing)
        return None

    async def _hold(self, playing: Playing) -> None:
        playing.call.held = True
        self._control.changed()
        await playing.gate.acquire()
        playing.call.held = False
        self._control.changed()

    # --- the socket ---------------------------------------------------------------------------------------------

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def _event(self) -> Any:
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            self._parser.receive_data(await self._loop.sock_recv(self._sock, 65536))
        return event

    async def _body(self) -> bytes:
        if self._parser.they_are_waiting_for_100_continue:
            await self._send(_head(100, {}))
        parts: list[bytes] = []
        while isinstance(event := await self._event(), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def _while_connected(self, play: Coroutine[Any, Any, _Ending]) -> _Ending:
        """Play, and stop at once when the client leaves: nothing else tells while a script waits."""
        gone = self._loop.create_future()

        def readable() -> None:
            # Not a task in sock_recv: one that is cancelled as its bytes come in loses them.
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._parser.receive_data(data)  # the next request
            elif not gone.done():
                gone.set_result(None)

        playing = asyncio.ensure_future(play)
        self._loop.add_reader(self._sock, readable)
        try:
            await asyncio.wait((playing, gone), return_when=asyncio.FIRST_COMPLETED)
            return playing.result() if playing.done() else _Ending.GONE
        finally:
            self._loop.remove_reader(self._sock)
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    async def _reset(self) -> None:
        """RST, after every byte written: without the wait SO_LINGER 0 throws away what a slow reader made us queue."""
        if sys.platform == "linux":
            import fcntl
            import termios

            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while any(fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4))):  # noqa: ASYNC110 - nothing signals it
                        await asyncio.sleep(0.005)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    async def _linger(self, seconds: float | None) -> None:
        """Read on after our FIN: closing with unread bytes would send a RST behind it."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._loop.sock_recv(self._sock, 65536):
                    pass


def _head(status: int, headers: dict[str, str], *, keep_alive: bool = True) -> bytes:
    phrase = next((known.phrase for known in http.HTTPStatus if known == status), "Scripted")
    closing = {} if keep_alive else {"connection": "close"}
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in {**headers, **closing}.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
