"""`python -m chaos list|run|replay`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from rich.markup import escape
from rich.table import Table

from .junit import junit
from .page import page
from .players import STOPPED
from .scenarios import FAMILIES, SCENARIOS
from .server import EMBEDDED, Target
from .suite import campaigns, codes, parsed, perform, perform_all, soak
from .terminal import conclude, console, follow, show
from .toxics import NoServer, find_server

REFUSED = 2
"""The exit code of what cannot be run."""
EXAMPLES = 10_000
"""A campaign ends by its time, not by their number."""

CONNECT_S = 5.0

ELSEWHERE = """\
a server that somebody else runs, by the URL its streams are mounted at (http://HOST:PORT/llm). It must have an
upstream `main` at http://127.0.0.1:PORT (--port, printed at the start), default limits, no authorize hook, and take
each bearer token for a principal of its own. Only scenarios that need no process of it are played, one at a time."""


def main() -> int:
    options = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return int(options.act(options))
    except (ValueError, NoServer) as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return REFUSED
    except KeyboardInterrupt:
        console.print("[red]stopped[/]")
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Chaos for servers of resilient streams.")
    verbs = parser.add_subparsers(required=True, metavar="list|run|replay")
    verbs.add_parser("list", help="all scenarios and where they are played").set_defaults(act=_list)

    run = verbs.add_parser("run", help="play scenarios")
    run.set_defaults(act=_run)
    run.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all of them where none is named")
    run.add_argument("--configuration", action="append", default=[], metavar="STORE-LOOP", help="only this; repeatable")
    run.add_argument("--jobs", type=_positive(int), default=2, help="how many at a time (2)")
    run.add_argument(
        "--minutes", type=_positive(float), help="again and again in ever new order, and random schedules between"
    )
    run.add_argument("--campaign", type=float, default=0, metavar="MINUTES", help="random schedules after them")
    run.add_argument("--seed", type=int, default=0, help="what random schedules and orders are drawn from (0)")
    run.add_argument("--html", type=_writable, help="write a self-contained page")
    run.add_argument("--junit", type=_writable, help="write JUnit's XML")
    _target(run)

    again = verbs.add_parser("replay", help="play one cell or one random schedule again")
    again.set_defaults(act=_replay)
    again.add_argument("code", metavar="SCENARIO@CONFIGURATION|SCHEDULE")
    _target(again)
    return parser


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not (number := kind(text)) > 0:
            raise argparse.ArgumentTypeError(f"{text} is not more than nothing")
        return number

    return parse


def _writable(text: str) -> Path:
    """Told before an hour of playing, not after it."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.hostname or not parts.port or parts.query:
        raise argparse.ArgumentTypeError(f"{text} is not as http://HOST:PORT/MOUNT")
    return text


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", type=_url, metavar="URL", help=ELSEWHERE)
    parser.add_argument("--port", type=int, default=9900, help="with --target: where its upstream `main` is (9900)")


def _of(options: argparse.Namespace) -> Target:
    if not options.target:
        return EMBEDDED
    console.print(f"{options.target} must have upstream `main` at http://127.0.0.1:{options.port}")
    return Target(url=options.target, port=options.port)


def _require(target: Target) -> None:
    """Raises NoServer, ValueError where there is nothing to play with."""
    find_server()
    if target.url:
        parts = urlsplit(target.url)
        try:
            socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()
        except OSError as error:
            raise ValueError(f"{target.url} does not take a connection: {error}") from error


def _list(options: argparse.Namespace) -> int:
    table = Table("family", "scenario", "played in", "what")
    for family, scenarios in FAMILIES.items():
        for scenario in scenarios:
            places = " ".join(map(str, scenario.configurations()))
            table.add_row(family, scenario.name, places, scenario.what)
    console.print(table)
    return 0


def _run(options: argparse.Namespace) -> int:
    began, target = time.monotonic(), _of(options)
    jobs = 1 if target.url else options.jobs
    cells = codes(options.names, options.configuration, target)
    if not cells:
        raise ValueError("nothing to play: no scenario has such a configuration")
    if options.campaign and target.url:
        raise ValueError("random schedules are not for a server that somebody else runs: no --campaign with --target")
    _require(target)
    todo: Iterable[str] = cells
    if options.minutes:
        schedules = not (options.names or target.url)
        todo = soak(cells, options.minutes * 60, options.seed, schedules=schedules)
    played = follow(perform_all(todo, target, jobs), None if options.minutes else len(cells), "scenarios")
    if options.campaign:
        played += follow(campaigns(options.seed, options.campaign * 60, EXAMPLES, jobs), None, "random schedules")
    seconds = time.monotonic() - began
    conclude(played, seconds)
    if options.html:
        what = {name: scenario.what for name, scenario in SCENARIOS.items()}
        text = page(played, what, seconds=seconds, tested=target.url or target.app)
        options.html.write_text(text, encoding="utf-8")
    if options.junit:
        options.junit.write_text(junit(played), encoding="utf-8")
    return int(any(not each.verdict.held for each in played))


def _replay(options: argparse.Namespace) -> int:
    target = _of(options)
    parsed(options.code, target)
    _require(target)
    played = perform(options.code, target)
    show(played)
    return int(not played.verdict.held)


if __name__ == "__main__":
    sys.exit(main())
