"""The checker lets good histories pass and tells every kind of bad one, by its own rule and by no other."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos import checker
from chaos.history import Bounds, Call, End, Heard, History, Listing, Piece, Probe, Read, Record, Turn

EVENTS = tuple(b"data: %d\n\n" % number for number in range(8))
BODY = b"".join(EVENTS)
SIZE = len(EVENTS[0])
HALF = SIZE * 4
NOT_FOUND = (404, b"no stream")

Change = Callable[[History], None]


# --- good histories --------------------------------------------------------------------------------------------------


def a_read(**changes: Any) -> Read:
    """All of it, to its clean end."""
    values: dict[str, Any] = {
        "reader": "caller",
        "turn": "turn",
        "stream": "S",
        "status": 200,
        "pieces": (Piece(0, BODY),),
        "at": 0,
        "end": End.CLEAN,
        "began_s": 0,
        "ended_s": 1,
    }
    return Read(**(values | changes))


def pieces(*numbers: int) -> tuple[Piece, ...]:
    return tuple(Piece(number * SIZE, EVENTS[number]) for number in numbers)


def a_call(**changes: Any) -> Call:
    return Call(**({"number": 1, "turn": "turn", "sent": BODY, "status": 200, "ended_s": 1.0} | changes))


def a_record(**changes: Any) -> Record:
    values: dict[str, Any] = {"stream": "S", "turn": "turn", "asked": "worker 1", "state": "sealed"}
    return Record(**(values | {"outcome": "completed", "payload": {1: BODY}} | changes))


def completed() -> History:
    """One call; a caller who left, one who has it all, one who joined in the middle, one with EventSource."""
    return History(
        turns=[Turn(name="turn", text="all of it", outcomes=frozenset({"completed"}))],
        reads=[
            a_read(),
            a_read(reader="who left", pieces=(Piece(0, BODY[:HALF]),), end=End.LEFT),
            a_read(reader="device", asked=HALF, at=HALF, pieces=(Piece(HALF, BODY[HALF:]),)),
            a_read(reader="tab", events=True, pieces=pieces(*range(8))),
            a_read(reader="afterwards", undisturbed=True, outcome="completed"),
        ],
        heard=[Heard(reader="sdk", turn="turn", text="all of it", finished=True)],
        calls=[a_call()],
        records=[a_record(), a_record(asked="worker 2")],
        listings=[Listing("S", b'{"streams": []}')],
        probes=[Probe(route="GET", stream="S", foreign=NOT_FOUND, unknown=NOT_FOUND)],
        growth={"worker 1": 1000},
        traces={"log": b"serving"},
        canaries=(b"secret",),
        bounds=Bounds(silence_s=20, settle_s=20, growth_bytes=2000),
    )


def truncated() -> History:
    """The provider's answer was cut in the middle; who reads is cut, or told."""
    half = (Piece(0, BODY[:HALF]),)
    return History(
        turns=[Turn(name="turn", text="all of it", outcomes=frozenset({"truncated"}))],
        reads=[
            a_read(pieces=half, end=End.CUT),
            a_read(reader="tab", events=True, pieces=pieces(0, 1, 2, 3), end=End.TOLD, told="truncated"),
            a_read(reader="late", pieces=half, end=End.CUT, outcome="truncated", undisturbed=True),
            a_read(reader="page", pieces=half, live=False),
        ],
        heard=[Heard(reader="sdk", turn="turn", text="all", finished=False, error="truncated")],
        calls=[a_call(sent=BODY[: HALF + 3])],
        records=[a_record(outcome="truncated", detail="fin", payload={1: BODY[:HALF]}, sealed_after_s=3)],
    )


def failed_over() -> History:
    """Two calls by consent, two segments."""
    history = truncated()
    history.turns = [Turn(name="turn", outcomes=frozenset({"completed"}), calls=2)]
    history.heard = []
    history.reads = [
        a_read(pieces=(Piece(0, BODY[:HALF]),), end=End.CUT),
        a_read(reader="again", segment=2, outcome="completed"),
    ]
    history.calls = [a_call(sent=BODY[:HALF]), a_call(number=2)]
    history.records = [a_record(payload={1: BODY[:HALF], 2: BODY})]
    return history


