"""What is done to the server's own processes, by their number from 1."""

from __future__ import annotations

from dataclasses import dataclass

from ..stage import Stage


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    worker: int = 1

    def act(self, stage: Stage) -> None:
        stage.faulted()
        stage.worker(self.worker).kill()


@dataclass(frozen=True, slots=True)
class Start:
    """The same worker again, on the same port and store. Serves on return."""

    worker: int = 1

    def act(self, stage: Stage) -> None:
        stage.worker(self.worker).start()


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM."""

    worker: int = 1

    def act(self, stage: Stage) -> None:
        stage.faulted()
        stage.worker(self.worker).terminate()


@dataclass(frozen=True, slots=True)
class Gone:
    """Wait for the end of a worker that was told to end."""

    worker: int = 1

    def act(self, stage: Stage) -> None:
        stage.worker(self.worker).end()


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM, and wait for its end."""

    worker: int = 1

    def act(self, stage: Stage) -> None:
        Terminate(self.worker).act(stage)
        Gone(self.worker).act(stage)


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP. Not with a lock that others wait for: that is another scenario."""

    worker: int = 1

    def act(self, stage: Stage) -> None:
        stage.faulted()
        stage.worker(self.worker).freeze()


@dataclass(frozen=True, slots=True)
class Thaw:
    worker: int = 1

    def act(self, stage: Stage) -> None:
        stage.worker(self.worker).thaw()
