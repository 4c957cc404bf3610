"""`usage`: what was paid for, and what was not, in a store or at a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import anyio
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..errors import ConfigError
from ..metering import By, duration_s
from .display import AsJson, console, many, print_json, printable
from .where import Header, Store, TokenFile, Url, where

_COUNTS = ("calls", "completed", "attaches", "replays", "input", "output", "cached", "reasoning", "untold", "retries")


def usage(
    by: Annotated[By, typer.Option(help="What to sum up together.")] = By.MODEL,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only calls that ended so long ago at most: 90s, 24h, 7d.")
    ] = None,
    store: Store = None,
    url: Url = None,
    header: Header = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Sum up provider calls and their tokens, and how many calls were avoided."""
    try:
        _ = since and duration_s(since)
    except ValueError as error:
        raise ConfigError(f"--since is wrong: {error}") from None

    async def ask() -> Mapping[str, Any]:
        async with where(store, url, header, token_file) as streams:
            return await streams.usage(by, since)

    told = anyio.run(ask)
    if as_json:
        print_json(told)
    else:
        console().print(_table(told), "", _sentence(told["total"]), sep="\n")


def _table(told: Mapping[str, Any]) -> Table:
    """A line a group, then the total."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown.add_column(told["by"], overflow="fold")
    for name in _COUNTS:
        shown.add_column(name, justify="right")
    for group in told["groups"]:
        shown.add_row(printable(group[told["by"]]) or "-", *_counts(group))
    if told["others"]["calls"]:
        shown.add_row("(all others)", *_counts(told["others"]))
    shown.add_section()
    shown.add_row("total", *_counts(told["total"]))
    return shown


def _counts(sums: Mapping[str, Any]) -> list[str]:
    tokens = sums["tokens"]
    used = [tokens[name] for name in ("input", "output", "cached_input", "reasoning")]
    calls = [sums["calls"], sums["outcomes"].get("completed", 0), sums["attaches"], sums["replays"]]
    counts = [*calls, *used, sums["calls_without_usage"], sums["plain_retries"]["tokens"]["total"]]
    return [str(count) for count in counts]


def _sentence(total: Mapping[str, Any]) -> str:
    retries, untold = total["plain_retries"], total["calls_without_usage"]
    said = (
        f"{many(retries['calls'], 'call')} avoided: as plain retries they would have taken an estimated "
        f"{many(retries['tokens']['total'], 'token')} more."
    )
    return said + (f" {many(untold, 'call')} told no usage." if untold else "")
