"""How records look on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Self

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..model import Outcome
from .streams import Record

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]

PIPE_WIDTH = 500
"""Columns for whoever is no terminal: nothing is cut there."""
PROGRESS_S = 0.1


def console() -> Console:
    """On standard output; nothing of what it prints is markup."""
    made = Console(markup=False, highlight=False, emoji=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, emoji=False, width=PIPE_WIDTH)


def table(records: Sequence[Record]) -> Table:
    """A line a stream."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("id", "state", "upstream"):
        shown.add_column(name, no_wrap=True)
    for name in ("bytes", "events", "age"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("labels", overflow="fold")
    now = datetime.now(UTC)
    for record in records:
        shown.add_row(
            record["id"],
            _state(record),
            printable(record["upstream"]) or "-",
            str(record["bytes"]),
            str(record["events"]),
            _age((now - datetime.fromisoformat(record["created_at"])).total_seconds()),
            printable(" ".join(record["labels"])),
        )
    return shown


def fields(record: Record) -> Table:
    """A line a field, without the summary."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in record.items():
        if name != "summary":
            for index, line in enumerate(_lines(value)):
                grid.add_row("" if index else name.replace("_", " "), printable(line))
    return grid


def printable(text: str) -> str:
    """Providers write part of what is shown: no control sequence of theirs reaches the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def many(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


class Progress:
    """One line on a terminal's standard error that is written over and over, and gone in the end."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._not_before = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.say("")

    def say(self, text: str) -> None:
        """At most every PROGRESS_S; an empty text always, as is due before anything else is printed."""
        if self._shown and (not text or time.monotonic() >= self._not_before):
            self._not_before = time.monotonic() + PROGRESS_S if text else 0.0
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _state(record: Record) -> Text:
    """How it ended, where it has; `expired` and the like where nothing is left but that."""
    gone = record["gone"]
    if gone:
        return Text(f"{gone['why']} ({record['outcome']})", style="dim")
    if not record["closed"]:
        return Text(record["state"] + (" (stopping)" if record["cancel_requested"] else ""), style="cyan")
    return Text(record["outcome"], style="green" if record["outcome"] == Outcome.COMPLETED else "red")


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
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
