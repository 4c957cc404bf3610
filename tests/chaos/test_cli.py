"""The command line: what it plays, says and writes, and how it exits."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from chaos.checker import Violation
from chaos.junit import junit
from chaos.page import page
from chaos.process import Process
from chaos.scenario import Verdict
from chaos.suite import Played, soak

DEADLINE_S = 50
PROC = Path("/proc")
CELL = "caller-killed@sqlite-asyncio"


def chaos(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


def test_list_names_all() -> None:
    done = chaos("list")
    assert done.returncode == 0
    assert "caller-killed" in done.stdout
    assert "sqlite-trio" in done.stdout


def test_run_plays_and_reports(tmp_path: Path) -> None:
    page, xml = tmp_path / "page.html", tmp_path / "junit.xml"
    where = ["--configuration", "sqlite-asyncio", "--configuration", "memory-trio"]
    done = chaos("run", "caller-killed", *where, "--html", str(page), "--junit", str(xml))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held" in done.stdout
    assert CELL in done.stdout
    assert "2 of 2 held" in done.stdout
    suite = ET.fromstring(xml.read_text())
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "0")
    assert {case.attrib["classname"] for case in suite} == {"sqlite-asyncio", "memory-trio"}
    text = page.read_text()
    assert text.count("class='held'>held") == 2


def test_replay_plays_one() -> None:
    done = chaos("replay", CELL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[0] == "held"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no-such"], "no scenario is called no-such"),
        (["run", "--configuration", "no-such"], "no configuration is called no-such"),
        (["run", "buffer-killed", "--configuration", "memory-trio"], "nothing to play"),
        (["run", "buffer-killed", "--target", "http://127.0.0.1:1/llm"], "nothing to play"),
        (["replay", "no-such@sqlite-trio"], "not a cell"),
        (["replay", "no-such"], "not a schedule"),
    ],
)
def test_what_there_is_not_is_refused(arguments: list[str], words: str) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert words in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "0"],
        ["--minutes", "-1"],
        ["--html", "/no/such/folder/page.html"],
        ["--junit", "/no/such/folder/junit.xml"],
        ["--target", "127.0.0.1:1/llm"],
        ["--target", "http://127.0.0.1:1/llm"],
        ["--target", "http://127.0.0.1:1/llm", "--campaign", "1"],
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments: list[str]) -> None:
    done = chaos("run", "caller-killed", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_server_nothing_runs(tmp_path: Path) -> None:
    done = chaos("run", "caller-killed", TOXIPROXY_SERVER=str(tmp_path / "missing"))
    assert done.returncode == 2
    assert "no toxiproxy-server" in done.stdout


def test_a_soak_ends_in_time_and_plays_schedules_too() -> None:
    done = chaos("run", "--minutes", "0.02", "--configuration", "sqlite-asyncio", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "random schedules" in done.stdout


def test_a_soak_takes_all_cells_before_one_again() -> None:
    cells = ["a", "b", "c"]
    drawn = soak(cells, 60, 1, schedules=False)
    rounds = [{next(drawn) for _ in cells} for _ in range(5)]
    assert all(each == {*cells} for each in rounds)
    assert list(soak(cells, -1, 1, schedules=True)) == []


def test_a_server_that_somebody_else_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "resumestream", "serve", "--port", "0", "--store", str(tmp_path / "streams.db")]
    upstream = f"main=http://127.0.0.1:{port}"
    with Process([*command, "--upstream", upstream], tmp_path / "serve.log") as server:
        url = server.wait_for(r"serving (http://\S+)")[0][1]
        done = chaos("run", "caller-killed", "second-tab", "--target", url, "--port", str(port))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"must have upstream `main` at http://127.0.0.1:{port}" in done.stdout
        assert "2 of 2 held" in done.stdout
        again = chaos("replay", "second-tab@elsewhere", "--target", url, "--port", str(port))
        assert again.returncode == 0, again.stdout + again.stderr


# --- however a run ends, it leaves nothing ----------------------------------------------------------------------------

SOAK = ["run", "--minutes", "5"]
CAMPAIGN = ["run", "caller-killed", "--configuration", "sqlite-asyncio", "--campaign", "5"]
SERVES = re.compile(r"(?i)(?:running on|serving) http://127\.0\.0\.1:(\d+)")


def serving(folder: Path) -> set[int]:
    """The ports of what has been started."""
    return {int(port) for log in folder.glob("chaos-*/*.log") for port in SERVES.findall(log.read_text())}


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), DEADLINE_S):
        return True
    return False


def marked(mark: str) -> list[str]:
    """The commands of all processes that have it in their environment, where the system tells."""
    found = []
    for each in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (each / "environ").read_bytes().split(b"\0"):
                found.append((each / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    ("arguments", "at_once", "number", "code"),
    [
        (["replay", CELL], 1, signal.SIGTERM, 130),
        (["replay", CELL], 1, signal.SIGINT, 130),
        (SOAK, 2, signal.SIGTERM, 130),
        (SOAK, 2, signal.SIGINT, 130),
        (SOAK, 2, signal.SIGKILL, -signal.SIGKILL),
        (CAMPAIGN, 2, signal.SIGTERM, 130),
    ],
)
def test_a_run_that_is_stopped_leaves_nothing(
    arguments: list[str], at_once: int, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """No process and no folder; killed, it cannot see to that itself, and its players do."""
    command = [sys.executable, "-m", "chaos", *arguments]
    mark = f"TMPDIR={tmp_path}"
    begun = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while len(ports := serving(tmp_path)) < 2 * at_once:  # a provider and a worker each
            assert time.monotonic() < deadline, ports
            time.sleep(0.01)  # a log file and a process table tell of no event; so below
        assert len(marked(mark)) > 3 or not PROC.exists()
    finally:
        begun.send_signal(number)
    assert begun.wait(DEADLINE_S) == code
    while number is signal.SIGKILL and list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not list(tmp_path.iterdir())
    assert not [port for port in ports if listens(port)]
    while left := marked(mark):  # who has nobody left ends in its own time
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


# --- the page --------------------------------------------------------------------------------------------------------


def played(code: str, *violations: str) -> Played:
    scenario, _, configuration = code.partition("@")
    found = tuple(Violation("I1", what) for what in violations)
    verdict = Verdict(scenario=scenario, configuration=configuration, violations=found, seconds=1.25, calls=1)
    return Played(code, verdict, "/logs" if violations else "")


def test_the_page_needs_nothing_else() -> None:
    """No address, script or file of anybody; and what is quoted is quoted."""
    cells = [played("one@a"), played("one@b", "<script>alert()</script>"), played("sqlite,hold.1,none")]
    text = page(cells, {"one": "What it is."}, seconds=3, tested="<b>")
    assert not re.findall(r"(?:src|href)=|https?://|<script|<link|@import|url\(", text)
    assert "&lt;script&gt;" in text
    assert "python -m chaos replay one@b" in text
    assert "1.2 s · 1 call" in text
    assert "2 of 3 held" in text


def test_junit_is_xml_whatever_is_quoted() -> None:
    told = "\x1b[31mred\x00\ud800 <&> é\n"
    suite = ET.fromstring(junit([played("one@a", told), played("one@b")]))
    assert [suite.get("tests"), suite.get("failures")] == ["2", "1"]
    assert suite.findtext("testcase/failure") == "I1: \ufffd[31mred\ufffd\ufffd <&> é\n"


def test_the_page_shows_the_worst_of_a_cell() -> None:
    cells = [played("one@a"), played("one@a", "what"), played("one@a")]
    text = page(cells, {"one": ""}, seconds=3, tested="")
    assert "FAILED" in text
    assert "played 3×" in text
