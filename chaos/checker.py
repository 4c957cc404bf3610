"""The invariants, checked on a history: one rule each, in one table. Pure.

A rule knows nothing of how the history came about, so the same checker judges real processes, a simulation, and
histories written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .history import Call, End, History, Read, Record


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    """`I1` to `I10`, or `live`."""
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def check(history: History) -> list[Violation]:
    """Every violation, in the order of the invariants; empty: it all held."""
    return [Violation(invariant, what) for invariant, rule in RULES.items() for what in rule(history)]


# --- the log as it was in the end ------------------------------------------------------------------------------------

INTERNAL_ERROR = 500
Place = tuple[str, int]
"""A stream and a segment."""


def _payloads(history: History) -> dict[Place, bytes]:
    """The longest that any record has of each segment; what the others must be prefixes of."""
    longest: dict[Place, bytes] = {}
    for record in history.records:
        for segment, payload in record.payload.items():
            place = record.stream, segment
            longest[place] = max(longest.get(place, b""), payload, key=len)
    return longest


def _sealed(history: History) -> dict[str, Record]:
    return {record.stream: record for record in history.records if record.state == "sealed"}


def _billed(history: History, turn: str) -> list[Call]:
    return [call for call in history.calls if call.turn == turn and not call.refused]


# --- the rules -------------------------------------------------------------------------------------------------------


def one_call(history: History) -> Iterator[str]:
    """I1: as many billed calls as were consented to, and no fewer than one where one was due."""
    for turn in history.turns:
        billed = len(_billed(history, turn.name))
        if billed > turn.calls:
            yield f"{turn.name} cost {billed} provider calls, {turn.calls} consented to"
        if turn.dispatched and not any(call.turn == turn.name for call in history.calls):
            yield f"{turn.name} never reached the provider"
    known = {turn.name for turn in history.turns}
    for call in history.calls:
        if call.turn not in known:
            yield f"call {call.number} is of {call.turn or 'no turn'}, which nobody wanted"


def one_sequence(history: History) -> Iterator[str]:
    """I2: every reader of a segment sees the same bytes at the same places, with no event missing between."""
    payloads = _payloads(history)
    for record in history.records:
        for segment, payload in record.payload.items():
            longest = payloads[record.stream, segment]
            if not longest.startswith(payload):
                yield f"{record.asked} has other bytes in {record.stream}, segment {segment}, than another"
            elif record.state == "sealed" and payload != longest:
                yield f"{record.asked} has {len(payload)} of {len(longest)} bytes of {record.stream}, which is sealed"
    for read in history.reads:
        log = payloads.get((read.stream, read.segment), b"")
        if read.status == 200 and not read.stream:
            yield f"{read.reader} got {sum(len(piece.data) for piece in read.pieces)} bytes of no stream"
        if read.asked is not None and read.at is not None and read.at != read.asked:
            yield f"{read.reader} asked for byte {read.asked} and got those from {read.at} on"
        before = read.at
        for piece in read.pieces:
            if before is not None and piece.at < before:
                yield f"{read.reader} got byte {piece.at} again after {before}"
            elif before is not None and _missed(read, log[before : piece.at]):
                yield f"{read.reader} got nothing of bytes {before} to {piece.at}, where an event lies"
            kept = log[piece.at : piece.end]
            if kept != piece.data[: len(kept)]:
                yield f"{read.reader} got other bytes at {piece.at} than the log of {read.stream} has"
            before = piece.end


def _missed(read: Read, gap: bytes) -> bool:
    """Whether a reader should have got something of what it did not get."""
    return b"data" in gap if read.events else bool(gap)


def byte_exact(history: History) -> Iterator[str]:
    """I3: a segment is the beginning of what one call sent; all of it, where the stream completed."""
    payloads = _payloads(history)
    for stream, record in _sealed(history).items():
        billed = [call.sent for call in _billed(history, record.turn)]
        last = max(record.payload, default=1)
        for segment in range(1, last + 1):
            payload = payloads.get((stream, segment), b"")
            if record.outcome == "completed" and segment == last:
                if payload not in billed:
                    yield f"{stream} completed with {len(payload)} bytes that no call of {record.turn} sent as a whole"
            elif payload and not any(body.startswith(payload) for body in _sent(history, record.turn)):
                yield f"{stream}, segment {segment}, is not what a call of {record.turn} sent"


def nothing_lost(history: History) -> Iterator[str]:
    """I4: what a reader has seen is in the log afterwards."""
    payloads = _payloads(history)
    expired = {record.stream for record in history.records if record.state == "expired"}
    for read in history.reads:
        kept = len(payloads.get((read.stream, read.segment), b""))
        if read.pieces and read.stream and read.stream not in expired and read.reached > kept:
            yield f"{read.reader} saw {read.reached} bytes of {read.stream}, of which {kept} are left"


def one_outcome(history: History) -> Iterator[str]:
    """I5: one outcome, the same for all; nothing cut short looks complete."""
    first: dict[str, Record] = {}
    may_expire = {turn.name for turn in history.turns if turn.expires}
    for record in history.records:
        if record.state != "sealed" and not (record.state == "expired" and record.turn in may_expire):
            yield f"{record.stream} of {record.turn} is still {record.state}, says {record.asked}"
            continue
        other = first.setdefault(record.stream, record)
        if (other.outcome, other.detail) != (record.outcome, record.detail):
            yield (
                f"{record.stream} is {other.outcome} ({other.detail}) says {other.asked}, "
                f"{record.outcome} ({record.detail}) says {record.asked}"
            )
        if other.payload != record.payload:
            yield f"{record.stream} ended elsewhere, says {other.asked}, than {record.asked} says"
    for turn in history.turns:
        for record in first.values():
            if record.turn == turn.name and record.outcome not in turn.outcomes:
                yield f"{turn.name} is {record.outcome} ({record.detail}), not {' or '.join(sorted(turn.outcomes))}"
        if turn.outcomes and turn.name not in {record.turn for record in history.records}:
            yield f"{turn.name} has no outcome: nobody knows a stream of it"
    payloads = _payloads(history)
    relayed = {(call.turn, call.status) for call in history.calls}
    for read in history.reads:
        if read.status == INTERNAL_ERROR and (read.turn, read.status) not in relayed:
            yield f"{read.reader} got {INTERNAL_ERROR}, which is no outcome, and no provider's word"
        if found := first.get(read.stream):
            yield from _end_of(history, read, found, payloads.get((read.stream, read.segment), b""))
    completed = {record.turn for record in first.values() if record.outcome == "completed"}
    texts = {turn.name: turn.text for turn in history.turns}
    for heard in history.heard:
        if not texts[heard.turn].startswith(heard.text):
            yield f"{heard.reader} heard what {heard.turn} never said"
        elif heard.finished and (heard.turn not in completed or heard.text != texts[heard.turn]):
            yield f"{heard.reader} took {heard.turn}, cut short, for complete"


def _end_of(history: History, read: Read, record: Record, log: bytes) -> Iterator[str]:
    """How an answer may end, given what became of its stream."""
    last = read.segment == max(record.payload, default=1)
    told_it = {read.outcome or read.told, read.told or read.outcome} - (set() if read.undisturbed else {""})
    for outcome in sorted(told_it - {record.outcome}) if last else ():
        yield f"{read.reader} was told {outcome or 'nothing'} of {record.stream}, which is {record.outcome}"
    completed, told = record.outcome == "completed" and last, read.end is End.TOLD
    # A provider's own failure is said in the payload; nothing is added after it, and the answer ends as framed.
    said = completed or (record.outcome == "provider_error" and log in _sent(history, record.turn))
    ended = told or read.end is End.CLEAN
    if read.undisturbed and (said or read.events) and (not ended or (completed and read.status >= 500)):
        yield f"{read.reader}, which nothing disturbed, got no end of {record.stream}, but {read.status}"
    if not (read.live and 200 <= read.status < 300):
        return
    if read.end is End.CLEAN and not said:
        yield f"{read.reader} got a clean end of {record.stream}, which is {record.outcome}"
    elif ended and _missed(read, log[read.reached :]):
        yield f"{read.reader} got the end of {record.stream} at {read.reached} of {len(log)} bytes"
    elif told and completed:
        yield f"{read.reader} was told that {record.stream} failed, which completed"


def _sent(history: History, turn: str) -> list[bytes]:
    return [call.sent for call in history.calls if call.turn == turn]


def stops_only_when_asked(history: History) -> Iterator[str]:
    """I6: the provider loses its client where somebody stopped the stream or its server died, and only there; and it
    does lose it where the stream ended before it did."""
    stoppable = {turn.name for turn in history.turns if turn.stoppable}
    for call in history.calls:
        if call.disconnected and call.turn not in stoppable:
            yield f"call {call.number} of {call.turn} was left by its client, and nobody had asked for that"
    for stream, record in _sealed(history).items():
        for call in _billed(history, record.turn):
            if record.outcome != "completed" and call.ended_s is None:
                yield f"{stream} is {record.outcome}, and call {call.number} of {record.turn} goes on"


def settled(history: History) -> Iterator[str]:
    """I7: what died is noticed and ended in time."""
    for record in history.records:
        if record.sealed_after_s is not None and record.sealed_after_s > history.bounds.settle_s:
            yield f"{record.stream} was sealed {record.sealed_after_s:.1f} s after the fault"


def bounded(history: History) -> Iterator[str]:
    """I8: memory does not follow the load."""
    for process, growth in history.growth.items():
        if growth > history.bounds.growth_bytes:
            yield f"{process} grew by {growth >> 10} kB, {history.bounds.growth_bytes >> 10} are allowed"


def secret(history: History) -> Iterator[str]:
    """I9: no canary anywhere."""
    for trace, text in history.traces.items():
        for canary in history.canaries:
            if canary in text:
                yield f"{canary.decode(errors='replace')} is in {trace}"


def private(history: History) -> Iterator[str]:
    """I10: "not yours" and "does not exist" look alike, and are refused."""
    for probe in history.probes:
        if probe.foreign[0] < 400:
            yield f"{probe.route} of {probe.stream} lets a stranger in: {probe.foreign[0]}"
        if probe.foreign != probe.unknown:
            yield f"{probe.route} of {probe.stream} answers a stranger {probe.foreign}, of no stream {probe.unknown}"
    for listing in history.listings:
        if listing.stream.encode() in listing.body:
            yield f"{listing.stream} is in a stranger's list"


def live(history: History) -> Iterator[str]:
    """Nobody waits in silence, or for ever."""
    for read in history.reads:
        if read.end is End.OPEN:
            yield f"{read.reader} has got no end after {read.ended_s - read.began_s:.1f} s"
        if read.silence_s > history.bounds.silence_s:
            yield f"{read.reader} heard nothing for {read.silence_s:.1f} s"


RULES: dict[str, Callable[[History], Iterator[str]]] = {
    "I1": one_call,
    "I2": one_sequence,
    "I3": byte_exact,
    "I4": nothing_lost,
    "I5": one_outcome,
    "I6": stops_only_when_asked,
    "I7": settled,
    "I8": bounded,
    "I9": secret,
    "I10": private,
    "live": live,
}
