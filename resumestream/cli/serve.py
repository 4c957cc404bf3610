"""`serve`: the gateway as a process of its own, which outlives the deploys and crashes of its callers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Annotated, Literal

import anyio
import typer

from ..embed import ResumeStream
from ..errors import ConfigError, ResumeStreamError
from ..http.guard import Guard
from ..policy import Policy
from ..ports import LogStore
from ..stores import open_store
from ..upstream import KNOWN, Upstream
from .servers import Backend, Server, server
from .signals import stop_signals
from .where import Store, resolve

logger = logging.getLogger("resumestream")

DRAIN_S = 30.0
"""Container platforms commonly leave 30 s between SIGTERM and SIGKILL."""
LEAST_GRACE_S = 0.3
"""What requests in flight get where the drains have used up all the time."""
END_S = 0.9
"""The process has ended so long after the drains' time, whatever a connection still waits for."""

PROTECTS = {
    "none": "nothing: all streams end with this process",
    "process": "what a reader has seen survives a kill of this process",
    "disk": "what a reader has seen survives a power cut",
}

_DEFAULT = Policy(drain_s=DRAIN_S)


def serve(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Providers that need no URL: {', '.join(KNOWN)}.")
    ] = None,
    upstream: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URL", help="Any other provider, by its base URL; repeatable.")
    ] = None,
    store: Store = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 picks a free one.")] = 8787,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Server processes: one, for now.")] = 1,
    backend: Annotated[Backend, typer.Option(help="The event loop; trio needs resumestream\\[trio].")] = "asyncio",
    retain_s: Annotated[float, typer.Option(metavar="S", help="How long an answer is kept.")] = _DEFAULT.retain_s,
    drain_s: Annotated[
        float, typer.Option(metavar="S", help="How long running answers may go on after SIGTERM.")
    ] = _DEFAULT.drain_s,
    durability: Annotated[
        Literal["process", "disk"], typer.Option(help="What a byte that a reader saw survives: a kill, or a power cut.")
    ] = "process",
    first_byte_s: Annotated[
        float, typer.Option(metavar="S", help="The longest wait for an answer's first byte.")
    ] = _DEFAULT.first_byte_s,
    stall_s: Annotated[
        float, typer.Option(metavar="S", help="The longest silence within an answer.")
    ] = _DEFAULT.stall_s,
) -> None:
    """Serve providers' APIs at http://HOST:PORT/NAME/..., every keyed answer kept and resumable."""
    if workers != 1:
        raise ConfigError(
            "--workers is 1 for now: a store is served by one process. One process serves many streams; "
            "several per store come later"
        )
    policy = Policy(
        retain_s=retain_s,
        max_retain_s=max(retain_s, _DEFAULT.max_retain_s),
        drain_s=drain_s,
        durability=durability,
        first_byte_s=first_byte_s,
        stall_s=stall_s,
    )
    kept = open_store(resolve(store), policy=policy, serving=True)
    streams = ResumeStream(kept, _upstreams(names or (), upstream or ()), policy)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("uvicorn", "hypercorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    anyio.run(_Serving(streams, kept, server(backend), host, port).run, backend=backend)


def _upstreams(names: Iterable[str], pairs: Iterable[str]) -> dict[str, Upstream]:
    """Raises ConfigError, which says which one is wrong."""
    named = dict[str, Upstream]()

    def add(name: str, url: str) -> None:
        if name in named:
            raise ConfigError(f"upstream {name!r} is given twice")
        try:
            named[name] = Upstream(url)
        except ConfigError as error:
            raise ConfigError(f"--upstream {name}: {error.message}") from None

    for name in names:
        if name not in KNOWN:
            raise ConfigError(
                f"upstream {name!r} is not a known one ({', '.join(KNOWN)}); give its URL: --upstream NAME=URL"
            )
        add(name, KNOWN[name])
    for pair in pairs:
        name, equals, url = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--upstream {pair!r} is not NAME=URL")
        add(name, url)
    if not named:
        raise ConfigError(f"nothing to serve: name a known provider ({', '.join(KNOWN)}), or give --upstream NAME=URL")
    return named


class _Serving:
    """One run of the server, from the opening of the store to its closing."""

    def __init__(self, streams: ResumeStream, store: LogStore, server: Server, host: str, port: int) -> None:
        self._streams, self._store, self._server = streams, store, server
        self._host, self._port = host, port
        self._drained = anyio.Event()
        self._grace_s = 0.0

    async def run(self) -> None:
        """Until a signal. Raises StoreError where the store cannot be opened, before anything listens."""
        with stop_signals(signal.SIGINT, signal.SIGTERM) as signals, anyio.CancelScope() as everything:
            async with self._streams:
                logger.info("store %s: %s", self._store.location, PROTECTS[self._store.durability])
                with _bound(self._host, self._port) as listener:
                    url = _url(self._host, listener.getsockname()[1])
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._stop, signals, everything)
                        started = partial(print, f"resumestream: serving {url}", flush=True)
                        await self._server(Guard(self._streams.asgi), listener, self._stopping, started)
                        tasks.cancel_scope.cancel()

    async def _stopping(self) -> float:
        await self._drained.wait()
        return self._grace_s

    async def _stop(self, signals: AsyncIterator[signal.Signals], everything: anyio.CancelScope) -> None:
        """The first signal lets what runs finish; the second one, or the end of the time, does not."""
        await anext(signals)
        drain_s = self._streams.policy.drain_s
        until = anyio.current_time() + drain_s
        _exit_within(drain_s + END_S)
        logger.info("stopping: running answers have up to %g s; a second signal stops them now", drain_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain, until)
            await anext(signals)
            _exit_within(END_S)
            everything.cancel()

    async def _drain(self, until: float) -> None:
        await self._streams.drain()
        self._grace_s = max(LEAST_GRACE_S, until - anyio.current_time())
        self._drained.set()


def _exit_within(seconds: float) -> None:
    """However the server hangs: all is sealed by then, or else the next start seals it."""
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that refuses connections until the server listens. Raises ResumeStreamError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ConfigError(f"--host {host!r} is no address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    if os.name == "posix":  # elsewhere it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ResumeStreamError(
            f"cannot listen on {_url(host, port)} ({error.strerror}); choose another --port, or 0 for a free one"
        ) from None
    if not ip_address(str(address[0])).is_loopback:
        logger.warning(
            "listening beyond this machine: whoever reaches %s may start calls with a provider key of their own; "
            "requests without one are refused. There is no TLS here: put it in front",
            host,
        )
    return listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
