"""What the pages tell people to type exists, options and all; what they show of JSON and HTTP parses."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from docs.commands import COMMANDS

from .command import environment
from .pages import GUIDES, PAGES, REPOSITORY, blocks, commands, named, text

OWN = ("resumestream", "chaos")
"""Packages whose modules pages have people run."""
DEADLINE_S = 60


def check(words: list[str]) -> None:
    """Raises what the command line itself would say of these words."""
    program, *args = words
    match program.rpartition("/")[2], args:
        case "resumestream", [name, *rest]:
            COMMANDS[name].make_context(name, rest)
        case "pytest", [file, "-k", part]:
            assert part in "".join(re.findall(r"def (test_\w+)", text(REPOSITORY / file)))
        case "uvicorn", rest:
            import_module("uvicorn.main").main.make_context("uvicorn", rest)
        case (("python" | "python3"), ["-m", "resumestream", name, *rest]):
            COMMANDS[name].make_context(name, rest)
        case (("python" | "python3"), ["-m", module, *rest]) if module.partition(".")[0] in OWN:
            known = helped(module, *([rest[0]] if rest and re.fullmatch("[a-z]+", rest[0]) else []))
            assert [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known] == []
        case _:
            pass


@functools.cache
def helped(module: str, *command: str) -> frozenset[str]:
    """The options that a module's help names; a word that is no command of it is an argument."""
    for words in [command, ()]:
        told = subprocess.run(
            [sys.executable, "-m", module, *words, "--help"],
            capture_output=True, text=True, timeout=DEADLINE_S, cwd=REPOSITORY, env=environment(),
        )  # fmt: skip
        if told.returncode == 0:
            return frozenset(re.findall(r"(?<![\w-])--?[a-z][\w-]*", told.stdout))
    raise AssertionError(f"python -m {module} --help: {told.stderr}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist(page: Path) -> None:
    """Every command in a shell block, with its options and the form of their values; every nox session."""
    noxfile = ast.parse((REPOSITORY / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert set(re.findall(r"nox -s (\w+)", text(page))) <= sessions
    for words in commands(page):
        check(words)


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_commands_in_sentences_exist(page: Path) -> None:
    """`resumestream serve --workers N` in prose: the command, and every option by its name."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", text(page))
    for name, rest in re.findall(r"`resumestream ([a-z]+)\b([^`]*)`", prose):
        known = {option for param in COMMANDS[name].params for option in param.opts}
        assert [option for option in re.findall(r"--[a-z-]+", rest) if option not in known] == [], name


@pytest.mark.parametrize(
    "words",
    [
        ["resumestream", "serv"],
        ["resumestream", "serve", "openai", "--worker", "2"],
        ["resumestream", "serve", "openai", "--workers", "two"],
        [".venv/bin/resumestream", "usage", "--by", "colour"],
        [".nox/tests/bin/pytest", "tests/test_gateway.py", "-k", "redirection"],
        ["uvicorn", "app:app", "--timeout-gracefull-shutdown", "5"],
        ["python", "-m", "resumestream.testing.provider", "--sport", "1"],
        ["python", "-m", "resumestream.conformanse", "http://127.0.0.1:1"],
    ],
)
def test_what_does_not_exist_is_found(words: list[str]) -> None:
    """A typo in a command, an option or a value."""
    with pytest.raises(Exception, match=r"."):
        check(words)


# --- what is shown ---------------------------------------------------------------------------------------------------

_REQUEST_LINE = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /\S* HTTP/1\.1")
_STATUS_LINE = re.compile(r"HTTP/1\.1 [1-5]\d\d( [A-Z][\w' -]*)?")
_HEADER = re.compile(r"[A-Za-z][\w-]*: \S.*")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_shown_parses(page: Path) -> None:
    """JSON blocks are JSON; HTTP blocks are messages: a first line, headers, and after an empty line the body."""
    for block in blocks(page, "json"):
        json.loads(block.text)
    for block in blocks(page, "http"):
        assert why_no_message(block.text) is None, block


def why_no_message(shown: str) -> str | None:
    """The line of an HTTP block's head that is wrong."""
    first, *headers = shown.partition("\n\n")[0].splitlines()
    if not (_REQUEST_LINE.fullmatch(first) or _STATUS_LINE.fullmatch(first)):
        return first
    return next((line for line in headers if not _HEADER.fullmatch(line)), None)


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ("GET /streams/x HTTP/1.1\nLast-Event-ID: 0000000000000007\n", None),
        ("HTTP/1.1 200 OK\nStream-Id: x\n\ndata: 1\n", None),
        ("HTTP/1.1 404 Not Found\nContent-Length 0\n", "Content-Length 0"),
        ("GET streams\n", "GET streams"),
    ],
)
def test_what_is_no_message_is_found(shown: str, wrong: str | None) -> None:
    """The check itself."""
    assert why_no_message(shown) == wrong


# --- Python that does not run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_examples_are_possible(page: Path) -> None:
    """Every Python block parses, also where it does not run, and every name that it imports from the package exists."""
    for block in blocks(page, "python", "py"):
        tree = compile(block.text, str(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resumestream"):
                module = import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], block
