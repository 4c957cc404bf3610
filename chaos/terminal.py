"""What was played, in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .suite import Played

console = Console(highlight=False)


def follow(playing: Iterable[Played], total: int | None, what: str) -> list[Played]:
    """A line for each as it ends, above a bar."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    played = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        for each in playing:
            played.append(each)
            show(each)
            progress.advance(task)
    return played


def show(played: Played) -> None:
    """A line; more where it did not hold."""
    verdict = played.verdict
    word = "[green]held[/]  " if verdict.held else "[red]FAILED[/]"
    console.print(f"{word} {verdict.seconds:5.1f} s  {escape(played.code)}  [dim]{verdict.dialect}[/]", soft_wrap=True)
    if not verdict.held:
        text = f"{verdict.told}\nreplay: {played.replay}\nlogs:   {played.logs}"
        console.print(escape(text), style="red", soft_wrap=True)


def conclude(played: list[Played], seconds: float) -> None:
    """The final table: a row a scenario; random schedules are one."""
    table = Table("scenario", "held", "slowest", "provider calls")
    rows: dict[str, list[Played]] = {}
    for each in played:
        rows.setdefault(each.verdict.scenario if "@" in each.code else "random schedules", []).append(each)
    for name, row in rows.items():
        held = sum(each.verdict.held for each in row)
        color = "green" if held == len(row) else "red"
        slowest = max(each.verdict.seconds for each in row)
        calls = sum(each.verdict.calls for each in row)
        table.add_row(name, f"[{color}]{held} of {len(row)}[/]", f"{slowest:.1f} s", str(calls))
    console.print(table)
    failed = [each for each in played if not each.verdict.held]
    for each in failed:
        console.print(f"[red]{escape(each.replay)}[/]", soft_wrap=True)
    console.print(f"{len(played) - len(failed)} of {len(played)} held, in {seconds:.0f} s")
