"""The command line: one file per group of commands."""

from __future__ import annotations

import sys

import typer

from ..errors import ConfigError, ResumeStreamError
from .demo import demo
from .look import cancel, ls, show, tail
from .remove import rm
from .serve import serve
from .upkeep import gc, verify
from .usage import usage

app = typer.Typer(
    name="resumestream",
    help="Streaming LLM answers that outlive their caller: one provider call, one durable log, many readers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, demo, ls, show, tail, cancel, rm, gc, verify, usage):
    app.command()(command)


def main() -> None:
    """Exits 0 when done, 1 when it failed, 2 when it was asked for wrongly; refusals are one line on standard error."""
    try:
        app()
    except ResumeStreamError as error:
        print(f"resumestream: {error.message}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
