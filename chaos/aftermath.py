"""When everything was done: wait until it is over, and write down all that can be seen."""

from __future__ import annotations

import json
import time

from .history import History, Probe, Record
from .process import Failed
from .server import Worker
from .stage import CREDENTIAL, PROMPT, STRANGER, Stage

NOT_OURS = ("provider.log", "toxiproxy.log", "callers.log")
ROUTES = [("GET", ""), ("GET", "?live=tail"), ("HEAD", ""), ("GET", "/info"), ("POST", "/cancel")]
NEVER_WAS = "never-was-such-a-stream-anywhere"


def observe(stage: Stage, history: History, *, within_s: float = 40) -> None:
    """Fill `history`. Every reader has ended and every stream is sealed within that time, or it raises Failed."""
    deadline = time.monotonic() + within_s
    for reader in stage.readers.values():
        reader.join(within_s=max(0.1, deadline - time.monotonic()))
    history.reads = [reader.read() for reader in stage.readers.values()]
    turns = {reader.stream: reader.request.turn for reader in stage.readers.values() if reader.stream}
    for stream, turn in turns.items():
        sealed_s = stage.ended(stream, within_s=max(0.1, deadline - time.monotonic()))
        after_s = sealed_s - stage.faulted_s if stage.faulted_s else None
        history.records += [_record(stage, worker, stream, turn, after_s) for worker in stage.workers]
    history.probes = [*stage.probes, *(probe for stream in turns for probe in trespass(stage, stream))]
    history.heard, history.growth = stage.heard, stage.growth()
    history.calls = stage.provider.calls()
    history.canaries = (CREDENTIAL.encode(), PROMPT.encode())
    history.traces = {
        str(path.relative_to(stage.directory)): path.read_bytes()
        for path in sorted(stage.directory.rglob("*"))
        if path.is_file() and path.name not in NOT_OURS
    }


def trespass(stage: Stage, stream: str) -> list[Probe]:
    """What a stranger is told of a stream, and of one that never was."""
    probes = []
    for method, what in ROUTES:
        foreign, unknown = (
            stage.ask(1, method, f"/streams/{asked}{what}", STRANGER) for asked in (stream, NEVER_WAS[: len(stream)])
        )
        probes.append(
            Probe(
                route=f"{method} {what}",
                stream=stream,
                foreign=(foreign.status, foreign.body.replace(stream.encode(), b"...")),
                unknown=(unknown.status, unknown.body.replace(NEVER_WAS[: len(stream)].encode(), b"...")),
            )
        )
    return probes


def _record(stage: Stage, worker: Worker, stream: str, turn: str, after_s: float | None) -> Record:
    info = json.loads(stage.ask(worker.number, "GET", f"/streams/{stream}/info").body)
    expired = info["state"] == "expired"
    segments = () if expired else range(1, 1 + max(1, len(info.get("segments", ()))))
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