def provider_failed() -> History:
    """A refusal, handed on as it came: a clean end of a failed stream."""
    body = b'{"error": "busy"}'
    return History(
        turns=[Turn(name="turn", outcomes=frozenset({"provider_error"}))],
        reads=[
            a_read(status=429, pieces=(), outcome="provider_error"),
            a_read(reader="late", pieces=(Piece(0, body),), undisturbed=True, outcome="provider_error"),
        ],
        calls=[a_call(sent=body, status=429, refused=True)],
        records=[a_record(outcome="provider_error", payload={1: body})],
    )


def provider_broke() -> History:
    """The provider's own 500 is its word."""
    history = provider_failed()
    history.reads = [replace(read, status=500) if read.status == 429 else read for read in history.reads]
    history.calls = [replace(call, status=500) for call in history.calls]
    return history


def cancelled() -> History:
    history = truncated()
    history.turns = [Turn(name="turn", outcomes=frozenset({"cancelled"}), stoppable=True)]
    history.heard = []
    history.reads = [a_read(pieces=(Piece(0, BODY[:HALF]),), end=End.CUT)]
    history.calls = [a_call(sent=BODY[:HALF], disconnected=True)]
    history.records = [a_record(outcome="cancelled", payload={1: BODY[:HALF]})]
    return history


def not_asked() -> History:
    """Refused before any call."""
    return History(turns=[Turn(name="turn", outcomes=frozenset(), calls=0, dispatched=False)])


def with_comments() -> History:
    """Who gets events need not get the comments between and after them."""
    body = b": hello\n\ndata: 1\n\n: still here\n\ndata: 2\n\n: bye\n\n"
    one, two = body.index(b"data: 1"), body.index(b"data: 2")
    history = completed()
    history.calls, history.records = [a_call(sent=body)], [a_record(payload={1: body})]
    got = (Piece(one, b"data: 1\n\n"), Piece(two, b"data: 2\n\n"))
    history.reads = [a_read(events=True, pieces=got), a_read(reader="at its end", at=len(body), pieces=())]
    return history


def going_down() -> History:
    """Who reads events from a server that goes down is sent back; the stream may complete later."""
    history = completed()
    history.reads = [a_read(events=True, pieces=pieces(0, 1), end=End.CUT), a_read(status=0, pieces=(), end=End.CUT)]
    return history


GOOD = (
    completed,
    truncated,
    failed_over,
    provider_failed,
    provider_broke,
    cancelled,
    not_asked,
    with_comments,
    going_down,
)


@pytest.mark.parametrize("good", GOOD, ids=lambda good: good.__name__)
def test_good_histories_pass(good: Callable[[], History]) -> None:
    assert checker.check(good()) == []


# --- bad ones --------------------------------------------------------------------------------------------------------


def _all(kind: str, where: Callable[[Any], bool] = lambda _: True, **changes: Any) -> Change:
    """The same change to all items of that kind, or to some."""

    def change(history: History) -> None:
        items = getattr(history, kind)
        assert any(map(where, items))
        setattr(history, kind, [replace(item, **changes) if where(item) else item for item in items])

    return change


def turns(**changes: Any) -> Change:
    return _all("turns", **changes)


def reads(reader: str = "caller", **changes: Any) -> Change:
    return _all("reads", lambda read: read.reader == reader, **changes)


def calls(**changes: Any) -> Change:
    return _all("calls", **changes)


def records(asked: str = "worker", **changes: Any) -> Change:
    return _all("records", lambda record: record.asked.startswith(asked), **changes)


def heard(**changes: Any) -> Change:
    return _all("heard", **changes)


def probes(**changes: Any) -> Change:
    return _all("probes", **changes)


def plus(kind: str, *items: Any) -> Change:
    return lambda history: getattr(history, kind).extend(items)


def minus(kind: str) -> Change:
    return lambda history: getattr(history, kind).clear()


def grown(size: int) -> Change:
    return lambda history: history.growth.update({"worker 2": size})


