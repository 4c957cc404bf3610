"""`rm`: delete streams, in a store or at a server."""

from __future__ import annotations

import sys
from typing import Annotated

import anyio
import typer

from ..errors import ConfigError
from ..model import Gone
from .display import many
from .streams import MAX_PAGE, Streams, Wanted
from .where import Header, Store, TokenFile, Url, where


def rm(
    streams: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As for show: in a store, a prefix will do.")
    ] = None,
    store: Store = None,
    url: Url = None,
    header: Header = None,
    token_file: TokenFile = None,
    label: Annotated[
        list[str] | None, typer.Option(help="All streams with this label; repeatable: with all of them.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Drop the tombstones and the keys as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many there are.")] = False,
) -> None:
    """Delete streams: stopped if live, unreadable at once. A tombstone stays, unless --forget."""
    ids, labels = list(dict.fromkeys(streams or ())), tuple(label or ())
    if bool(ids) == bool(labels):
        raise ConfigError("name the streams to delete: by their ids, or by --label")

    async def look() -> list[str] | int:
        async with where(store, url, header, token_file) as found:
            if labels:
                return await _count(found, labels, forget=forget)
            return list(dict.fromkeys([(await found.record(stream))["id"] for stream in ids]))

    async def delete() -> None:
        async with where(store, url, header, token_file) as found:
            if labels:
                await found.delete_labelled(labels, forget=forget)
            else:
                await found.delete(hits, forget=forget)

    # Asked between two loops: one that waits for a terminal would not heed Ctrl-C
    looked = anyio.run(look)
    hits = looked if isinstance(looked, list) else []
    count = looked if isinstance(looked, int) else len(looked)
    if not count:
        print("no streams", file=sys.stderr)
        return
    if count > 1 and not yes and sys.stdin.isatty():
        typer.confirm(f"delete {many(count, 'stream')}?", abort=True, err=True)
    anyio.run(delete)
    print(f"{many(count, 'stream')} deleted{' and forgotten' * forget}")


async def _count(streams: Streams, labels: tuple[str, ...], *, forget: bool) -> int:
    """How many streams there are to delete: a tombstone that says so already is none, unless it is to be forgotten."""
    count, after = 0, None
    while True:
        page = await streams.listing(Wanted(labels=labels, after=after, limit=MAX_PAGE))
        count += sum(1 for record in page.records if forget or (record["gone"] or {}).get("why") != Gone.DELETED)
        if not (after := page.next):
            return count
