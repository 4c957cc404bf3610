"""When everything was done: wait until it is over, and write down all that can be seen."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence

from .exchange import Reply
from .history import End, History, Listing, Probe, Read, Record
from .process import Failed
from .provider import TURN, Entry
from .reader import Form, Reader, Request
from .server import Worker
from .stage import CALLERS, CREDENTIAL, PROMPT, STRANGER, Stage

NOT_OURS = ("provider.log", "toxiproxy.log", CALLERS)
NOTICE_S = 5.0
"""How long the end of a call of a failed stream may take to reach the provider."""
ROUTES = (
    ("GET", ""),
    ("GET", "?live=tail"),
    ("GET", "?live=events"),
    ("HEAD", ""),
    ("GET", "/info"),
    ("POST", "/cancel"),
    ("DELETE", ""),
)
"""What a stranger tries, what does harm last."""
NEVER_WAS = "never-was-such-a-stream-anywhere"
LIVE: Mapping[Form, str] = {"bytes": "tail", "events": "events"}


def observe(stage: Stage, history: History, *, within_s: float = 40) -> None:
    """Fill `history`. Every reader has ended and every stream is sealed within that time, or it raises Failed."""
    deadline = time.monotonic() + within_s
    for reader in stage.readers.values():
        reader.join(within_s=max(0.1, deadline - time.monotonic()))
    history.reads = [reader.read() for reader in stage.readers.values()]
    readers = {reader.stream: reader for reader in stage.readers.values() if reader.stream}.values()
    for reader in readers:
        sealed_s = stage.ended(reader, within_s=max(0.1, deadline - time.monotonic()))
        after_s = sealed_s - stage.faulted_s if stage.faulted_s else None
        history.records += [_record(stage, worker, reader, after_s) for worker in stage.workers]
        history.reads += [_read_again(worker, reader, form) for worker in stage.workers for form in LIVE]
        history.reads += [_head(stage, worker, reader) for worker in stage.workers]
        history.listings.append(Listing(reader.stream, stage.ask(1, "GET", "/streams", _stranger(stage, reader)).body))
    history.probes = [*stage.probes, *(probe for reader in readers for probe in trespass(stage, reader))]
    for caller in stage.callers.values():
        caller.join(within_s=max(0.1, deadline - time.monotonic()))
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


def trespass(stage: Stage, reader: Reader) -> list[Probe]:
    """What a stranger is told of a reader's stream, and of one that never was."""
    stranger = _stranger(stage, reader)
    never_was = NEVER_WAS[: len(reader.stream)]

    def told(method: str, stream: str, what: str) -> tuple[int, bytes]:
        reply = stage.ask(1, method, f"/streams/{stream}{what}", stranger)
        return reply.status, reply.body.replace(stream.encode(), b"...")

    return [
        Probe(
            route=f"{method} {what}",
            stream=reader.stream,
            foreign=told(method, reader.stream, what),
            unknown=told(method, never_was, what),
        )
        for method, what in ROUTES
    ]


def _stranger(stage: Stage, reader: Reader) -> Mapping[str, str]:
    return stage.ours if reader.request.credential == STRANGER else STRANGER


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


def _read_again(worker: Worker, reader: Reader, form: Form) -> Read:
    """Somebody reads all of it when everything is over, past all links."""
    turn, path = reader.request.turn, f"/streams/{reader.stream}?live={LIVE[form]}&offset=0"
    request = Request(turn=turn, path=path, headers=reader.request.credential, form=form, undisturbed=True)
    return Reader(f"who read the {form} of {turn} afterwards at {worker.number}", worker.url, request).join().read()


def _ended(entries: Sequence[Entry], turns: Collection[str]) -> bool:
    return all(entry["ended_at"] is not None for entry in entries if dict(entry["headers"]).get(TURN) in turns)
