"""`gc` and `verify`: work on a store itself, beside its servers or without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
import typer

from ..errors import ConfigError
from .collect import Collected, collect
from .display import AsJson, Progress, many, print_json, printable, size
from .inspection import Inspection
from .offline import opened
from .where import Store, resolve

NoUrl = Annotated[str | None, typer.Option("--url", hidden=True)]


def gc(
    store: Store = None,
    url: NoUrl = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop what retention no longer keeps, and give the space back to the disk. Live streams stay as they are."""
    _refuse("gc", url)

    async def work() -> tuple[Collected, int, int]:
        async with opened(resolve(store)) as log:
            where = Path(log.location)
            before = _on_disk(where)
            with Progress() as progress:
                collected = await collect(log, dry_run=dry_run, progress=progress)
                if not dry_run:
                    progress.say("packing, erasing, giving space back")
                    await log.tidy()
            return collected, before, _on_disk(where)

    collected, before, after = anyio.run(work)
    if as_json:
        disk = {"disk_bytes_before": before} | ({} if dry_run else {"disk_bytes_after": after})
        print_json(collected.as_json() | disk | {"dry_run": dry_run})
        return
    would = "would be " * dry_run
    print(f"{many(collected.expired, 'payload')} {would}dropped ({size(collected.expired_bytes)})")
    print(f"{many(collected.forgotten, 'tombstone')} {would}forgotten")
    if collected.held:
        print(f"{many(collected.held, 'expired payload')} left to the running server: somebody may still read there")
    print(f"on disk: {size(before)}" if dry_run else f"on disk: {size(before)} before, {size(after)} after")


def verify(
    streams: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these streams; prefixes will do.")
    ] = None,
    store: Store = None,
    url: NoUrl = None,
    as_json: AsJson = False,
) -> None:
    """Read all that is stored and tell what is damaged, a line each. Changes nothing. Fails if anything is."""
    _refuse("verify", url)

    def tell(stream: str | None, what: str) -> None:
        if not as_json:
            print(f"{stream or 'store'}: {printable(what)}")

    async def work() -> Inspection:
        async with opened(resolve(store)) as log:
            with Progress() as progress:
                inspection = Inspection(log, tell, progress)
                await (inspection.some(streams) if streams else inspection.all())
            return inspection

    inspection = anyio.run(work)
    if as_json:
        print_json(inspection.as_json())
    else:
        print(*inspection.lines(), sep="\n")
    if inspection.damage:
        raise typer.Exit(1)


def _refuse(command: str, url: str | None) -> None:
    if url is not None:
        raise ConfigError(
            f"{command} works on the store itself, beside a running server too: run it on the server's machine, "
            "with --store"
        )


def _on_disk(location: Path) -> int:
    """Bytes of a store's files."""
    if location.is_dir():
        return sum(_file_bytes(path) for path in location.rglob("*"))
    return sum(_file_bytes(location.with_name(location.name + suffix)) for suffix in ("", "-wal", "-shm"))


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # a segment that was unlinked, a log that was emptied meanwhile
        return 0
