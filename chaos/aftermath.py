"""When everything was done: wait until it is over, and write down all that can be seen."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Sequence

from .exchange import Reply
from .history import End, History, Listing, Read, Record
from .process import Failed
from .provider import TURN, Entry
from .reader import LIVE, Form, Reader, Request
from .server import Worker
from .stage import CALLERS, CREDENTIAL, PROMPT, Stage
from .trespass import stranger_to, trespass

NOT_OURS = ("provider.log", "toxiproxy.log", CALLERS)
NOTICE_S = 5.0
"""How long the end of a call of a failed stream may take to reach the provider."""


def observe(stage: Stage, history: History) -> None:
    """Fill `history`, after what was to end has ended, or had the time to. Raises Failed where nobody answers."""
    deadline = time.monotonic() + history.bounds.end_s

    def left_s() -> float:
        return max(0.1, deadline - time.monotonic())

    for reader in stage.readers.values():
        with contextlib.suppress(Failed):  # then the checker sees who waits
            reader.join(within_s=left_s())
    history.reads = [reader.read() for reader in stage.readers.values()]
    readers = {reader.stream: reader for reader in stage.readers.values() if reader.stream}.values()
    for reader in readers:
        after_s = None
        with contextlib.suppress(Failed):  # then the checker sees what is not sealed
            sealed_s = stage.ended(reader, within_s=left_s())
            after_s = sealed_s - stage.faulted_s if stage.faulted_s else None
        history.records += [_record(stage, worker, reader, after_s) for worker in stage.workers]
        history.reads += [_read_again(worker, reader, form, left_s()) for worker in stage.workers for form in LIVE]
        history.reads += [_head(stage, worker, reader) for worker in stage.workers]
        history.listings.append(
            Listing(reader.stream, stage.ask(1, "GET", "/streams", stranger_to(stage, reader)).body)
        )
    history.probes = [*stage.probes, *(probe for reader in readers for probe in trespass(stage, reader))]
    for caller in stage.callers.values():
        caller.join(within_s=left_s())
    history.heard = [caller.heard() for caller in stage.callers.values()]
    history.growth = stage.growth()
    failed = {record.turn for record in history.records if record.outcome != "completed"}
    with contextlib.suppress(Failed):  # then the checker sees which call goes on
        stage.provider.wait_for(lambda entries: _ended(entries, failed), within_s=NOTICE_S)
    history.calls = stage.provider.calls()
    history.canaries = (CREDENTIAL.encode(), PROMPT.encode())
    history.traces = {
        str(path.relative_to(stage.directory)): path.read_bytes()
        for path in sorted(stage.directory.rglob("*"))
        if path.is_file() and path.relative_to(stage.directory).parts[0] not in NOT_OURS
    }
    history.traces |= {f"the answer to {reader.name}": reader.not_payload for reader in stage.readers.values()}


def _head(stage: Stage, worker: Worker, reader: Reader) -> Read:
    """What HEAD says of it, as one who reads nothing."""
    reply = stage.ask(worker.number, "HEAD", f"/streams/{reader.stream}", reader.request.credential)
    return Read(
        reader=f"HEAD of {reader.request.turn} at {worker.number}",
        turn=reader.request.turn,
        stream=reader.stream,
        status=reply.status,
        end=End.CLEAN,
        outcome=reply.headers.get("stream-outcome", ""),
        live=False,
        began_s=0,
        ended_s=0,
        undisturbed=True,
    )


def _record(stage: Stage, worker: Worker, reader: Reader, after_s: float | None) -> Record:
    info = json.loads(_ask(stage, worker, reader, "/info").body)
    expired = info["state"] == "expired"
    segments = () if expired else range(1, 1 + max(1, len(info.get("segments", ()))))
    return Record(
        stream=reader.stream,
        turn=reader.request.turn,
        asked=f"worker {worker.number}",
        state=info["state"],
        outcome=info.get("outcome") or "",
        detail=(info.get("detail") or {}).get("code", ""),
        payload={segment: _payload(stage, worker, reader, segment) for segment in segments},
        sealed_after_s=after_s,
    )


def _payload(stage: Stage, worker: Worker, reader: Reader, segment: int) -> bytes:
    """A segment, page by page."""
    payload = b""
    prefix = f"s{segment:02}." if segment > 1 else ""
    while True:
        page = _ask(stage, worker, reader, f"?offset={prefix}{len(payload):016}")
        if page.status != 200:
            raise Failed(f"worker {worker.number} answers {page.status} of {reader.stream}: {page.body[:500]!r}")
        payload += page.body
        if page.headers.get("stream-closed") or not page.body:
            return payload


def _ask(stage: Stage, worker: Worker, reader: Reader, what: str) -> Reply:
    """As the one who has the stream."""
    return stage.ask(worker.number, "GET", f"/streams/{reader.stream}{what}", reader.request.credential)


def _read_again(worker: Worker, reader: Reader, form: Form, within_s: float) -> Read:
    """Somebody reads all of it when everything is over, past all links."""
    turn, path = reader.request.turn, f"/streams/{reader.stream}?live={LIVE[form]}&offset=0"
    request = Request(turn=turn, path=path, headers=reader.request.credential, form=form, undisturbed=True)
    late = Reader(f"who read the {form} of {turn} afterwards at {worker.number}", worker.url, request)
    with contextlib.suppress(Failed):
        late.join(within_s=within_s)
    read = late.read()
    late.leave()
    return read


def _ended(entries: Sequence[Entry], turns: Collection[str]) -> bool:
    return all(entry["ended_at"] is not None for entry in entries if dict(entry["headers"]).get(TURN) in turns)
