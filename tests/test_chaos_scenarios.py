"""The table of chaos scenarios, and what its steps see and draw: without a server. `nox -s chaos` plays them."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from chaos.dialects import BLOCK, PATHS, Dialect, error_in
from chaos.history import End
from chaos.process import Failed
from chaos.reader import Reader, Request
from chaos.scenario import Scenario, Verdict
from chaos.scenarios import FAMILIES, SCENARIOS
from chaos.server import CONFIGURATIONS, EMBEDDED, Configuration, Options, Target
from chaos.stage import Between, Stage
from chaos.suite import Played, parsed
from resumestream.framing import with_id
from resumestream.testing.provider import Script
from resumestream.testing.provider.plan import plan

STORYBOARD = ["caller-killed", "second-tab", "upstream-cut", "buffer-killed"]
EDGES = [f"edge-{number}-" for number in range(1, 9)]
CELLS = [(name, cell) for name, scenario in SCENARIOS.items() for cell in scenario.configurations()]

# --- the table -------------------------------------------------------------------------------------------------------


def test_every_name_is_one_scenarios() -> None:
    assert len(SCENARIOS) == sum(map(len, FAMILIES.values()))


def test_the_storyboard_is_played_everywhere() -> None:
    for name in STORYBOARD:
        durable = 2 if SCENARIOS[name].durable else 0
        assert len(SCENARIOS[name].configurations()) == len(CONFIGURATIONS) - durable


@pytest.mark.parametrize("edge", EDGES)
def test_each_open_edge_has_its_scenario(edge: str) -> None:
    assert [name for name in SCENARIOS if name.startswith(edge)]


def test_the_table_is_broad_and_bounded() -> None:
    """Within what a CI run can play, and no store, loop or dialect is left to chance."""
    assert 150 <= len(CELLS) <= 250
    counted = Counter(value for _, cell in CELLS for value in (cell.store, cell.loop, cell.dialect))
    assert set(counted) == {"memory", "sqlite", "filesystem", "asyncio", "trio", *PATHS}
    assert min(counted.values()) >= 30


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_a_row_is_played_on_every_store_and_both_loops(scenario: Scenario) -> None:
    cells = scenario.configurations()
    assert {cell.store for cell in cells} == {"sqlite", "filesystem"} | (set() if scenario.durable else {"memory"})
    assert {cell.loop for cell in cells} == {"asyncio", "trio"}
    assert {cell.dialect for cell in scenario.configurations(thorough=True)} == set(scenario.dialects)
    assert all(cell in scenario.configurations(thorough=True) for cell in cells)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_what_must_be_written_down_is_played_on_a_store_that_lasts(scenario: Scenario) -> None:
    """Two workers share no memory, and a killed one leaves none."""
    names = {type(step).__name__ for step in scenario.steps}
    assert scenario.durable or (scenario.workers == 1 and not names & {"Kill", "Stop", "Terminate", "FillDisk"})


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_a_cells_code_has_its_dialect(scenario: Scenario) -> None:
    """What is played by its code is the cell of the table, and not that store and loop with some dialect."""
    for cell in scenario.configurations():
        assert parsed(f"{scenario.name}@{cell}", EMBEDDED) == (scenario, cell)


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("caller-killed@elsewhere", EMBEDDED),
        ("caller-killed@sqlite-trio", Target(url="http://127.0.0.1:1")),
        ("buffer-killed@elsewhere", Target(url="http://127.0.0.1:1")),
        ("buffer-killed@memory-trio", EMBEDDED),
    ],
)
def test_what_is_played_elsewhere_or_nowhere_is_no_cell_here(code: str, target: Target) -> None:
    with pytest.raises(ValueError, match="not a cell"):
        parsed(code, target)


def test_no_random_schedule_is_played_elsewhere() -> None:
    with pytest.raises(ValueError, match="that somebody else runs"):
        parsed("sqlite-trio,hold.1,none", Target(url="http://127.0.0.1:1"))


def test_a_replay_names_its_target() -> None:
    verdict = Verdict(scenario="one", configuration="elsewhere", seconds=1)
    elsewhere = Played("one@elsewhere", verdict, target=Target(url="http://127.0.0.1:1/llm", port=99))
    assert elsewhere.replay == "python -m chaos replay one@elsewhere --target http://127.0.0.1:1/llm --port 99"


# --- what a cell draws -----------------------------------------------------------------------------------------------


def test_a_cell_draws_the_same_numbers_each_time(tmp_path: Path) -> None:
    def drawn(seed: str) -> list[object]:
        stage = Stage(tmp_path, Configuration("memory", "trio"), Options(), seed=seed)
        return [stage.draw(Between(0, 10**9)), stage.draw({"at_byte": Between(0, 10**9), "fault": "fin"})]

    assert drawn("one") == drawn("one") != drawn("other")
    assert drawn("one")[1] != {"at_byte": Between(0, 10**9), "fault": "fin"}


def test_who_comes_when_all_is_over_is_refused(tmp_path: Path) -> None:
    """What went on in the background of a scenario does not get at the servers of the next one."""
    stage = Stage(tmp_path, Configuration("memory", "trio"), Options())
    stage._leave()
    with pytest.raises(Failed, match="late came too late"):
        stage.begin("late", 1, Request(turn="turn", path="/"))


# --- what is seen of an answer ---------------------------------------------------------------------------------------


def _answer(dialect: Dialect, script: Script) -> bytes:
    return plan(script, 1, "POST", PATHS[dialect], b'{"stream": true}', None, {}).body


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_a_providers_own_error_is_known(dialect: Dialect) -> None:
    whole = BLOCK.findall(_answer(dialect, Script(tokens=3)))
    *begun, failed = BLOCK.findall(_answer(dialect, Script(tokens=3, error_at=4)))
    assert not any(map(error_in, [*whole, *begun]))
    assert error_in(failed)


@contextmanager
def _answering(body: bytes, *, whole: bool = True) -> Iterator[str]:
    """A server of one answer."""
    head = f"HTTP/1.1 200 OK\r\nstream-id: s\r\ncontent-length: {len(body) + (not whole)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(head + body)


def _read(body: bytes, *, events: bool = False, whole: bool = True) -> Reader:
    request = Request(turn="turn", path="/", form="events" if events else "bytes")
    with _answering(body, whole=whole) as url:
        reader = Reader("reader", url, request)
    return reader.join()


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_events_are_put_back_where_they_lie(dialect: Dialect) -> None:
    """Whatever line ends the provider has, an id is taken out again."""
    payload, sent, at = _answer(dialect, Script(tokens=3)), b"", 0
    for block in BLOCK.findall(payload):
        at += len(block)
        sent += with_id(block, f"{at:016}".encode())
    read = _read(sent, events=True).read()
    assert b"".join(piece.data for piece in read.pieces) == payload
    assert [piece.at for piece in read.pieces[1:]] == [piece.end for piece in read.pieces[:-1]]


@pytest.mark.parametrize(
    ("body", "whole", "end"),
    [
        (b"data: 1\n\n", True, End.CLEAN),
        (b"data: 1\n\n", False, End.CUT),
        (b"data: 1\n\nretry: 1000\n\n", True, End.CUT),
        (b"data: 1\n\nevent: resumestream.end\ndata: {}\nid: 9.end\n\n", True, End.TOLD),
        (b"data: 1\n\ndata: " + json.dumps({"error": {"message": "x"}}).encode() + b"\n\n", True, End.TOLD),
    ],
)
def test_how_an_answer_ended(body: bytes, whole: bool, end: End) -> None:
    assert _read(body, events=True, whole=whole).read().end is end
