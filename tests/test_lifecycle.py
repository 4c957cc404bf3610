"""The transition table is whole, its endings are the outcomes, and what is not in it changes nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumestream.lifecycle import ENDINGS, TRANSITIONS, IllegalMove, Moved, allows, move
from resumestream.model import Gone, NewStream, Outcome, Seal, State, StreamId, StreamInfo

NEW = NewStream(StreamId("s"), "p", "openai", "w", created_at=1.0, retain_s=60, tombstone_s=600)

LEGAL = {
    (State.PENDING, Moved.BYTES_LOGGED, State.STREAMING),
    (State.STREAMING, Moved.BYTES_LOGGED, State.STREAMING),
    *((state, ending, State.SEALED) for state in (State.PENDING, State.STREAMING) for ending in ENDINGS),
    (State.SEALED, Moved.PAYLOAD_DROPPED, State.EXPIRED),
}


def test_every_outcome_has_its_ending() -> None:
    """Outcomes and endings are one to one: no outcome without a way to it, no way to two."""
    assert sorted(ENDINGS.values()) == sorted(Outcome)
    assert set(Moved) - ENDINGS.keys() == {Moved.BYTES_LOGGED, Moved.PAYLOAD_DROPPED}


def test_the_table_is_whole() -> None:
    """Every state has its row, and the rows say what the design says, cell by cell."""
    assert TRANSITIONS.keys() == set(State)
    assert {(a, moved, b) for a, row in TRANSITIONS.items() for moved, b in row.items()} == LEGAL


@pytest.mark.parametrize(("state", "moved"), list(product(State, Moved)))
def test_a_move_is_in_the_table_or_illegal(state: State, moved: Moved) -> None:
    """What the table has happens, everything else raises and names state and move."""
    assert allows(state, moved) is (moved in TRANSITIONS[state])
    if moved in TRANSITIONS[state]:
        assert move(state, moved) is TRANSITIONS[state][moved]
    else:
        with pytest.raises(IllegalMove, match=f"{state}.*{moved}"):
            move(state, moved)


def recorded(info: StreamInfo, moved: Moved) -> StreamInfo:
    """What a store writes when this happens."""
    if moved is Moved.BYTES_LOGGED:
        return replace(info, tail=info.tail + 10, events=info.events + 1)
    if moved is Moved.PAYLOAD_DROPPED:
        return replace(info, gone=Gone.EXPIRED, gone_at=100.0)
    return replace(info, seal=Seal(ENDINGS[moved], "detail", "message", sealed_at=50.0))


@given(st.lists(st.sampled_from(Moved), max_size=30))
def test_walks(moves: list[Moved]) -> None:
    """On any walk the state derived from the record is the table's, an illegal move changes nothing, an outcome is
    there if and only if the stream ended, and the first outcome stays."""
    info, state = StreamInfo(NEW), State.PENDING
    outcomes: list[Outcome] = []
    for moved in moves:
        try:
            after = move(state, moved)
        except IllegalMove:
            assert (state, moved) not in {(a, by) for a, by, _ in LEGAL}
        else:
            info, state = recorded(info, moved), after
            outcomes += [ENDINGS[moved]] if moved in ENDINGS else []
        assert info.state is state
        assert info.sealed is (state in (State.SEALED, State.EXPIRED))
        assert [info.seal.outcome] * info.sealed == outcomes if info.seal else not outcomes
        assert info.completed is (outcomes == [Outcome.COMPLETED])
