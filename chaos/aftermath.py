"""When everything was done: wait until it is over, and write down all that can be seen."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence

from .history import History, Probe, Read, Record
from .process import Failed
from .provider import TURN, Entry
from .reader import Form, Reader, Request
from .server import Worker
from .stage import CREDENTIAL, OURS, PROMPT, STRANGERS, Stage

NOT_OURS = ("provider.log", "toxiproxy.log")
NOTICE_S = 5.0
"""How long the end of a stopped call may take to reach the provider."""
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
LIVE: Mapping[Form, str] = {"bytes": "tail", "events": "events"}


def observe(stage: Stage, history: History, *, within_s: float = 40) -> None:
    """Fill `history`. Every reader has ended and every stream is sealed within that time, or it raises Failed."""
    deadline = time.monotonic() + within_s
    for reader in stage.readers.values():
        reader.join(within_s=max(0.1, deadline - time.monotonic()))
    history.reads = [reader.read() for reader in stage.readers.values()]
    turns = {reader.stream: reader.request.turn for reader in stage.readers.values() if reader.stream}
    for stream, turn in turns.items():
        sealed_s = stage.sealed(stream, within_s=max(0.1, deadline - time.monotonic()))
        after_s = sealed_s - stage.faulted_s if stage.faulted_s else None
        history.records += [_record(stage, worker, stream, turn, after_s) for worker in stage.workers]
        history.reads += [_read_again(worker, stream, turn, form) for worker in stage.workers for form in LIVE]
    cancelled = {record.turn for record in history.records if record.outcome == "cancelled"}
    with contextlib.suppress(Failed):  # then the checker sees which call goes on
        stage.provider.wait_for(lambda entries: _ended(entries, cancelled), within_s=NOTICE_S)
    history.calls = stage.provider.calls()
    history.probes = [_probe(stage, stream, method, verb) for stream in turns for method, verb in ROUTES]
    history.canaries = (CREDENTIAL.encode(), PROMPT.encode())
    history.traces = {
        str(path.relative_to(stage.directory)): path.read_bytes()
        for path in sorted(stage.directory.rglob("*"))
        if path.is_file() and path.name not in NOT_OURS
    }


def _record(stage: Stage, worker: Worker, stream: str, turn: str, after_s: float | None) -> Record:
    info = json.loads(stage.ask(worker.number, "GET", f"/streams/{stream}/info").body)
    segments = range(1, 1 + max(1, len(info.get("segments", ()))))
    return Record(
        stream=stream,
        turn=turn,
        asked=f"worker {worker.number}",
        state=info["state"],
        outcome=info.get("outcome") or "",
        detail=(info.get("detail") or {}).get("code", ""),
        payload={segment: _payload(stage, worker, stream, segment) for segment in segments},
        sealed_after_s=after_s,
    )


def _payload(stage: Stage, worker: Worker, stream: str, segment: int) -> bytes:
    """A segment, page by page."""
    payload = b""
    prefix = f"s{segment:02}." if segment > 1 else ""
    while True:
        path = f"/streams/{stream}?offset={prefix}{len(payload):016}"
        page = stage.ask(worker.number, "GET", path)
        if page.status != 200:
            raise Failed(f"worker {worker.number} answers {page.status} to {path}: {page.body[:500]!r}")
        payload += page.body
        if page.headers.get("stream-closed") or not page.body:
            return payload


def _read_again(worker: Worker, stream: str, turn: str, form: Form) -> Read:
    """Somebody reads all of it when everything is over, past all links."""
    path = f"/streams/{stream}?live={LIVE[form]}&offset=0"
    request = Request(turn=turn, path=path, headers=OURS, form=form, undisturbed=True)
    return (
        Reader(f"who read the {form} of {turn} from worker {worker.number} afterwards", worker.url, request)
        .join()
        .read()
    )


def _probe(stage: Stage, stream: str, method: str, verb: str) -> Probe:
    """What a stranger is answered of a stream, and of one that never was."""

    def answer(of: str) -> tuple[int, bytes]:
        reply = stage.ask(1, method, f"/streams/{of}{verb}", STRANGERS)
        return reply.status, reply.body.replace(of.encode(), b"ID")

    return Probe(route=f"{method} {verb}", stream=stream, foreign=answer(stream), unknown=answer(stream[::-1]))


def _ended(entries: Sequence[Entry], turns: Collection[str]) -> bool:
    return all(entry["ended_at"] is not None for entry in entries if dict(entry["headers"]).get(TURN) in turns)
