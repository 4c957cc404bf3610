"""Streams that are stopped, deleted and expire through a worker that does not drain them, and workers that are
restarted one after the other."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resumestream.model import Outcome
from resumestream.testing.provider import Calls, Script

from .clients.plain import Plain
from .service import BODY, CHAT, SERVED, Reader, Service, ask, of, serving
from .workers import Worker, Zygote

REACHES_PROVIDER_S = 1
"""The bound on a stop from any worker."""
HELD = Script(tokens=20, hold_at=10)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(params=SERVED, ids="-".join)
def service(zygote: Zygote, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with serving(zygote, tmp_path, *request.param) as service:
        yield service


def held(service: Service, worker: Worker, key: str = "k", **headers: str) -> Reader:
    """An answer that waits in the middle, all of it read."""
    reader = service.post(worker, key, x_script=HELD.to_json(), **headers).until(1)
    service.provider.wait_for(lambda calls: all(call.held for call in of(key, calls)))
    return reader.until(len(service.sent(key)))


def gone(calls: Calls) -> bool:
    return all(call.disconnected for call in calls)


# --- through the other one -------------------------------------------------------------------------------------------


def test_cancel(service: Service) -> None:
    drains, other = service.workers(2)
    caller = held(service, drains)
    reader = Reader(other, f"/streams/{caller.stream}?live=tail").until(len(caller.body))
    until = time.monotonic() + REACHES_PROVIDER_S
    assert ask(other, "POST", f"/streams/{caller.stream}/cancel").status == 202
    service.provider.wait_for(gone, timeout_s=until - time.monotonic())
    record = service.sealed(caller.stream, drains, other)
    assert record.seal
    assert (record.seal.outcome, record.seal.detail) == (Outcome.CANCELLED, "requested")
    assert caller.end().failed
    assert reader.end().cut
    assert reader.body == caller.payload == service.payload(caller.stream)


@pytest.mark.parametrize("forget", [False, True])
def test_delete(service: Service, forget: bool) -> None:
    drains, other = service.workers(2)
    caller = held(service, drains)
    path = f"/streams/{caller.stream}"
    reader = Reader(other, path + "?live=tail").until(len(caller.body))
    with Plain(drains.url) as there, Plain(other.url) as here:
        assert (there.get(path).status, here.get(path).status) == (200, 200)
        until = time.monotonic() + REACHES_PROVIDER_S
        assert here.ask("DELETE", f"{path}?forget={str(forget).lower()}").status == 204
        for client in (there, here):  # at once
            assert client.get(path).status == (404 if forget else 410)
    service.provider.wait_for(gone, timeout_s=until - time.monotonic())
    assert caller.end().failed
    assert reader.end().cut
    for worker in (drains, other):
        for live in ("tail", "events"):
            assert ask(worker, "GET", f"{path}?live={live}").status == (404 if forget else 410)
    if not forget:
        assert [service.post(worker, "k").end().status for worker in (drains, other)] == [410, 410]
        record = service.record(caller.stream)
        assert (record.gone, record.seal and record.seal.detail) == ("deleted", "deleted")
    assert len(service.calls("k")) == 1


def test_delete_of_what_a_frozen_worker_drains(service: Service) -> None:
    """It is not waited for. Thawed, it shows nothing of it any more, not even to who asked before."""
    drains, other = service.workers(2)
    caller = held(service, drains)
    path = f"/streams/{caller.stream}"
    with Plain(drains.url) as client:
        assert client.get(path).status == 200
        drains.freeze()
        assert ask(other, "DELETE", path).status == 204
        assert ask(other, "GET", path).status == 410
        waiting = Reader(drains, path), Reader(drains, path + "?live=tail")
        drains.thaw()
        assert client.get(path).status == 410
    for reader in waiting:
        assert reader.end().status == 410
    service.provider.wait_for(gone)
    assert caller.end().failed
    assert len(service.calls("k")) == 1


def test_expiry(service: Service) -> None:
    """Both know at the same time."""
    drains, other = service.workers(2)
    service.provider.script(default=Script(tokens=3))
    caller = service.post(drains, "k", stream_retain="1").end()
    path = f"/streams/{caller.stream}"
    with Plain(drains.url) as there, Plain(other.url) as here:
        assert here.get(path).body == there.get(path).body == caller.body
        deadline = time.monotonic() + 10
        while here.get(path).status == 200:
            assert time.monotonic() < deadline
        assert (here.get(path).status, there.get(path).status) == (410, 410)
        for client in (here, there):
            assert client.post(CHAT, BODY, {"idempotency-key": "k"}).status == 410
    record = service.record(caller.stream)
    assert record.completed
    assert len(service.calls("k")) == 1


# --- one after the other ---------------------------------------------------------------------------------------------


class Client:
    """Reads a stream to its end, whatever becomes of the workers: cut, it goes on where it was at another one."""

    def __init__(self, workers: list[Worker], stream: str) -> None:
        self._workers, self._stream = workers, stream
        self.body = b""
        self.outcome: str | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        path = f"/streams/{self._stream}"
        while self.outcome is None:
            for worker in list(self._workers):
                reader = Reader(worker, f"{path}?live=tail&offset={len(self.body)}").end()
                if reader.status == 200:
                    self.body += reader.body
                try:
                    seen = ask(worker, "HEAD", path).headers
                except OSError:
                    continue
                if "stream-closed" in seen and int(seen["stream-next-offset"]) == len(self.body):
                    self.outcome = seen["stream-outcome"]
            time.sleep(0.02)  # they may all be on their way down

    def end(self) -> Client:
        self._thread.join(20)
        assert self.outcome is not None, f"{len(self.body)} bytes, and no end"
        return self


def test_rolling_restart(service: Service) -> None:
    """What can finish within `drain_s` does; all else ends once, and goes on nowhere."""
    workers = service.workers(2, drain_s=1)
    callers, clients = dict[str, Reader](), dict[str, Client]()
    for turn in range(2):
        old, other = workers
        finishing = [f"{turn}-{name}-finishes" for name in ("old", "other")]
        for worker, key in zip((old, other), finishing, strict=True):
            callers[key] = held(service, worker, key)
        callers[f"{turn}-cut"] = held(service, old, f"{turn}-cut")
        for key in (*finishing, f"{turn}-cut"):
            clients[key] = Client(workers, callers[key].stream)
        old.signal(signal.SIGTERM)
        assert callers[f"{turn}-cut"].end().failed
        for key in finishing:
            (call,) = service.calls(key)
            service.provider.release(call.number)
        assert old.end() == 0
        workers[:] = [other, service.worker(drain_s=1)]
    for key, caller in callers.items():
        body = clients[key].end().body
        record = service.sealed(caller.stream, *workers)
        assert record.seal
        expected = (Outcome.INTERRUPTED, "shutdown") if "cut" in key else (Outcome.COMPLETED, "end_seen")
        assert (record.seal.outcome, record.seal.detail, record.epoch) == (*expected, 1)
        assert body == service.payload(caller.stream)
        assert body.startswith(caller.end().payload)
        assert clients[key].outcome == record.seal.outcome
        assert service.asked_again(workers[0], key).payload == body
