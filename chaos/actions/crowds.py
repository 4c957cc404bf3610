"""What many do at once: the same start, thousands of reconnects, call after call while servers come and go."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..history import End
from ..process import DEADLINE_S, Failed
from ..reader import Request
from ..stage import Between, Stage
from .callers import Post

PAUSE_S = 0.1
"""Between two tries of a caller that was refused or cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """So many callers post one request at once, by turns to so many workers; they are called `caller-1` and so on."""

    turn: str
    callers: int = 8
    workers: int = 1

    def act(self, stage: Stage) -> None:
        for number in range(1, self.callers + 1):
            Post(turn=self.turn, label=f"caller-{number}", worker=1 + number % self.workers).act(stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """Readers come to any place that another one has seen, get something, and are gone with RST. On a slow
    machine only as many as there are in `for_s`: whoever waits for the answer meanwhile hears nothing."""

    of: str = "caller"
    times: int = 2000
    at_once: int = 4
    for_s: float = 8

    def act(self, stage: Stage) -> None:
        of = stage.readers[self.of]
        seen = Between(0, of.read().reached - 1)
        requests = [
            Request(
                turn=of.request.turn,
                path=f"/streams/{of.stream}?live=tail&offset={stage.draw(seen)}",
                headers=stage.ours,
            )
            for _ in range(self.times)
        ]

        until = time.monotonic() + self.for_s

        def come_and_go(number: int) -> None:
            if time.monotonic() > until:
                return
            label = f"reconnect-{number}"
            stage.begin(label, 1, requests[number])
            reader = stage.readers[label].until(1)
            reader.leave(reset=True)
            if reader.join().status != 200:
                raise Failed(f"{label} got {reader.status}")

        with ThreadPoolExecutor(self.at_once) as pool:
            for _ in pool.map(come_and_go, range(self.times)):
                pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """From now on a caller a moment, each with a turn of its own, and asking again, of the next worker, until it has a
    whole answer."""

    turns: tuple[str, ...]
    every_s: float = 0.1
    workers: int = 2

    def act(self, stage: Stage) -> None:
        pool = ThreadPoolExecutor(len(self.turns))
        stage.background += [pool.submit(self._insist, stage, number) for number in range(len(self.turns))]
        pool.shutdown(wait=False)

    def _insist(self, stage: Stage, number: int) -> None:
        time.sleep(number * self.every_s)
        turn, deadline = self.turns[number], time.monotonic() + DEADLINE_S
        tried = 0
        while time.monotonic() < deadline:
            label = f"{turn}-try-{tried}"
            Post(turn=turn, label=label, worker=1 + (number + tried) % self.workers).act(stage)
            reader = stage.readers[label].join()
            if reader.status == 200 and reader.end is End.CLEAN:
                return
            tried += 1
            time.sleep(PAUSE_S)
        raise Failed(f"{turn} has no whole answer after {tried} tries in {DEADLINE_S:g} s")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Wait until every caller of the load has its answer."""

    def act(self, stage: Stage) -> None:
        for each in stage.background:
            each.result()
