"""`serve`: the gateway as a process of its own, which outlives the deploys and crashes of its callers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Literal

import anyio
import typer

from ..embed import ResumeStream
from ..errors import ConfigError
from ..policy import Policy
from ..ports import LogStore
from ..stores import MemoryStore, open_store
from ..upstream import KNOWN, Upstream
from .listener import bound, url
from .servers import Backend, server
from .serving import Serving
from .signals import Stop
from .supervisor import Supervisor
from .where import Store, resolve
from .worker import Worker

DRAIN_S = 30.0
"""Container platforms commonly leave 30 s between SIGTERM and SIGKILL."""

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
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Server processes, which share the store.")] = 1,
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
    policy = Policy(
        retain_s=retain_s,
        max_retain_s=max(retain_s, _DEFAULT.max_retain_s),
        drain_s=drain_s,
        durability=durability,
        first_byte_s=first_byte_s,
        stall_s=stall_s,
    )
    kept = open_store(resolve(store), policy=policy, serving=True)
    if workers > 1:
        _check_shared(kept)
    streams = ResumeStream(kept, _upstreams(names or (), upstream or ()), policy)
    asgi_server = server(backend)
    worker = Worker.this()
    _log(f"{worker.name} " if worker else "")
    with worker.listener() if worker else bound(host, port) as listener:
        ready = f"resumestream: serving {url(host, listener.getsockname()[1])}"
        serving = partial(Serving, streams, kept, asgi_server, listener, ready)
        if worker is not None:
            with worker.last_words():
                anyio.run(serving(worker.obey).run, backend=backend)
        elif workers == 1:
            anyio.run(serving(Stop.by_signals).run, backend=backend)
        else:
            supervisor = Supervisor(workers, listener, ready, drain_s=drain_s)
            anyio.run(supervisor.run, backend=backend)


def _check_shared(store: LogStore) -> None:
    """Raises ConfigError where several processes cannot serve from it."""
    if sys.platform == "win32":
        raise ConfigError("--workers is 1 on Windows: processes cannot share a listening socket there")
    if isinstance(store, MemoryStore):
        raise ConfigError(
            "--workers above 1 needs a store on disk: a memory store lives in one process, so that no worker would "
            "see the streams of another"
        )


def _log(who: str) -> None:
    """To standard error; `who` before each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(who))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for noisy in ("uvicorn", "hypercorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    def __init__(self, who: str) -> None:
        super().__init__(f"{who}%(asctime)s %(levelname)s %(message)s")
        self._who = who

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", f"\n{self._who}")


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
