"""Many scenarios, each in a process of its own kind: the toxiproxy client knows one server a process.

What is played has a code that replays it: `SCENARIO@CONFIGURATION`, or a campaign's schedule.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from queue import SimpleQueue
from random import Random

from .campaign import campaign
from .players import players, playing
from .scenario import Scenario, Verdict, play
from .scenarios import SCENARIOS
from .schedule import Schedule, drawn
from .server import CONFIGURATIONS, EMBEDDED, Configuration, Target

ELSEWHERE = "elsewhere"
"""In place of a configuration: somebody else's server has its own."""


@dataclass(frozen=True, slots=True)
class Played:
    code: str
    verdict: Verdict
    logs: str = ""
    """Where everything that it wrote was kept; empty: it held, and nothing was."""
    target: Target = EMBEDDED

    @property
    def replay(self) -> str:
        elsewhere = f" --target {self.target.url} --port {self.target.port}" if self.target.url else ""
        return f"python -m chaos replay {self.code}{elsewhere}"


def codes(names: Sequence[str], configurations: Sequence[str], target: Target) -> list[str]:
    """Of all cells, or of those named. Raises ValueError for a name that there is not."""
    if unknown := sorted({*names} - SCENARIOS.keys()):
        raise ValueError(f"no scenario is called {', '.join(unknown)}; `python -m chaos list` has them all")
    known = [str(configuration) for configuration in CONFIGURATIONS]
    if wrong := sorted({*configurations} - {*known}):
        raise ValueError(f"no configuration is called {', '.join(wrong)}; there are {', '.join(known)}")
    scenarios = [SCENARIOS[name] for name in names or SCENARIOS]
    if target.url:
        return [f"{scenario.name}@{ELSEWHERE}" for scenario in scenarios if scenario.anywhere]
    cells = [(scenario.name, str(each)) for scenario in scenarios for each in scenario.configurations()]
    return [f"{name}@{each}" for name, each in cells if not configurations or each in configurations]


def perform(code: str, target: Target = EMBEDDED) -> Played:
    """Play it. Whatever goes wrong is in the verdict; only then its directory stays. Raises ValueError for no code."""
    scenario, configuration = parsed(code, target)
    began = time.monotonic()
    with playing() as directory:
        try:
            verdict = play(scenario, configuration, directory, target=target)
        except Exception:  # a defect of the harness itself fails its cell, with the traceback as the failure
            seconds = time.monotonic() - began
            verdict = Verdict(scenario=scenario.name, configuration="", failure=traceback.format_exc(), seconds=seconds)
        verdict = replace(verdict, configuration=code.partition("@")[2] or str(configuration))
        if not verdict.held:
            return Played(code, verdict, str(directory), target)
        shutil.rmtree(directory)
        return Played(code, verdict, target=target)


def parsed(code: str, target: Target) -> tuple[Scenario, Configuration]:
    """What a code stands for: of a cell, with the dialect that it has in its row. Raises ValueError."""
    name, at, where = code.partition("@")
    if not at:
        schedule = Schedule.parse(code)
        if target.url:
            raise ValueError("random schedules kill and freeze: nothing for a server that somebody else runs")
        return schedule.scenario(), schedule.configuration
    if name not in SCENARIOS:
        raise ValueError(f"not a cell: {code!r}; `python -m chaos list` has all scenarios")
    scenario = SCENARIOS[name]
    cells = {str(cell): cell for cell in scenario.configurations(thorough=True)}
    if target.url:
        cells = {ELSEWHERE: CONFIGURATIONS[0]} if scenario.anywhere else {}
    if where not in cells:
        at = f"against {target.url}" if target.url else "without --target"
        raise ValueError(f"not a cell: {code!r}; {at}, {name} is played at: {', '.join(cells) or 'nothing'}")
    return scenario, cells[where]


def perform_all(todo: Iterable[str], target: Target, jobs: int) -> Iterator[Played]:
    """In `jobs` processes, as they end."""
    todo = iter(todo)
    with players(jobs) as pool:
        running: set[Future[Played]] = set()
        while True:
            while len(running) < jobs and (code := next(todo, None)) is not None:
                running.add(pool.submit(perform, code, target))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)


def soak(cells: Sequence[str], seconds: float, seed: int, *, schedules: bool) -> Iterator[str]:
    """All cells in ever new order, with as many schedules between, for so long."""
    ends_s, random = time.monotonic() + seconds, Random(seed)
    while True:
        for code in random.sample(cells, len(cells)):
            for each in (code, str(drawn(random)))[: 1 + schedules]:
                if time.monotonic() > ends_s:
                    return
                yield each


def campaigns(seed: int, seconds: float, examples: int, jobs: int) -> Iterator[Played]:
    """So many at once, from `seed` on. All that was played; what failed comes once, as small as it could be."""
    told: SimpleQueue[Played | None] = SimpleQueue()

    def one(number: int) -> None:
        played: dict[str, Played] = {}

        def perform_there(code: str) -> Verdict:
            played[code] = pool.submit(perform, code).result()
            if played[code].verdict.held:
                told.put(played[code])
            return played[code].verdict

        if failed := campaign(number, examples=examples, within_s=seconds, perform=perform_there):
            told.put(played[failed.scenario])

    with ThreadPoolExecutor(jobs) as threads, players(jobs) as pool:
        running = [threads.submit(one, seed + job) for job in range(jobs)]
        for job in running:
            job.add_done_callback(lambda _: told.put(None))
        for _ in running:
            yield from iter(told.get, None)
        for job in running:
            job.result()
