"""`ls`, `show`, `tail`, `cancel`: look at streams and stop them, in a store or at a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import anyio
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..model import Outcome, State
from .streams import Record, Wanted
from .where import Header, Store, TokenFile, Url, where

PIPE_WIDTH = 500
"""Columns for whoever is no terminal: nothing is cut there."""

Id = Annotated[str, typer.Argument(metavar="ID", help="The stream's id; in a store, a prefix that fits one only.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def ls(
    store: Store = None,
    url: Url = None,
    header: Header = None,
    token_file: TokenFile = None,
    state: Annotated[State | None, typer.Option(help="Only streams in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only streams with this label; repeatable.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Only streams of this upstream.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most streams to list.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List streams, newest first."""
    wanted = Wanted(state=state, upstream=upstream, labels=tuple(label or ()), limit=limit)

    async def ask() -> list[Record]:
        async with where(store, url, header, token_file) as streams:
            return await streams.records(wanted)

    records = anyio.run(ask)
    if as_json:
        _print_json({"streams": records})
    elif records:
        _console().print(_table(records))
    else:
        print("no streams", file=sys.stderr)


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
        _print_json(record)
    else:
        _console().print(_printable(record["summary"]), "", _fields(record), sep="\n")


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
        print(f"resumestream: {_printable(record['summary'])}", file=sys.stderr)
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
        print(f"{before['id']} has ended before: {_printable(before['summary'])}")
    elif url:
        print(f"{before['id']} is being stopped")
    else:
        print(f"{before['id']} is to be stopped: its server does so within a second, or else the next one at its start")


# --- how it looks ----------------------------------------------------------------------------------------------------


def _console() -> Console:
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=PIPE_WIDTH)


def _table(records: list[Record]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("id", "state", "upstream"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes", "events", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("labels", overflow="fold")
    now = datetime.now(UTC)
    for record in records:
        table.add_row(
            record["id"],
            _state(record),
            _printable(record["upstream"]) or "-",
            str(record["bytes"]),
            str(record["events"]),
            _age((now - datetime.fromisoformat(record["created_at"])).total_seconds()),
            _printable(" ".join(record["labels"])),
        )
    return table


def _state(record: Record) -> Text:
    """How it ended, where it has; `expired` and the like where nothing is left but that."""
    gone = record["gone"]
    if gone:
        return Text(f"{gone['why']} ({record['outcome']})", style="dim")
    if not record["closed"]:
        return Text(record["state"] + (" (stopping)" if record["cancel_requested"] else ""), style="cyan")
    return Text(record["outcome"], style="green" if record["outcome"] == Outcome.COMPLETED else "red")


def _fields(record: Record) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in record.items():
        if name != "summary":
            for index, line in enumerate(_lines(value)):
                grid.add_row("" if index else name.replace("_", " "), _printable(line))
    return grid


def _lines(value: object) -> Iterator[str]:
    """None and empty values show nothing."""
    match value:
        case None | "" | []:
            return
        case dict():
            yield ", ".join(f"{name.replace('_', ' ')} {inner}" for name, inner in value.items() if inner is not None)
        case list():
            for item in value:
                yield from _lines(item)
        case bool():
            yield "yes" if value else "no"
        case _:
            yield str(value)


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _printable(text: str) -> str:
    """Providers write part of what is shown: no control sequence of theirs reaches the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))
