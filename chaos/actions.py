"""What can be done to a stage: one small value each, so that a scenario is a list of them, and a campaign draws them.

Readers are called by the label that they were begun with, workers by their number from 1, links by a name: an
upstream's, or `worker-N` for the one in front of that worker's clients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .aftermath import LIVE, trespass
from .dialects import PATHS, Dialect
from .process import Failed
from .provider import TURN
from .reader import Form, Request
from .stage import ENDED_STATES, PROMPT, UPSTREAM, Between, Stage


class Action(Protocol):
    def act(self, stage: Stage) -> None:
        """Done on return. Raises Failed where what it waits for does not come."""
        ...


# --- callers and readers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A caller posts the turn's request."""

    turn: str
    label: str = "caller"
    worker: int = 1
    key: str = ""
    """Empty: the turn's name."""
    prompt: str = PROMPT
    dialect: Dialect | None = None
    """None: the cell's."""
    upstream: str = UPSTREAM
    headers: Mapping[str, str] = field(default_factory=dict)
    resumes: str = ""
    """A reader: go on from where that one got to."""
    direct: bool = False
    """By another way than the worker's link."""
    consents: str = ""
    """A reader: pay again for the stream that it had."""

    def act(self, stage: Stage) -> None:
        headers = {"idempotency-key": stage.key(self.key or self.turn), **stage.ours, **self.headers}
        if self.resumes:
            headers["stream-offset"] = str(stage.readers[self.resumes].read().reached)
        if self.consents:
            headers["stream-retry"] = stage.readers[self.consents].stream
        stage.begin(self.label, self.worker, self.request(self.dialect or stage.dialect, headers), direct=self.direct)

    def request(self, dialect: Dialect, headers: Mapping[str, str]) -> Request:
        asked = self.prompt
        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": asked}], "input": asked}
        own = {
            "content-type": "application/json",
            "stream-exact": "true",
            TURN: self.turn,
        }
        return Request(
            turn=self.turn,
            method="POST",
            path=f"/{self.upstream}{PATHS[dialect]}",
            body=json.dumps(body).encode(),
            headers={**own, **headers},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Somebody reads the stream that another reader has, live."""

    of: str = "caller"
    label: str = "reader"
    worker: int = 1
    offset: int | str = 0
    """In bytes, or a token; `here`: where the other one got to, told as an EventSource does where it is one."""
    form: Form = "bytes"
    slow_s: float = 0

    def act(self, stage: Stage) -> None:
        of = stage.readers[self.of]
        offset = of.read().reached if self.offset == "here" else self.offset
        path, headers = f"/streams/{of.stream}?live={LIVE[self.form]}", stage.ours
        if self.form == "events" and self.offset == "here":
            headers = {**headers, "last-event-id": f"{offset:016}"}
        else:
            path += f"&offset={offset}"
        request = Request(turn=of.request.turn, path=path, headers=headers, form=self.form)
        stage.begin(self.label, self.worker, request, slow_s=self.slow_s)


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until a reader has so many bytes, or has ended."""

    label: str
    size: int | Between = 1

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].until(stage.draw(self.size))


@dataclass(frozen=True, slots=True)
class Leave:
    """A reader's process is gone: its kernel sends FIN, or RST."""

    label: str
    reset: bool = True

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].leave(reset=self.reset)


@dataclass(frozen=True, slots=True)
class Pause:
    """A reader reads nothing more for now."""

    label: str

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].pause()


@dataclass(frozen=True, slots=True)
class Resume:
    label: str

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].resume()


@dataclass(frozen=True, slots=True)
class Ended:
    """Wait for a reader's end."""

    label: str

    def act(self, stage: Stage) -> None:
        stage.readers[self.label].join()


@dataclass(frozen=True, slots=True)
class Trespass:
    """A stranger asks for the stream, while it is as it is."""

    of: str = "caller"

    def act(self, stage: Stage) -> None:
        stage.probes += trespass(stage, stage.readers[self.of])


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask a worker to stop the stream."""

    of: str = "caller"
    worker: int = 1

    def act(self, stage: Stage) -> None:
        reply = stage.ask(self.worker, "POST", f"/streams/{stage.readers[self.of].stream}/cancel")
        if reply.status != 202:
            raise Failed(f"worker {self.worker} answers {reply.status} to a cancel: {reply.body!r}")


@dataclass(frozen=True, slots=True)
class Sealed:
    """Wait for the stream's seal; and for its expiry, if so."""

    of: str = "caller"
    expired: bool = False

    def act(self, stage: Stage) -> None:
        states = ("expired",) if self.expired else ENDED_STATES
        stage.ended(stage.readers[self.of], states)


# --- the provider ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Script:
    """What the next call gets, in the provider's own words; or every call that nothing else is written for."""

    values: Mapping[str, Any]
    every: bool = False

    def act(self, stage: Stage) -> None:
        values = stage.draw(dict(self.values))
        if self.every:
            stage.provider.script(default=values)
        else:
            stage.provider.script(values)


@dataclass(frozen=True, slots=True)
class Held:
    """Wait until so many calls wait for their release."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["held"] for entry in entries) >= self.calls)


@dataclass(frozen=True, slots=True)
class Finished:
    """Wait until so many calls have ended, however they did."""

    calls: int = 1

    def act(self, stage: Stage) -> None:
        stage.provider.wait_for(lambda entries: sum(entry["ended_at"] is not None for entry in entries) >= self.calls)


@dataclass(frozen=True, slots=True)
class Release:
    """Every held answer goes on."""

    def act(self, stage: Stage) -> None:
        stage.provider.release()


# --- the server's processes ------------------------------------------------------------------------------------------


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


# --- the network -----------------------------------------------------------------------------------------------------


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