def traced(text: bytes) -> Change:
    return lambda history: history.traces.update({"streams.db": text})


def both(*changes: Change) -> Change:
    def change(history: History) -> None:
        for each in changes:
            each(history)

    return change


OTHER = BODY.replace(b"3", b"x")
"""The same size."""
DROPPED = BODY[:HALF] + BODY[HALF + 1 :]

BAD: list[tuple[str, Callable[[], History], Change, str]] = [
    # one call
    ("I1", completed, plus("calls", a_call(number=2)), "turn cost 2 provider calls, 1 consented to"),
    ("I1", failed_over, plus("calls", a_call(number=3)), "turn cost 3 provider calls, 2 consented to"),
    ("I1", completed, plus("calls", a_call(number=2, status=None, sent=b"")), "turn cost 2"),
    ("I1", completed, plus("calls", a_call(number=2, turn="")), "call 2 is of no turn"),
    ("I1", completed, plus("calls", a_call(number=2, turn="else")), "call 2 is of else"),
    ("I1", not_asked, turns(dispatched=True), "turn never reached the provider"),
    ("I1", not_asked, plus("calls", a_call()), "turn cost 1 provider calls, 0 consented to"),
    # one sequence
    ("I2", completed, reads(pieces=(Piece(0, OTHER),)), "caller got other bytes at 0"),
    ("I2", completed, reads("tab", pieces=pieces(0, 1, 3, 4, 5, 6, 7)), "tab got nothing of bytes 18 to 27"),
    ("I2", completed, reads("tab", pieces=pieces(1, 2, 3, 4, 5, 6, 7)), "tab got nothing of bytes 0 to 9"),
    ("I2", completed, reads("tab", pieces=pieces(0, 1, 1, *range(2, 8))), "tab got byte 9 again after 18"),
    ("I2", completed, reads("tab", pieces=pieces(1, 0, *range(2, 8)), at=9), "tab got byte 0 again after 18"),
    ("I2", completed, reads("device", at=0, pieces=(Piece(0, BODY),)), "device asked for byte 36 and got those from 0"),
    ("I2", completed, reads("device", pieces=(Piece(HALF + 1, BODY[HALF + 1 :]),)), "device got nothing of bytes 36"),
    ("I2", completed, reads("who left", pieces=(Piece(0, b"data: 9"),)), "who left got other bytes"),
    ("I2", completed, reads(stream=""), "caller got 72 bytes of no stream"),
    ("I2", completed, reads(stream="", pieces=(), end=End.CUT), "caller got 0 bytes of no stream"),
    ("I2", completed, records("worker 2", payload={1: BODY[:HALF]}), "worker 2 has 36 of 72 bytes of S"),
    ("I2", completed, records("worker 2", payload={1: OTHER}), "worker 2 has other bytes in S"),
    # byte-exact
    ("I3", completed, calls(sent=BODY + b"data: more\n\n"), "S completed with 72 bytes that no call"),
    ("I3", completed, calls(sent=OTHER), "S completed with 72 bytes"),
    ("I3", completed, both(records(payload={}), minus("reads")), "S completed with 0 bytes"),
    ("I3", completed, both(records(payload={1: b""}), minus("reads")), "S completed with 0 bytes"),
    ("I3", completed, both(records(payload={1: DROPPED}), minus("reads")), "S completed with 71 bytes"),
    ("I3", truncated, calls(sent=OTHER), "S, segment 1, is not what a call of turn sent"),
    ("I3", truncated, calls(sent=BODY[: HALF - 1]), "S, segment 1, is not what"),
    ("I3", failed_over, both(records(payload={1: BODY[:HALF], 2: BODY[HALF:]}), minus("reads")), "S completed with 36"),
    ("I3", completed, both(calls(refused=True, status=500), turns(calls=0)), "S completed with 72 bytes"),
    # nothing lost
    ("I4", truncated, reads(pieces=(Piece(0, BODY[: HALF + SIZE]),)), "caller saw 45 bytes of S, of which 36 are left"),
    ("I4", truncated, reads("tab", pieces=pieces(0, 1, 2, 3, 4)), "tab saw 45 bytes"),
    ("I4", completed, plus("reads", a_read(stream="gone")), "caller saw 72 bytes of gone, of which 0 are left"),
    # one outcome
    ("I5", completed, records(state="streaming", outcome=""), "S of turn is still streaming, says worker 1"),
    ("I5", truncated, records(state="pending", outcome="", sealed_after_s=None), "S of turn is still pending"),
    ("I5", completed, records("worker 2", detail="other"), "says worker 1, completed (other) says worker 2"),
    ("I5", truncated, plus("records", a_record(asked="worker 2", outcome="stalled", payload={1: BODY[:HALF]})), "stal"),
    ("I5", completed, records("worker 2", payload={1: BODY[:HALF]}), "S ended elsewhere, says worker 1"),
    ("I5", truncated, turns(outcomes=frozenset({"stalled"})), "turn is truncated (fin), not stalled"),
    ("I5", not_asked, turns(outcomes=frozenset({"completed"})), "turn has no outcome"),
    ("I5", completed, both(minus("records"), minus("reads"), minus("heard")), "turn has no outcome"),
    ("I5", truncated, reads(end=End.CLEAN), "caller got a clean end of S, which is truncated"),
    ("I5", truncated, reads("tab", end=End.CLEAN), "tab got a clean end"),
    ("I5", failed_over, reads(end=End.CLEAN), "caller got a clean end of S, which is completed"),
    ("I5", completed, reads(pieces=(Piece(0, BODY[:HALF]),)), "caller got the end of S at 36 of 72 bytes"),
    ("I5", completed, reads(pieces=(Piece(0, BODY[:-1]),)), "caller got the end of S at 71 of 72 bytes"),
    ("I5", completed, reads("device", pieces=()), "device got the end of S at 36 of 72 bytes"),
    ("I5", completed, reads("tab", pieces=pieces(*range(7))), "tab got the end of S at 63 of 72 bytes"),
    ("I5", truncated, reads("tab", pieces=pieces(0, 1)), "tab got the end of S at 18 of 36 bytes"),
    ("I5", completed, reads("tab", end=End.TOLD), "tab was told that S failed, which completed"),
    ("I5", truncated, reads("late", outcome="completed"), "late was told completed of S, which is truncated"),
    ("I5", truncated, reads("late", outcome=""), "late was told nothing of S, which is truncated"),
    ("I5", truncated, reads("tab", told="stalled"), "tab was told stalled of S, which is truncated"),
    ("I5", truncated, reads("tab", told="stalled", outcome="truncated"), "tab was told stalled of S"),
    ("I5", truncated, reads("tab", outcome="stalled"), "tab was told stalled of S"),
    ("I5", truncated, reads(status=500, pieces=(), end=End.CUT), "caller got 500, which is no outcome"),
    ("I5", truncated, reads(status=502, pieces=(), outcome="stalled"), "caller was told stalled"),
    ("I5", provider_failed, reads(outcome="truncated"), "caller was told truncated"),
    ("I5", completed, reads("afterwards", end=End.CUT), "afterwards, which nothing disturbed, got no end of S"),
    ("I5", completed, reads("afterwards", status=0, pieces=(), end=End.CUT), "got no end of S, but 0"),
    ("I5", completed, reads("afterwards", status=500, pieces=()), "got no end of S, but 500"),
    ("I5", truncated, reads("tab", end=End.CUT, undisturbed=True), "tab, which nothing disturbed, got no end of S"),
    ("I5", provider_failed, reads("late", end=End.CUT), "late, which nothing disturbed, got no end"),
    ("I5", completed, heard(text="nothing of it"), "sdk heard what turn never said"),
    ("I5", completed, heard(text="all of"), "sdk took turn, cut short, for complete"),
    ("I5", truncated, heard(finished=True, text="all of it"), "sdk took turn, cut short, for complete"),
    # stops
    ("I6", completed, calls(disconnected=True), "call 1 of turn was left by its client"),
    ("I6", truncated, calls(disconnected=True), "call 1 of turn was left by its client"),
    ("I6", cancelled, turns(stoppable=False), "call 1 of turn was left by its client"),
    ("I6", cancelled, calls(disconnected=False, ended_s=None), "S is cancelled, and call 1 of turn goes on"),
    ("I6", truncated, calls(ended_s=None), "S is truncated, and call 1 of turn goes on"),
    # dead drains
    ("I7", truncated, records(sealed_after_s=20.5), "S was sealed 20.5 s after the fault"),
    ("I7", completed, records("worker 2", sealed_after_s=60), "S was sealed 60.0 s after the fault"),
    # memory
    ("I8", completed, grown(2001), "worker 2 grew by"),
    ("I8", truncated, grown(2**30), "worker 2 grew by 1048576 kB"),
    # secrets
    ("I9", completed, traced(b"authorization: secret\n"), "secret is in streams.db"),
    ("I9", completed, traced(b"\x00\xffsecret\x00"), "secret is in streams.db"),
    # strangers
    ("I10", completed, probes(foreign=(403, b"not yours")), "GET of S answers a stranger (403"),
    ("I10", completed, probes(foreign=(404, b"no such stream of yours")), "GET of S answers a stranger (404"),
    ("I10", completed, probes(foreign=(200, b""), unknown=(200, b"")), "GET of S lets a stranger in: 200"),
    ("I10", completed, plus("listings", Listing("S", b'{"streams": [{"id": "S"}]}')), "S is in a stranger's list"),
    # silence
    ("live", completed, reads(silence_s=20.1), "caller heard nothing for 20.1 s"),
    ("live", completed, reads(end=End.OPEN), "caller has got no end after 1.0 s"),
    ("live", truncated, reads("late", silence_s=300), "late heard nothing for 300.0 s"),
]


