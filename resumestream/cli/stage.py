"""What is seen of the demo while it runs: moving bars in a terminal, lines anywhere else."""

from __future__ import annotations

from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

STEP = 60
"""A line every so many events, where there are no bars."""

STYLES = {
    "provider": "magenta",
    "resumestream": "cyan",
    "caller 1": "yellow",
    "caller 2": "green",
    "caller 3": "green",
}
"""Who is on stage."""
WIDTH = max(map(len, STYLES))


class Stage(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def say(self, who: str, text: str) -> None:
        """Something happened."""
        ...

    def at(self, who: str, events: int) -> None:
        """So far somebody has come."""
        ...

    def dead(self, who: str) -> None:
        """It goes no further."""
        ...


def stage(console: Console, events: int) -> Stage:
    """`events` is how many there will be."""
    return _Bars(console, events) if console.is_terminal else _Lines(console, events)


def _line(who: str, text: str) -> Text:
    return Text.assemble((f"{who:>{WIDTH}}", f"bold {STYLES.get(who, 'white')}"), "  ", text)


class _Lines:
    def __init__(self, console: Console, events: int) -> None:
        self._console, self._events = console, events
        self._next = dict.fromkeys(STYLES, STEP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def say(self, who: str, text: str) -> None:
        self._console.print(_line(who, text), soft_wrap=True)

    def at(self, who: str, events: int) -> None:
        if events >= self._next[who]:
            self._next[who] = events - events % STEP + STEP
            self.say(who, f"{events} of {self._events} events")

    def dead(self, who: str) -> None:
        pass


class _Bars:
    def __init__(self, console: Console, events: int) -> None:
        self._events = events
        self._progress = Progress(
            TextColumn(f"{{task.fields[who]:>{WIDTH}}}"),
            BarColumn(40),
            TextColumn("{task.completed:.0f} of {task.total:.0f} events"),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bars = dict[str, TaskID]()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def say(self, who: str, text: str) -> None:
        self._progress.console.print(_line(who, text))

    def at(self, who: str, events: int) -> None:
        if who not in self._bars:
            self._bars[who] = self._progress.add_task("", total=self._events, who=who, note="")
        self._progress.update(self._bars[who], completed=events)

    def dead(self, who: str) -> None:
        self._progress.update(self._bars[who], note="[bold red]killed")
