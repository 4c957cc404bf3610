"""What is done to the network, by a link's name: an upstream's, or `worker-N` for the one in front of that worker."""

from __future__ import annotations

from dataclasses import dataclass

from ..stage import Between, Stage


@dataclass(frozen=True, slots=True)
class Arm:
    """Connections made from now on are cut with RST."""

    link: str

    def act(self, stage: Stage) -> None:
        stage.link(self.link).arm()


@dataclass(frozen=True, slots=True)
class Cut:
    """All connections end; new ones are refused until `Mend`."""

    link: str

    def act(self, stage: Stage) -> None:
        stage.link(self.link).cut()


@dataclass(frozen=True, slots=True)
class Mend:
    link: str

    def act(self, stage: Stage) -> None:
        stage.link(self.link).mend()


@dataclass(frozen=True, slots=True)
class CutAfter:
    """Each connection ends after so many more bytes of the answer, its head and framing included."""

    link: str
    size: int | Between

    def act(self, stage: Stage) -> None:
        stage.link(self.link).cut_after(stage.draw(self.size))


@dataclass(frozen=True, slots=True)
class Uncut:
    """After `CutAfter`. Only while every reader reads."""

    link: str

    def act(self, stage: Stage) -> None:
        stage.link(self.link).uncut()


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing passes, nothing is lost, nobody is told, until `Heal`."""

    link: str

    def act(self, stage: Stage) -> None:
        stage.link(self.link).stall()


@dataclass(frozen=True, slots=True)
class TimeOut:
    """Answers are lost on their way, and their senders are not told, until the connections end of it."""

    link: str
    after_ms: int = 200

    def act(self, stage: Stage) -> None:
        stage.link(self.link).time_out(self.after_ms)


@dataclass(frozen=True, slots=True)
class Heal:
    link: str

    def act(self, stage: Stage) -> None:
        stage.link(self.link).heal()


@dataclass(frozen=True, slots=True)
class Trickle:
    """Answers come in pieces of some bytes."""

    link: str
    size: int = 7

    def act(self, stage: Stage) -> None:
        stage.link(self.link).trickle(self.size)


@dataclass(frozen=True, slots=True)
class Delay:
    link: str
    latency_ms: int

    def act(self, stage: Stage) -> None:
        stage.link(self.link).delay(self.latency_ms)
