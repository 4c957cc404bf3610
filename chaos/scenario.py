"""A scenario: what is wanted, what is done, and what may come of it. Playing one gives a verdict."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .actions import Action, OnWorker
from .aftermath import observe
from .checker import Violation, check
from .dialects import Dialect
from .history import Bounds, History, Turn
from .process import Failed
from .server import COMMANDS, CONFIGURATIONS, EMBEDDED, Configuration, Options, Target
from .stage import UPSTREAM, Stage

LOOPS = list(COMMANDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    what: str
    """One sentence for people."""
    turns: tuple[Turn, ...]
    steps: tuple[Action, ...]
    workers: int = 1
    upstreams: tuple[str, ...] = (UPSTREAM,)
    options: Options = field(default_factory=Options)
    bounds: Bounds = field(default_factory=Bounds)
    durable: bool = False
    """It needs a store on disk: it must survive its process, be shared, or take no memory."""
    dialects: tuple[Dialect, ...] = ("openai-chat",)
    """What its callers may speak: one after the other over the configurations, beginning anywhere."""
    everywhere: bool = False
    """It is played on every store with every loop, and not only on every store with one or the other."""

    def configurations(self, *, thorough: bool = False) -> Sequence[Configuration]:
        """The cells of its row; `thorough`: as if it were to be played everywhere."""
        first = zlib.crc32(self.name.encode())
        cells = [
            replace(each, dialect=self.dialects[(first + number) % len(self.dialects)])
            for number, each in enumerate(CONFIGURATIONS)
            if not (self.durable and each.store == "memory")
        ]
        if thorough or self.everywhere:
            return cells
        stores = list(dict.fromkeys(each.store for each in cells))
        turn = [(store, LOOPS[(first + number) % len(LOOPS)]) for number, store in enumerate(stores)]
        return [each for each in cells if (each.store, each.loop) in turn]

    @property
    def anywhere(self) -> bool:
        """It can be played against a server that somebody else runs and configures."""
        ours = any(isinstance(step, OnWorker) for step in self.steps)
        return not ours and self.workers == 1 and self.options == Options()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    scenario: str
    configuration: str
    dialect: str = ""
    violations: tuple[Violation, ...] = ()
    failure: str = ""
    """Why it could not be played to its end; empty: it was."""
    seconds: float
    calls: int = 0
    """Of the provider."""

    @property
    def held(self) -> bool:
        return not self.violations and not self.failure

    @property
    def told(self) -> str:
        """Why it did not hold: a violation a line, or the failure."""
        return "\n".join(map(str, self.violations)) or self.failure


def play(scenario: Scenario, configuration: Configuration, directory: Path, *, target: Target = EMBEDDED) -> Verdict:
    """All of it, for real. What it wrote stays in `directory`, an empty one."""
    began = time.monotonic()
    history = History(turns=list(scenario.turns), bounds=scenario.bounds)
    failure = ""
    try:
        with Stage(
            directory,
            configuration,
            scenario.options,
            workers=scenario.workers,
            upstreams=scenario.upstreams,
            target=target,
            seed=f"{scenario.name} {configuration}",
        ) as stage:
            for number, step in enumerate(scenario.steps, 1):
                try:
                    step.act(stage)
                except Failed as error:
                    raise Failed(f"step {number}, {step}: {error}") from error
            observe(stage, history)
    except Failed as error:
        failure = str(error)
    return Verdict(
        scenario=scenario.name,
        configuration=str(configuration),
        dialect=configuration.dialect,
        violations=tuple(check(history)) if not failure else (),
        failure=failure,
        seconds=time.monotonic() - began,
        calls=len(history.calls),
    )
