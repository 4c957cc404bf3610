"""Runs checks: those that may side by side, then the rest one by one."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from resumestream.testing.provider import Script

from .context import Context, Setting
from .levels import LEVELS, UPSTREAMS
from .limits import unmet
from .registry import CHECKS, EXEMPT, Check
from .verdicts import CannotRun, Failed, Result

_SHOWN = 300
"""Bytes of an answer that is not what it should be."""


def chosen(names: Sequence[str]) -> list[str]:
    """The requirement ids that these ids and areas name, in order; all, where there are none. Raises ValueError."""
    known = sorted([*CHECKS, *EXEMPT], key=_place)
    found = dict.fromkeys(known if not names else [])
    for name in names:
        wanted = [one for one in known if name.upper() == one or one.startswith(f"RS-{name.upper()}-")]
        if not wanted:
            raise ValueError(f"no requirement and no area is called {name}; --list shows them")
        found |= dict.fromkeys(wanted)
    return list(found)


def _place(identifier: str) -> tuple[int, str]:
    areas = [area for areas in LEVELS.values() for area in areas]
    return areas.index(identifier.split("-")[1]), identifier


def probe(setting: Setting, levels: Sequence[str]) -> None:
    """Raises CannotRun where the server, or an upstream that these levels need, is not there."""
    for name, (needed_by, path, _) in UPSTREAMS.items():
        if name in ("spare", "closed") or not set(needed_by.split()) & set(levels):
            continue
        ctx = Context(setting)
        try:
            answer = ctx.post(Script(tokens=1), upstream=name, key=None).end()
            status, said = answer.status, answer.body[:_SHOWN].decode("utf-8", "replace")
            calls = ctx.upstream.calls()
        except Failed as error:
            raise CannotRun(f"The server does not answer: {error}") from None
        finally:
            ctx.clean_up()
        if not calls:
            raise CannotRun(
                f"A call to the upstream `{name}` did not come to the scripted upstream. "
                f"Have it lead to {setting.upstream_url}{path}. The answer was {status} {said}"
            )
        if status != 200:
            raise CannotRun(f"A call to the upstream `{name}` that went well there is answered with status {status}.")


def run(
    setting: Setting,
    identifiers: Sequence[str],
    levels: Sequence[str],
    *,
    jobs: int = 4,
    show: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """The results in the order of `identifiers`; `show` gets each as it comes."""
    results: dict[str, Result] = {}
    for result in _results(setting, identifiers, levels, jobs):
        results[result.id] = result
        show(result)
    return [results[identifier] for identifier in identifiers]


def _results(setting: Setting, identifiers: Sequence[str], levels: Sequence[str], jobs: int) -> Iterator[Result]:
    beside, alone = list[Check](), list[Check]()
    for identifier in identifiers:
        if why := _why_not(setting, identifier, levels):
            yield Result(id=identifier, verdict="not checked", said=why)
        else:
            each = CHECKS[identifier]
            (alone if each.alone else beside).append(each)
    with ThreadPoolExecutor(jobs, "check") as pool:
        try:
            for done in as_completed([pool.submit(perform, each, setting) for each in beside]):
                yield done.result()
        finally:  # interrupted: those that run clean up, and no other begins
            pool.shutdown(cancel_futures=True)
    for each in alone:
        yield perform(each, setting)


def _why_not(setting: Setting, identifier: str, levels: Sequence[str]) -> str:
    if why := EXEMPT.get(identifier):
        return f"not black-box testable: {why}"
    if (level := CHECKS[identifier].level) not in levels:
        return f"the level {level} was not asked for"
    return unmet(CHECKS[identifier].needs, setting.limits)


def perform(check: Check, setting: Setting) -> Result:
    """One check. A defect of the check itself is a failure too: it says nothing about the server, and must be seen."""
    began_s = time.monotonic()
    ctx = Context(setting, check.needs)
    failure = ""
    try:
        check.run(ctx)
    except Failed as error:
        failure = str(error)
    except Exception:  # not swallowed: it is the result, and the run goes on to the other checks
        failure = f"the check itself broke:\n{traceback.format_exc()}"
    finally:
        ctx.clean_up()
    return Result(
        id=check.id,
        verdict="failed" if failure else "passed",
        said=failure,
        seconds=time.monotonic() - began_s,
    )
