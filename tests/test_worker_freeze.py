"""Workers that stop for a while, and clocks that jump: who is silent for its lease loses its streams and nothing else
does, and what wakes up too late writes nothing more."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resumestream.model import Outcome
from resumestream.testing.provider import Calls, Script

from .service import SERVED, Reader, Service, ask, info, serving
from .workers import Fault, Jump, Worker, Zygote

TAKEN_S = 10
"""A stream has another owner after 4/3 of a lease of a second; on a busy machine, some time later."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(params=SERVED, ids="-".join)
def service(zygote: Zygote, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with serving(zygote, tmp_path, *request.param) as service:
        yield service


def held(service: Service, worker: Worker, key: str = "k", **headers: str) -> Reader:
    """An answer that waits after some events, all of them read. It waits again further on."""
    service.provider.script(Script(tokens=20, hold_at=5, fault="stall", at_event=10))
    reader = service.post(worker, key, **headers).until(1)
    service.provider.wait_for(lambda calls: calls[-1].held)
    return reader.until(len(service.sent(key)))


def gone(calls: Calls) -> bool:
    return all(call.disconnected for call in calls)


def finish(service: Service) -> None:
    """Let the held answer come to its end."""
    service.provider.release()
    service.provider.wait_for(lambda calls: calls[-1].events_sent >= 10 and calls[-1].held)
    service.provider.release()


# --- a worker is frozen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [True, False], ids=["with bytes to read", "with a silent provider"])
def test_frozen_past_its_lease(service: Service, late: bool) -> None:
    """Taken over once. Thawed, it lets go of the provider, and no late byte lands."""
    frozen, other = service.workers(2, lease_s=1)
    caller = held(service, frozen)
    reader = Reader(other, f"/streams/{caller.stream}?live=tail").until(len(caller.body))
    before = service.payload(caller.stream)
    frozen.freeze()
    if late:
        service.provider.release()
        service.provider.wait_for(lambda calls: calls[0].events_sent == 10)
    record = service.sealed(caller.stream, other, within_s=TAKEN_S)
    assert record.seal
    assert (record.seal.outcome, record.seal.detail, record.epoch) == (Outcome.INTERRUPTED, "process_died", 2)
    assert reader.end().cut
    assert reader.body == before
    frozen.thaw()
    service.provider.wait_for(gone)
    assert caller.end().failed
    assert service.sealed(caller.stream, other, frozen) == record
    assert service.payload(caller.stream) == caller.payload == before
    assert service.asked_again(frozen, "k").payload == before


def test_frozen_for_less_than_its_lease(service: Service) -> None:
    """Nothing is taken: the stream goes on where it was."""
    frozen, other = service.workers(2, lease_s=4)
    caller = held(service, frozen)
    reader = Reader(other, f"/streams/{caller.stream}?live=tail").head()
    frozen.freeze()
    time.sleep(1.5)
    frozen.thaw()
    finish(service)
    assert not reader.end().cut
    record = service.sealed(caller.stream, other, frozen)
    assert (record.completed, record.epoch, reader.body) == (True, 1, service.sent("k"))


def test_the_whole_machine_pauses(service: Service) -> None:
    """Nobody takes anything over for a silence in which it was silent itself: its count begins anew when it wakes up,
    and who wakes up within a lease after that has lost nothing."""
    last, first = workers = service.workers(2, lease_s=3)  # who started later looks right after the other's beat
    callers = [held(service, first, "first"), held(service, last, "last")]
    for worker in workers:
        worker.freeze()
    time.sleep(2)  # above half a lease
    first.thaw()
    time.sleep(2.5)  # 5/6 of a lease; with the count from before, it would be taken after 4/6
    last.thaw()
    time.sleep(1)
    for caller in callers:
        assert service.record(caller.stream).epoch == 1
    service.provider.release()
    service.provider.wait_for(lambda calls: all(call.events_sent == 10 and call.held for call in calls))
    service.provider.release()
    for caller, key in zip(callers, ("first", "last"), strict=True):
        record = service.sealed(caller.stream, *workers)
        assert (record.completed, record.epoch, caller.end().body) == (True, 1, service.sent(key))


# --- a worker is frozen with the write lock --------------------------------------------------------------------------

FLUSH = "resumestream.stores._slices:ChunkWriter.flush"
"""Within a write transaction, between its operations and its commit."""
BUSY_S = 1
SQLITE = pytest.mark.parametrize(
    "service", [served for served in SERVED if served[0] == "sqlite"], ids="-".join, indirect=True
)


def holding(service: Service, lease_s: float) -> tuple[Worker, Worker, Reader]:
    """A worker that is frozen in the middle of an append, another one, and the caller of what is appended to."""
    trigger = service.trigger()
    fault = Fault(FLUSH, "before", signal.SIGSTOP, trigger)
    frozen = service.worker(fault, lease_s=lease_s, busy_s=BUSY_S)
    other = service.worker(lease_s=lease_s, busy_s=BUSY_S)
    caller = held(service, frozen)
    trigger.touch()
    service.provider.release()
    frozen.stopped()
    return frozen, other, caller


def refused(service: Service, worker: Worker, key: str) -> None:
    """A start that cannot be written down is refused in time, and nobody is called."""
    began = time.monotonic()
    reader = service.post(worker, key).end(BUSY_S + 5)
    assert time.monotonic() - began < BUSY_S + 2
    assert (reader.status, int(reader.headers["retry-after"]) > 0) == (503, True)
    assert not service.calls(key)


@SQLITE
@pytest.mark.parametrize("end", ["thawed", "killed"])
def test_frozen_with_the_write_lock(service: Service, end: str) -> None:
    """Others read on and refuse what they cannot write, until the lock is free."""
    frozen, other, caller = holding(service, lease_s=60)
    shown = len(caller.body)
    refused(service, other, "new")
    page = ask(other, "GET", f"/streams/{caller.stream}")
    assert (page.status, len(page.body)) == (200, shown)
    reader = Reader(other, f"/streams/{caller.stream}?live=tail").until(shown)
    assert reader.body == page.body
    assert info(other, caller.stream)["state"] == "streaming"
    if end == "thawed":
        frozen.thaw()
        service.provider.wait_for(lambda calls: calls[0].held and calls[0].events_sent == 10)
        service.provider.release()
        record = service.sealed(caller.stream, other, frozen)
        assert (record.completed, record.epoch) == (True, 1)
    else:
        frozen.kill()
        record = service.sealed(caller.stream, other)
        assert record.seal
        assert (record.seal.outcome, record.tail) == (Outcome.INTERRUPTED, shown)
    assert caller.end().failed is reader.end().failed is not record.completed
    assert reader.body == service.payload(caller.stream)
    service.provider.script(default=Script(tokens=3))
    assert service.asked_again(other, "new").status == 200


@SQLITE
def test_frozen_with_the_write_lock_past_its_lease(service: Service) -> None:
    """The lease is judged when the lock is free: whoever wins, there is one end, and what was shown is there."""
    frozen, other, caller = holding(service, lease_s=1)
    reader = Reader(other, f"/streams/{caller.stream}?live=tail").until(len(caller.body))
    refused(service, other, "new")
    time.sleep(2)
    frozen.thaw()
    service.provider.wait_for(lambda calls: calls[0].disconnected or (calls[0].held and calls[0].events_sent == 10))
    service.provider.release()
    record = service.sealed(caller.stream, other, frozen)
    assert record.seal
    assert record.seal.outcome in (Outcome.COMPLETED, Outcome.INTERRUPTED)
    payload = service.payload(caller.stream)
    assert caller.end().payload == payload
    assert reader.end().body == payload
    assert caller.failed is reader.failed is not record.completed
    assert len(service.calls("k")) == 1


# --- wall clocks jump ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, -1])
def test_a_wall_clock_that_jumps(service: Service, hours: int) -> None:
    """Nothing is taken over, nothing expires early, and who starts with a wrong clock adopts the others'."""
    jump = Jump(3600 * hours, service.trigger())
    steady, jumping = service.worker(lease_s=1), service.worker(jump=jump, lease_s=1)
    service.provider.script(Script(tokens=3))
    kept = service.post(steady, "kept", stream_retain="600").end()
    callers = [held(service, steady, "steady"), held(service, jumping, "jumping")]
    jump.trigger.touch()
    late = service.worker(jump=jump, lease_s=1)
    workers = steady, jumping, late
    time.sleep(2.5)
    for worker in workers:
        assert ask(worker, "GET", f"/streams/{kept.stream}").body == kept.body
    for caller in callers:
        assert service.record(caller.stream).epoch == 1
    service.provider.release()
    service.provider.wait_for(lambda calls: all(call.finished or call.events_sent == 10 for call in calls))
    service.provider.release()
    service.provider.script(Script(tokens=3))
    callers.append(service.post(late, "late"))
    for caller in callers:
        caller.end()
        record = service.sealed(caller.stream, *workers)
        assert (record.completed, record.epoch) == (True, 1)
        assert record.seal
        assert abs(record.seal.sealed_at - time.time()) < 60
    assert ask(jumping, "GET", f"/streams/{kept.stream}").body == kept.body
