"""Workers that are killed while others serve the same store: nothing that was seen is lost, and nobody calls twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from resumestream.model import Outcome, StreamInfo
from resumestream.testing.provider import Script

from .service import SERVED, Reader, Service, serving
from .workers import Fault, Worker, Zygote

KILLS = 25
"""A store and a backend."""
AT_ONCE_S = 10
"""Within it, and not only after the lease of a minute, the streams of a dead worker end."""
TOKENS, EVENT_BYTES = 60, 190
OUTCOMES = (Outcome.COMPLETED, Outcome.INTERRUPTED)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(params=SERVED, ids="-".join)
def service(zygote: Zygote, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with serving(zygote, tmp_path, *request.param) as service:
        yield service


# --- at random -------------------------------------------------------------------------------------------------------


class Round:
    """One death of a worker that drains several streams, as their readers see it."""

    def __init__(self, service: Service, dice: random.Random, number: int) -> None:
        self._service, self._dice = service, dice
        self.key, self._late = f"r{number}", [f"r{number}-late{n}" for n in range(2)]
        self.streams = dict[str, StreamInfo]()

    def play(self, victim: Worker, other: Worker) -> None:
        service, dice = self._service, self._dice
        caller = service.post(victim, self.key).until(1)
        path = f"/streams/{caller.stream}?live="
        readers = [Reader(other, path + "tail"), Reader(other, path + "events"), service.post(other, self.key)]
        for reader in readers:
            reader.head()
        seen = len(readers[0].until(dice.randrange(int(1.1 * TOKENS * EVENT_BYTES))).body)
        start = dice.randrange(seen + 1)
        resumed = Reader(other, f"{path}tail&offset={start}").head()
        late = [service.post(victim, key) for key in self._late]
        time.sleep(dice.uniform(0, 0.05))
        victim.kill()
        self._check(other, caller, readers, resumed, start)
        for key, reader in zip(self._late, late, strict=True):
            self._check_late(other, key, reader.end(AT_ONCE_S))

    def _check(self, other: Worker, caller: Reader, readers: list[Reader], resumed: Reader, start: int) -> None:
        for reader in (*readers, resumed, caller):
            reader.end(AT_ONCE_S)
        record, payload = self._ended(caller.stream, other)
        for reader in readers:
            assert reader.payload == payload
            assert reader.failed is not record.completed
        assert resumed.body == payload[start:]
        assert resumed.cut is not record.completed
        assert payload.startswith(caller.payload)
        assert caller.failed or caller.payload == payload
        assert self._service.sent(self.key).startswith(payload)
        assert self._service.asked_again(other, self.key).payload == payload

    def _check_late(self, other: Worker, key: str, caller: Reader) -> None:
        """It may have died before the claim: then the other worker makes the one call."""
        again = self._service.asked_again(other, key)
        assert len(self._service.calls(key)) <= 1
        if caller.status == 200:
            assert caller.stream == again.stream
        _, payload = self._ended(again.stream, other)
        assert payload.startswith(caller.payload)

    def _ended(self, stream: str, other: Worker) -> tuple[StreamInfo, bytes]:
        record = self.streams[stream] = self._service.sealed(stream, other, within_s=AT_ONCE_S)
        assert record.seal
        assert record.seal.outcome in OUTCOMES
        return record, self._service.payload(stream)


@pytest.mark.timeout(85)
def test_killed_at_random_moments(service: Service, request: pytest.FixtureRequest) -> None:
    """Each survivor is the next to die. The seals of all rounds are what they were to the end."""
    service.provider.script(default=Script(tokens=TOKENS, delay_s=0.002))
    dice = random.Random(request.node.name)
    victim, other = service.workers(2)
    streams = dict[str, StreamInfo]()
    for number in range(KILLS):
        one = Round(service, dice, number)
        one.play(victim, other)
        streams |= one.streams
        victim, other = other, service.worker()
    outcomes = {record.seal.outcome for record in streams.values() if record.seal}
    assert outcomes == set(OUTCOMES), "the moments are badly chosen"
    for stream, record in streams.items():
        assert service.record(stream) == record


# --- at each step ----------------------------------------------------------------------------------------------------

CALL = "resumestream.upstream:Call.open"
STEPS = [
    ("create", "before"),
    ("create", "after"),
    (CALL, "before"),
    (CALL, "after"),
    ("begin", "before"),
    ("begin", "after"),
    ("append", "before"),
    ("append", "after"),
    ("seal", "before"),
    ("seal", "after"),
]
CALLED = STEPS[3:]
"""The provider has the request."""


@pytest.mark.parametrize(("call", "when"), STEPS)
def test_killed_at_each_step(service: Service, call: str, when: Literal["before", "after"]) -> None:
    """No stream, or one that ends at once; one call at most without consent, and one more with it."""
    trigger = service.trigger()
    service.provider.script(default=Script(tokens=3, hold_at=None if call == "seal" else 2))
    victim, other = service.worker(Fault(call, when, signal.SIGKILL, trigger)), service.worker()
    trigger.touch()
    caller = service.post(victim, "k").end()
    assert victim.end() == -signal.SIGKILL
    assert caller.cut
    assert len(service.calls("k")) == ((call, when) in CALLED)
    service.provider.script(default=Script(tokens=3))
    found = service.asked_again(other, "k")
    record = service.sealed(found.stream, other, within_s=AT_ONCE_S)
    assert record.seal
    assert record.completed is (call == "seal" or (call, when) == STEPS[0])
    assert record.seal.detail == ("end_seen" if record.completed else "process_died")
    assert bool(record.tail) is (record.completed or (call, when) == ("append", "after"))
    assert found.payload.startswith(caller.payload)
    if not record.completed:
        calls = len(service.calls("k"))
        again = service.post(other, "k", stream_retry=found.stream).end()
        assert (again.status, again.failed, len(service.calls("k"))) == (200, False, calls + 1)


RECOVERY = [(call, when) for call in ("acquire", "begin", "seal") for when in ("before", "after")]


@pytest.mark.parametrize("at_start", [True, False], ids=["at its start", "while it serves"])
@pytest.mark.parametrize(("call", "when"), RECOVERY)
def test_killed_in_recovery(service: Service, call: str, when: Literal["before", "after"], at_start: bool) -> None:
    """Who comes next does it over: the log is what it was, and there is one seal."""
    service.provider.script(Script(tokens=20, hold_at=10))
    created, recovering = service.trigger("created"), service.trigger("recovering")
    fault = Fault(call, when, signal.SIGKILL, recovering)
    first, heirs = service.worker(Fault("create", "after", signal.SIGKILL, created)), list[Worker]()
    if not at_start:
        heirs.append(service.worker(fault))
    seen = b""
    if call == "begin":  # recovery notes the call that was claimed and not begun
        created.touch()
    caller = service.post(first, "k").until(1)
    recovering.touch()
    first.kill()
    seen = caller.end().payload
    if at_start:
        heirs.append(service.worker(fault))
    (heir,) = heirs
    assert heir.end() == -signal.SIGKILL
    last = service.worker()
    found = service.asked_again(last, "k")
    record = service.sealed(found.stream, last, within_s=AT_ONCE_S)
    assert record.seal
    assert (record.seal.outcome, record.seal.detail) == (Outcome.INTERRUPTED, "process_died")
    assert record.epoch == (2 if (call, when) in (RECOVERY[0], RECOVERY[-1]) else 3)
    assert found.payload.startswith(seen)
    assert (len(seen) > 0) is (len(service.calls("k")) == 1) is (call != "begin")
