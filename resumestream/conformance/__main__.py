"""`python -m resumestream.conformance URL`: 0 where all held, 1 where something failed, 2 where it could not run, 130
where it was interrupted."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from resumestream.testing.provider import ScriptedProvider

from .context import Setting
from .exchange import Address
from .levels import LEVELS, configuration
from .limits import LIMITS, parse
from .registry import load
from .report import junit, line, listing, summary
from .suite import chosen, probe, run
from .verdicts import CannotRun

PORT = 9901


def main(arguments: list[str] | None = None) -> int:
    load()
    options = _parser().parse_intermixed_args(arguments)
    if options.list and options.url and "://" not in options.url:  # a list needs no server: the first word is a name
        options.names.insert(0, options.url)
    try:
        identifiers = chosen(options.names)
        if options.list:
            print(listing(identifiers))
            return 0
        return _run(options, identifiers)
    except (ValueError, CannotRun) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m resumestream.conformance",
        description="Black-box checks of `Resilient inference streams over HTTP`, by requirement id.",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="where the server's paths begin: http://HOST:PORT/MOUNT")
    parser.add_argument("names", metavar="ID|AREA", nargs="*", help="requirements or areas; all where none is named")
    parser.add_argument("--list", action="store_true", help="show the requirements and how each is checked, and leave")
    parser.add_argument("--level", default="core", metavar="L,L", help=f"{', '.join(LEVELS)} (core)")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help=f"a cap or window that the server has, as far as checks need it; repeatable: {', '.join(LIMITS)}",
    )
    parser.add_argument(
        "--upstream-port", type=int, default=PORT, metavar="P", help=f"of the scripted upstream ({PORT})"
    )
    parser.add_argument("--upstream-host", default="127.0.0.1", metavar="H", help="the address it binds (127.0.0.1)")
    parser.add_argument("--upstream-url", metavar="U", help="where the server reaches it, if it is elsewhere")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="how many checks run side by side (4)")
    parser.add_argument("--junit", type=Path, metavar="F", help="write JUnit's XML")
    return parser


def _run(options: argparse.Namespace, identifiers: list[str]) -> int:
    levels = _levels(options.level)
    limits = {name: value for text in options.limit for name, value in parse(text).items()}
    if options.url is None:
        raise ValueError("which server? Give its URL, such as http://127.0.0.1:8787")
    address = Address.parse(options.url)
    if options.junit:
        _writable(options.junit)
    with ExitStack() as stack:
        try:
            provider = stack.enter_context(ScriptedProvider(host=options.upstream_host, port=options.upstream_port))
        except (OSError, OverflowError) as error:
            raise CannotRun(f"The scripted upstream cannot have port {options.upstream_port}: {error}") from None
        upstream_url = (options.upstream_url or provider.url).rstrip("/")
        print(configuration(upstream_url, levels), flush=True)
        setting = Setting(address=address, provider=provider, upstream_url=upstream_url, limits=limits)
        probe(setting, levels)
        results = run(
            setting, identifiers, levels, jobs=max(1, options.jobs), show=lambda result: print(line(result), flush=True)
        )
    print(f"\n{summary(results)}")
    if options.junit:
        options.junit.write_text(junit(results), encoding="utf-8")
    return int(any(result.verdict == "failed" for result in results))


def _writable(path: Path) -> None:
    """Raises CannotRun: better now than when the run is over."""
    try:
        path.open("a").close()
    except OSError as error:
        raise CannotRun(f"The report cannot be written: {error}") from None


def _levels(text: str) -> tuple[str, ...]:
    """Raises ValueError."""
    levels = tuple(dict.fromkeys(text.split(",")))
    for level in levels:
        if level not in LEVELS:
            raise ValueError(f"no level is called {level!r}; there is {', '.join(LEVELS)}")
    return levels


if __name__ == "__main__":
    sys.exit(main())