def told(module: Any, invariant: str, history: History, complaint: str) -> bool:
    return any(found.invariant == invariant and complaint in found.what for found in module.check(history))


@pytest.mark.parametrize(("invariant", "good", "change", "complaint"), BAD, ids=[f"{b[0]}-{b[3]}" for b in BAD])
def test_bad_histories_are_rejected(
    invariant: str, good: Callable[[], History], change: Change, complaint: str
) -> None:
    """By the rule of that invariant, in these words; no other rule is needed for it."""
    history = good()
    change(history)
    assert told(checker, invariant, history, complaint), checker.check(history)


def test_every_rule_has_bad_histories() -> None:
    kinds = [invariant for invariant, *_ in BAD]
    assert {rule: kinds.count(rule) for rule in checker.RULES if kinds.count(rule) < 2} == {}


# --- the table is enough: without any one check, some bad history passes ----------------------------------------------

SOURCE = Path(checker.__file__).read_text(encoding="utf-8")


def _checks(tree: ast.AST) -> list[ast.Expr]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield | ast.YieldFrom)
    ]


def _without(number: int) -> types.ModuleType:
    """The checker with one of its complaints taken out."""
    tree = ast.parse(SOURCE)
    _checks(tree)[number].value = ast.Constant(None)
    module = types.ModuleType("chaos.mutant")
    module.__package__ = "chaos"
    # A function without any `yield` is no generator: keep one that is never reached.
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "Iterator" in ast.unparse(node.returns or ast.Constant(None)):
            node.body.append(ast.parse("if False: yield ''").body[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "chaos.mutant", module)  # where dataclasses look
        exec(compile(ast.fix_missing_locations(tree), "mutant", "exec"), module.__dict__)
    return module


def _survives(mutant: types.ModuleType) -> Iterator[str]:
    for invariant, good, change, complaint in BAD:
        history = good()
        change(history)
        if not told(mutant, invariant, history, complaint):
            yield complaint


@pytest.mark.parametrize(
    "number", range(len(_checks(ast.parse(SOURCE)))), ids=lambda n: f"line {_checks(ast.parse(SOURCE))[n].lineno}"
)
def test_no_check_can_be_left_out(number: int) -> None:
    """With any one complaint taken out of the checker, a bad history of the table passes."""
    assert list(_survives(_without(number)))
