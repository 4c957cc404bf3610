"""The command: what it prints and writes, and how it exits."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resumestream.conformance.context import Context, Setting
from resumestream.conformance.exchange import Address
from resumestream.conformance.report import junit
from resumestream.conformance.verdicts import Result
from resumestream.testing.provider import Script, ScriptedProvider
from resumestream.testing.running import running

from .conformance.reference import reference

DEADLINE_S = 60


def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resumestream.conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def served() -> Iterator[list[str]]:
    """The reference server; gives the arguments of a run against it."""
    port = free_port()
    with running(reference(f"http://127.0.0.1:{port}", "memory:")) as url:
        yield [f"{url}/llm", "--upstream-port", str(port)]


def test_what_holds_is_told_and_written(tmp_path: Path) -> None:
    xml = tmp_path / "junit.xml"
    with served() as arguments:
        done = conformance(*arguments, "RS-GW-01", "over", "--junit", str(xml))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 0 failed" in done.stdout, done.stdout
    assert "the level failover was not asked for" in done.stdout
    assert f"main       http://127.0.0.1:{arguments[2]}" in done.stdout
    assert "segments" not in done.stdout
    suite = ET.fromstring(xml.read_text())
    assert int(suite.attrib["tests"]) == len(suite) > 1
    assert (suite.attrib["failures"], int(suite.attrib["skipped"])) == ("0", len(suite) - 1)
    assert {case.attrib["classname"] for case in suite} == {"GW", "OVER"}


def test_what_fails_is_told_and_written(tmp_path: Path) -> None:
    """A declared limit that the server does not have is what fails here."""
    xml = tmp_path / "junit.xml"
    with served() as arguments:
        done = conformance(*arguments, "RS-SSE-11", "--limit", "keepalive_s=0.02", "--junit", str(xml))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 passed, 1 failed" in done.stdout
    (case,) = ET.fromstring(xml.read_text())
    (failure,) = case
    assert "?live=events: expected two comments or more; saw" in failure.attrib["message"]


def test_a_scripted_upstream_that_is_not_reached_is_told() -> None:
    with served() as arguments:
        done = conformance(*arguments[:2], str(free_port()))
    assert done.returncode == 2
    assert "did not come to the scripted upstream" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["URL", "RS-READ-99"], "no requirement and no area is called RS-READ-99"),
        (["URL", "--level", "core,most"], "no level is called 'most'; there is core, failover"),
        (["URL", "--limit", "patience_s=3"], "'patience_s' is no limit"),
        (["URL", "--limit", "stall_s=short"], "limit stall_s is 'short'"),
        (["URL", "--limit", "stall_s=nan"], "limit stall_s is 'nan'"),
        (["URL", "--limit", "stall_s=0"], "limit stall_s is '0'"),
        (["URL", "--upstream-port", "70000"], "cannot have port 70000"),
        (["URL", "--junit", "/nowhere/junit.xml"], "report cannot be written"),
        (["127.0.0.1:8787"], "is no URL of a server"),
        ([], "which server?"),
    ],
)
def test_what_there_is_not_is_refused(arguments: list[str], words: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = conformance(*[url if argument == "URL" else argument for argument in arguments])
    assert done.returncode == 2
    assert words in done.stderr


def test_nobody_there_is_told() -> None:
    done = conformance(f"http://127.0.0.1:{free_port()}", "--upstream-port", str(free_port()))
    assert done.returncode == 2
    assert "The server does not answer" in done.stderr


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = conformance("http://127.0.0.1:1", "--upstream-port", port)
    assert done.returncode == 2
    assert f"cannot have port {port}" in done.stderr


def test_what_the_server_said_is_told() -> None:
    """Where a wrong mount point answers, and not the upstream."""
    with served() as arguments:
        done = conformance(f"{arguments[0]}/elsewhere", *arguments[1:])
    assert done.returncode == 2
    assert "unknown-upstream" in done.stderr


def test_an_interrupted_run_ends() -> None:
    """No check begins after it, and those that run come to their end."""
    with served() as arguments:
        command = [sys.executable, "-m", "resumestream.conformance", *arguments, "GW", "KEY", "MATCH", "READ", "OFF"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            assert run.stdout
            while "passed" not in run.stdout.readline():
                assert run.poll() is None
            run.send_signal(signal.SIGINT)
            shown, said = run.communicate(timeout=DEADLINE_S)
    assert (run.returncode, said.strip()) == (130, "Interrupted.")
    assert "failed" not in shown


def test_nothing_is_left_behind() -> None:
    """Also where nobody looks at an answer; the caller leaves before the server has answered."""
    port = free_port()
    with running(reference(f"http://127.0.0.1:{port}", "memory:")) as url, ScriptedProvider(port=port) as provider:
        made = Setting(address=Address.parse(f"{url}/llm"), provider=provider, upstream_url=provider.url)
        ctx = Context(made)
        ctx.post(Script(tokens=5))
        ctx.upstream.wait_for(bool, "a call")
        ctx.clean_up()
        assert ctx.get("/streams").json()["streams"] == []
        ctx.clean_up()


def test_list_needs_no_server() -> None:
    done = conformance("http://127.0.0.1:1", "GW", "--list")
    assert done.returncode == 0
    assert done.stdout.startswith("RS-GW-01")
    assert all(line.startswith("RS-GW-") for line in done.stdout.splitlines())
    assert conformance("--list", "GW").stdout == done.stdout
    assert conformance("--list").stdout.count("\nRS-") > 100


def test_a_report_survives_what_no_xml_can_hold() -> None:
    said = "saw \x00 \x1b[31m \ud800 <&>\nand more"
    (case,) = ET.fromstring(junit([Result(id="RS-GW-01", verdict="failed", said=said)]).encode("utf-8"))
    assert case[0].attrib["message"] == "saw ? ?[31m ? <&>"
