"""`resumestream demo`: what it claims is measured, and it says so when a promise breaks."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from resumestream.cli.report import Billed, Figures, Received, checks, scoreboard

from .command import command, environment, started

DEMO_S = 50


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The demo's temporary files go here; whatever it leaves, and whatever runs on, is found."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert processes_naming(str(tmp_path)) == []


def processes_naming(text: str) -> list[int]:
    """Processes that have it in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text in (entry / "cmdline").read_text(errors="replace"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_the_demo_holds(temporary: Path) -> None:
    """It ends well, its figures agree with each other, and nothing of it is left."""
    done = subprocess.run(command("demo", "--exit"), env=environment(), capture_output=True, text=True, timeout=DEMO_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert "BROKEN" not in done.stdout
    assert len(re.findall(r"^ok ", done.stdout, re.MULTILINE)) == 8
    assert "kill -9" in done.stdout
    calls, prompt, output = (
        [int(figure) for figure in re.findall(r"\d+", line)]
        for line in re.findall(r"^(?:provider calls|prompt tokens|output tokens) .*", done.stdout, re.MULTILINE)
    )
    assert calls == [1, 2]
    assert prompt[1] == 2 * prompt[0]
    assert output[0] < output[1] < 2 * output[0]
    assert len(set(re.findall(r"sha256 (\w+) == \1 as sent", done.stdout))) == 2  # the killed caller's, and the whole


def test_a_broken_off_demo_leaves_nothing(temporary: Path) -> None:
    """Ctrl-C in the middle ends every process and removes every file; the exit code is the shell's own."""
    with started("demo", "--exit") as demo:
        while b"caller 1  60 of" not in demo.stdout:
            demo.wait_for_out(len(demo.stdout) + 1)
        demo.send(signal.SIGINT)
        assert demo.end(within_s=10) == 128 + signal.SIGINT
        assert "Traceback" not in demo.stderr


def test_in_a_terminal_it_stays(temporary: Path) -> None:
    """There it shows bars, then what to try by hand, until Ctrl-C, which is no failure by then."""
    ours, theirs = pty.openpty()
    env = {**environment(), "TERM": "xterm-256color", "COLUMNS": "120"}
    demo = subprocess.Popen(command("demo"), env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        os.close(theirs)
        seen = b""
        while b"resumestream ls --store" not in seen:
            seen += os.read(ours, 65536)
        assert "━".encode() in seen
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 0
    finally:
        demo.kill()
        demo.wait(10)
        os.close(ours)


def test_it_says_what_failed(temporary: Path) -> None:
    """A server that cannot start is told with its own words, and is a failure."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("demo", "--exit", "--port", port), env=environment(), capture_output=True, text=True, timeout=DEMO_S
        )
    assert done.returncode == 1
    assert f"cannot listen on http://127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


# --- the report ------------------------------------------------------------------------------------------------------

WHOLE = Received(events=183, bytes=900, sha256="whole", seconds=1.0, replayed=True, whole=True)
GOOD = Figures(
    scripted_tokens=180,
    killed=Received(events=70, bytes=300, sha256="part", seconds=0.5),
    kill_code=-9,
    expected_kill_code=-9,
    log_at_kill=70,
    log_unread=110,
    resumed=WHOLE,
    replay=WHOLE,
    calls=1,
    billed_at_kill=Billed(prompt=10, output=69),
    billed=Billed(prompt=10, output=180),
    sent_bytes=900,
    sent_sha256="whole",
    sent_before_kill_sha256="part",
    outcome="completed",
)


def shown(figures: Figures) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(scoreboard(figures))
    return capture.get()


def test_a_good_run_holds() -> None:
    """All promises hold, and the bill of a plain retry is what was lost plus all of it again."""
    assert all(check.held for check in checks(GOOD))
    assert GOOD.plain_retry == Billed(prompt=20, output=249)
    assert "All of it held" in shown(GOOD)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"kill_code": 0}, 0),
        ({"killed": replace(GOOD.killed, whole=True)}, 0),
        ({"killed": replace(GOOD.killed, events=183)}, 0),
        ({"log_unread": 70}, 1),
        ({"calls": 2}, 2),
        ({"billed": Billed(prompt=10, output=249)}, 3),
        ({"billed": Billed(prompt=20, output=180)}, 3),
        ({"sent_before_kill_sha256": "other"}, 4),
        ({"resumed": replace(WHOLE, replayed=False)}, 5),
        ({"resumed": replace(WHOLE, whole=False)}, 5),
        ({"resumed": replace(WHOLE, sha256="other")}, 5),
        ({"resumed": replace(WHOLE, bytes=899)}, 5),
        ({"replay": replace(WHOLE, sha256="other")}, 6),
        ({"replay": replace(WHOLE, whole=False)}, 6),
        ({"outcome": "truncated"}, 7),
    ],
)
def test_a_broken_promise_is_told(change: dict[str, Any], broken: int) -> None:
    """Each figure that is not as promised breaks its promise, in the report as well."""
    figures = replace(GOOD, **change)
    assert not list(checks(figures))[broken].held
    report = shown(figures)
    assert "BROKEN" in report
    assert "did not hold" in report
    assert "All of it held" not in report
