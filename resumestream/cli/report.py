"""What the demo measured, what it promised, and whether that held. Pure, but for how it looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SHOWN = 12
"""Digits of a hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What one caller got. `seconds` from its request to the last byte, by its own clock."""

    events: int = 0
    bytes: int = 0
    sha256: str = ""
    seconds: float = 0.0
    replayed: bool = False
    """Its answer was attached to a call made before."""
    caught_up_s: float = 0.0
    """From its request until it had all that the log had before."""
    whole: bool = False
    """The body ended as framed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """Tokens, by the provider's ledger."""

    prompt: int
    output: int

    def __add__(self, other: Billed) -> Billed:
        return Billed(prompt=self.prompt + other.prompt, output=self.output + other.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that was measured. What the provider sent comes from the provider."""

    scripted_tokens: int
    killed: Received
    kill_code: int
    expected_kill_code: int
    log_at_kill: int
    """Events in the log when the caller was dead."""
    log_unread: int
    """And before the next caller came."""
    resumed: Received
    replay: Received
    calls: int
    billed_at_kill: Billed
    billed: Billed
    sent_bytes: int
    sent_sha256: str
    sent_before_kill_sha256: str
    """Of as many bytes as the killed caller had."""
    outcome: str

    @property
    def plain_retry(self) -> Billed:
        """Without resumestream: what was billed by the kill is lost, and the answer is billed anew."""
        return self.billed_at_kill + self.billed


class Check(NamedTuple):
    promise: str
    figures: str
    held: bool


def checks(f: Figures) -> Iterator[Check]:
    """Each promise with the figures that prove or break it."""
    yield Check(
        "the first caller was killed in mid-answer",
        f"exit code {f.kill_code} after {f.killed.events} of {f.resumed.events} events",
        f.kill_code == f.expected_kill_code and not f.killed.whole and 0 < f.killed.events < f.resumed.events,
    )
    yield Check(
        "the answer went on with nobody reading",
        f"{f.log_at_kill} events in the log by then, {f.log_unread} before the next reader came",
        f.killed.events <= f.log_at_kill < f.log_unread,
    )
    yield Check("the provider was called once", f"{f.calls} by its ledger", f.calls == 1)
    yield Check(
        "one answer was billed",
        f"{f.billed.output} output tokens by its ledger",
        f.billed.output == f.scripted_tokens and f.billed.prompt == f.billed_at_kill.prompt > 0,
    )
    yield Check(
        "what it had by then is how the answer begins",
        f"{f.killed.bytes} bytes, {_hashes(f.killed.sha256, f.sent_before_kill_sha256)}",
        f.killed.sha256 == f.sent_before_kill_sha256,
    )
    yield Check(
        "the second caller got all of it, by the same request",
        f"{f.resumed.bytes} of {f.sent_bytes} bytes, {_hashes(f.resumed.sha256, f.sent_sha256)}",
        f.resumed.replayed and f.resumed.whole and _same(f.resumed, f),
    )
    yield Check(
        "the third caller too, as a replay",
        f"{f.replay.bytes} bytes in {f.replay.seconds * 1000:.1f} ms, {_hashes(f.replay.sha256, f.sent_sha256)}",
        f.replay.replayed and f.replay.whole and _same(f.replay, f),
    )
    yield Check("the answer has a definite outcome", f"{f.outcome} by HEAD", f.outcome == "completed")


def _hashes(received: str, sent: str) -> str:
    return f"sha256 {received[:SHOWN]} {'==' if received == sent else '!='} {sent[:SHOWN]} as sent"


def _same(received: Received, f: Figures) -> bool:
    return (received.bytes, received.sha256) == (f.sent_bytes, f.sent_sha256)


def scoreboard(f: Figures) -> RenderableType:
    """Promises, bill and verdict."""
    held = Table.grid(padding=(0, 1))
    for check in checks(f):
        mark = Text("ok", style="bold green") if check.held else Text("BROKEN", style="bold red")
        held.add_row(mark, Text.assemble(check.promise, (f": {check.figures}", "dim")))
    broken = sum(not check.held for check in checks(f))
    verdict = (
        Text(f"{broken} of these did not hold.", style="bold red")
        if broken
        else Text("All of it held: one provider call, one bill, the same bytes for every reader.", style="bold green")
    )
    return Group("", held, "", _bill(f), "", verdict)


def _bill(f: Figures) -> RenderableType:
    saved = f.plain_retry
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("billed")
    table.add_column("resumestream", justify="right")
    table.add_column("a plain retry*", justify="right")
    table.add_row("provider calls", str(f.calls), "2")
    table.add_row("prompt tokens", str(f.billed.prompt), str(saved.prompt))
    table.add_row("output tokens", str(f.billed.output), str(saved.output))
    how = (
        f"* computed: the {f.billed_at_kill.output} output tokens billed when the caller died, plus all "
        f"{f.billed.output} again; the prompt twice"
    )
    return Group(table, Text(how, style="dim"))
