"""What is done to the network, by a link's name: an upstream's, or `worker-N` for the one in front of that worker."""

from __future__ import annotations

from dataclasses import dataclass

from ..stage import Between, Stage


@dataclass(frozen=True, slots=True)
class OnLink:
    link: str


class Arm(OnLink):
    """Connections made from now on are cut with RST."""

    def act(self, stage: Stage) -> None:
        stage.link(self.link).arm()


class Cut(OnLink):
    """All connections end; new ones are refused until `Mend`."""

    def act(self, stage: Stage) -> None:
        stage.link(self.link).cut()


class Mend(OnLink):
    def act(self, stage: Stage) -> None:
        stage.link(self.link).mend()


@dataclass(frozen=True, slots=True)
class CutAfter(OnLink):
    """Each connection ends after so many more bytes of the answer, its head and framing included."""

    size: int | Between

    def act(self, stage: Stage) -> None:
        stage.link(self.link).cut_after(stage.draw(self.size))


class Uncut(OnLink):
    """After `CutAfter`. Only while every reader reads."""

    def act(self, stage: Stage) -> None:
        stage.link(self.link).uncut()


class Stall(OnLink):
    """Nothing passes, nothing is lost, nobody is told, until `Heal`."""

    def act(self, stage: Stage) -> None:
        stage.link(self.link).stall()


@dataclass(frozen=True, slots=True)
class TimeOut(OnLink):
    """Answers are lost on their way, and their senders are not told, until the connections end of it."""

    after_ms: int = 200

    def act(self, stage: Stage) -> None:
        stage.link(self.link).time_out(self.after_ms)


class Heal(OnLink):
    def act(self, stage: Stage) -> None:
        stage.link(self.link).heal()


@dataclass(frozen=True, slots=True)
class Trickle(OnLink):
    """Answers come in pieces of some bytes."""

    size: int = 7

    def act(self, stage: Stage) -> None:
        stage.link(self.link).trickle(self.size)
