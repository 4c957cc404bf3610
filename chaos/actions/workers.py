"""What is done to the server's own processes, by their number from 1."""

from __future__ import annotations

from dataclasses import dataclass

from ..stage import Stage


@dataclass(frozen=True, slots=True)
class OnWorker:
    """Not for a server that somebody else runs."""

    worker: int = 1


class Kill(OnWorker):
    """SIGKILL."""

    def act(self, stage: Stage) -> None:
        stage.faulted()
        stage.worker(self.worker).kill()


class Start(OnWorker):
    """The same worker again, on the same port and store. Serves on return."""

    def act(self, stage: Stage) -> None:
        stage.worker(self.worker).start()


class Terminate(OnWorker):
    """SIGTERM."""

    def act(self, stage: Stage) -> None:
        stage.faulted()
        stage.worker(self.worker).terminate()


class Gone(OnWorker):
    """Wait for the end of a worker that was told to end."""

    def act(self, stage: Stage) -> None:
        stage.worker(self.worker).end()


class Stop(OnWorker):
    """SIGTERM, and wait for its end."""

    def act(self, stage: Stage) -> None:
        Terminate(self.worker).act(stage)
        Gone(self.worker).act(stage)


class Freeze(OnWorker):
    """SIGSTOP. Not with a lock that others wait for: that is another scenario."""

    def act(self, stage: Stage) -> None:
        stage.faulted()
        stage.worker(self.worker).freeze()


class Thaw(OnWorker):
    """SIGCONT."""

    def act(self, stage: Stage) -> None:
        stage.worker(self.worker).thaw()
