"""The suite's own rules: a skip is a failure where all is required, and no test outlives its deadline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_pytest(where: Path, source: str, *options: str, require_all: bool = True) -> subprocess.CompletedProcess[str]:
    """Run pytest on one test file under this suite's conftest and configuration."""
    shutil.copy(HERE / "conftest.py", where)
    shutil.copy(HERE.parent / "pyproject.toml", where)
    (where / "test_it.py").write_text("import pytest\n" + source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "test_it.py", "-p", "no:cacheprovider", *options]
    environment = os.environ | {"RESUMESTREAM_REQUIRE_ALL": "1" if require_all else "0"}
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=50)


IN_TESTS = """
def test_one(): pytest.skip('no network')
@pytest.mark.skip(reason='no network')
def test_two(): pass
"""
IN_MODULE = "pytest.importorskip('no_such_module')\ndef test_it(): pass"


@pytest.mark.parametrize(("source", "skips"), [(IN_TESTS, 2), (IN_MODULE, 1)], ids=["tests", "module"])
def test_a_skip_fails_where_all_is_required(source: str, skips: int, tmp_path: Path) -> None:
    """However a test is skipped, the run is red and shows the reason; without the switch it is a skip."""
    strict = run_pytest(tmp_path, source)
    assert strict.returncode != 0
    assert strict.stdout.count("skipped where nothing may be: ") >= skips
    assert f"{skips} skipped" not in strict.stdout
    assert f"{skips} skipped" in run_pytest(tmp_path, source, require_all=False).stdout


def test_listed_skips_and_expected_failures_stay(tmp_path: Path) -> None:
    """A reason in MAY_SKIP and an xfail are no surprise."""
    source = """
def test_recording(): pytest.skip('shared recordings are not here')
@pytest.mark.xfail(reason='known')
def test_known(): assert False
"""
    assert "1 skipped, 1 xfailed" in run_pytest(tmp_path, source).stdout


@pytest.mark.parametrize(
    "body",
    [
        "def test_blocks(): time.sleep(1000)",
        "@pytest.mark.anyio\nasync def test_waits(): await anyio.sleep_forever()",
        "def test_leaves_a_thread(): threading.Thread(target=threading.Event().wait).start()",
        "def test_is_deaf():\n while True:\n  try: time.sleep(1000)\n  except BaseException: pass",
    ],
    ids=["blocks", "waits", "leaves a thread", "is deaf"],
)
def test_no_test_hangs(body: str, tmp_path: Path) -> None:
    """Whatever a test waits in, even if it swallows the first deadline, the run ends and is red."""
    source = f"import anyio, threading, time\n{body}\n"
    done = run_pytest(tmp_path, source, "--timeout=0.3", "-o", "faulthandler_timeout=2")
    assert done.returncode != 0
    assert "Timeout (" in done.stdout + done.stderr
