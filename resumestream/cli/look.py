"""`ls`, `show`, `tail`, `cancel`: look at streams and stop them, in a store or at a server."""

from __future__ import annotations

import sys
from typing import Annotated

import anyio
import typer

from ..model import Outcome, State
from .display import AsJson, console, fields, print_json, printable, table
from .streams import MAX_PAGE, Listing, Record, Wanted
from .where import Header, Store, TokenFile, Url, where

Id = Annotated[str, typer.Argument(metavar="ID", help="The stream's id; in a store, a prefix that fits one only.")]


def ls(
    store: Store = None,
    url: Url = None,
    header: Header = None,
    token_file: TokenFile = None,
    state: Annotated[State | None, typer.Option(help="Only streams in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only streams with this label; repeatable.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Only streams of this upstream.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="The most streams to list.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this stream.")] = None,
    as_json: AsJson = False,
) -> None:
    """List streams, newest first."""
    wanted = Wanted(state=state, upstream=upstream, labels=tuple(label or ()), after=after, limit=limit)

    async def ask() -> Listing:
        async with where(store, url, header, token_file) as streams:
            return await streams.listing(wanted)

    page = anyio.run(ask)
    if as_json:
        print_json({"streams": page.records} | ({"next": page.next} if page.next else {}))
        return
    if page.records:
        console().print(table(page.records))
    else:
        print("no streams", file=sys.stderr)
    if page.next:
        print(f"there are more: --after {page.next}", file=sys.stderr)


def show(
    stream: Id,
    store: Store = None,
    url: Url = None,
    header: Header = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a stream, first in a sentence."""

    async def ask() -> Record:
        async with where(store, url, header, token_file) as streams:
            return await streams.record(stream)

    record = anyio.run(ask)
    if as_json:
        print_json(record)
    else:
        console().print(printable(record["summary"]), "", fields(record), sep="\n")


def tail(
    stream: Id,
    store: Store = None,
    url: Url = None,
    header: Header = None,
    token_file: TokenFile = None,
    offset: Annotated[str, typer.Option(metavar="O", help="Start here: payload bytes, -1 (start) or now.")] = "-1",
) -> None:
    """Write a stream's payload as it comes, until the stream has ended. Fails if it did not end completed."""

    async def follow() -> Record:
        async with where(store, url, header, token_file) as streams:
            reading = await streams.read(stream, offset)
            try:
                while True:
                    sys.stdout.buffer.write(await reading.receive())
                    sys.stdout.buffer.flush()
            except anyio.EndOfStream:
                return await streams.record(stream)
            finally:
                await reading.aclose()

    record = anyio.run(follow)
    if record["outcome"] != Outcome.COMPLETED:
        print(f"resumestream: {printable(record['summary'])}", file=sys.stderr)
        raise typer.Exit(1)


def cancel(
    stream: Id, store: Store = None, url: Url = None, header: Header = None, token_file: TokenFile = None
) -> None:
    """Ask that a stream be stopped; what came so far is kept."""

    async def ask() -> Record:
        async with where(store, url, header, token_file) as streams:
            return await streams.cancel(stream)

    before = anyio.run(ask)
    if before["closed"]:
        print(f"{before['id']} has ended before: {printable(before['summary'])}")
    elif url:
        print(f"{before['id']} is being stopped")
    else:
        print(
            f"{before['id']} is to be stopped: its server does so within a second, or else the one that takes it over"
        )
