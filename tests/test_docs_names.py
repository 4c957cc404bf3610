"""Nothing public is without a place in the docs, and they name nothing that is not there."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import resumestream
from docs.commands import COMMANDS
from resumestream import errors, ports, testing
from resumestream.errors import ResumeStreamError as BaseError
from resumestream.http.headers import UNCACHED
from resumestream.model import Outcome
from resumestream.policy import Policy
from resumestream.upstream import Upstream
from resumestream.upstream.config import KNOWN

from .pages import DOCS, PAGES, REPOSITORY, named, prose, text

REFERENCE = DOCS / "reference"
HTTP = REPOSITORY / "resumestream" / "http"

OTHERS = {
    *("idempotency-key", "x-idempotency-key", "last-event-id", "prefer"),
    *("idempotent-replayed", "preference-applied", "location", "retry-after", "x-should-retry", "allow"),
}
"""Headers that we read or write and others gave their names."""

_OURS = re.compile(r"\b(?:Stream-[A-Z][a-z]+(?:-[A-Z][a-z]+)*|(?:X-)?Idem\w+-[A-Z][a-z]+)\b")


def code_on(name: str) -> set[str]:
    """What a reference page has in code style."""
    return set(re.findall(r"`([^`\n]+)`", text(REFERENCE / f"{name}.md")))


def headers_in_code() -> set[str]:
    """Every header of ours that a module of the HTTP faces writes out, in lower case."""
    trees = (ast.parse(module.read_text(encoding="utf-8")) for module in HTTP.glob("*.py"))
    words = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {word.lower() for word in words if isinstance(word, str) and re.fullmatch(r"(?i)stream(-[a-z]+)+", word)}


def test_every_public_name_is_in_the_reference() -> None:
    """Of the package, of its testing tools, and of the ports that strangers implement."""
    ported = {name for name, it in vars(ports).items() if inspect.isclass(it) and it.__module__ == ports.__name__}
    tools = {name for name, it in vars(testing).items() if not name.startswith("_") and not inspect.ismodule(it)}
    directives = re.findall(r"^ *\.\. auto\w+:: ([\w.]+)", text(REFERENCE / "api.md"), re.MULTILINE)
    shown = {name.rpartition(".")[2] for name in directives}
    raised = {name for name, it in vars(errors).items() if inspect.isclass(it) and issubclass(it, BaseError)}
    assert "automodule:: resumestream.errors" in text(REFERENCE / "api.md")
    assert ({*resumestream.__all__} | ported | tools) - raised - shown == set()


@pytest.mark.parametrize("name", [*resumestream.__all__, "testing.running", "testing.Script", "ports.LogStore"])
def test_public_names_say_what_they_are(name: str) -> None:
    """The reference is made of docstrings."""
    it: object = resumestream
    for part in name.split("."):
        it = getattr(it, part)
    own = it.__dict__.get("__doc__") if inspect.isclass(it) else it.__doc__
    assert own
    assert not own.startswith(f"{name}(")


def test_every_header_is_in_the_reference() -> None:
    """Of requests and of answers."""
    shown = {name.lower() for name in code_on("headers")}
    ours = headers_in_code()
    assert len(ours) > 20
    assert (ours | OTHERS | {name for name, _ in UNCACHED}) - shown == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_page_names_a_header_that_is_not_there(page: Path) -> None:
    """A typo in a header would be a second call."""
    assert {name.lower() for name in _OURS.findall(text(page))} - headers_in_code() - OTHERS == set()


@pytest.mark.parametrize(("page", "kind"), [("policy", Policy), ("upstreams", Upstream)])
def test_every_field_is_in_the_reference(page: str, kind: type) -> None:
    """With its default, its unit and its meaning, which is drawn."""
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*) \|$", text(REFERENCE / f"{page}.md"), re.MULTILINE))
    assert [spec.name for spec in fields(kind) if not rows.get(spec.name, "").rpartition("|")[2].strip()] == []


def test_the_guide_has_every_provider_that_serve_knows() -> None:
    """With its base URL, and the name as the first segment of the client's."""
    rows = re.findall(
        r"^\| `(\w+)` \| `(http\S+)` \| `http://127\.0\.0\.1:8787/(\w+)", text(DOCS / "guide" / "providers.md"), re.M
    )
    assert sorted(rows) == sorted((name, url, name) for name, url in KNOWN.items())


def test_every_command_and_option_is_in_the_reference() -> None:
    """Hidden ones aside."""
    shown = " ".join(code_on("cli"))
    params = [param for it in COMMANDS.values() for param in it.params if not getattr(param, "hidden", False)]
    options = {option for param in params for option in param.opts if option.startswith("-")}
    assert [option for option in sorted(options) if not re.search(rf"(?<!\S){option}\b", shown)] == []
    assert [name for name in COMMANDS if f"\n## {name}\n" not in text(REFERENCE / "cli.md")] == []


def test_every_error_is_in_the_reference() -> None:
    """By its code and by its class, with what to do."""
    kinds = [it for it in vars(errors).values() if inspect.isclass(it) and issubclass(it, BaseError)]
    shown = code_on("problems")
    assert [kind.code for kind in kinds if not {kind.code, kind.__name__} <= shown] == []
    assert [kind.code for kind in kinds if text(REFERENCE / "problems.md").count(f"| `{kind.code}` |") != 2] == []


# --- what sentences name ---------------------------------------------------------------------------------------------

STRANGERS = {
    *("generate_content_stream", "http_options", "include_obfuscation", "retry_options", "text_completion"),
    *("prometheus_client", "proxy_buffering", "proxy_http_version", "proxy_pass"),
    *("--help", "--http", "--root-path", "--timeout-graceful-shutdown"),
    *("provider-error",),  # the end of a problem's type that an outcome has, and no error
}
"""Names of other software that sentences have."""

ENDED = {("502", Outcome.TRUNCATED.value), ("504", Outcome.STALLED.value), ("410", Outcome.CANCELLED.value)}
"""The status with which a caller hears of an outcome, where the specification says so in a sentence."""

CURRENT = [page for page in PAGES if page.name not in ("CHANGELOG.md", "comparison.md")]
"""Pages that speak of this version, and of this software."""

UNITS = {"": 1, "s": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_WORD = re.compile(r"(?<![\w./:%-])(?:[a-z]+(?:_[a-z0-9]+)+|x(?:-[a-z]+)+)\b|(?<!\S)--[a-z-]+|^[a-z]+(?:-[a-z]+)+$")
_PROBLEM = re.compile(r"\b([45]\d\d)\s`([a-z]+(?:-[a-z]+)*)`")
_DEFAULT = re.compile(r"(?<!`, )`(\w+)`(?:\s\(| \| )(\d[\d ]*?)(?: (s|[KMG]iB))?(?=[,;)]| \|)")


def names_in_code() -> set[str]:
    """Every identifier and option, and every word of a string without spaces: package, chaos and noxfile."""
    found = {path.stem for path in REPOSITORY.glob("tests/**/*.py")}
    found |= {option for command in COMMANDS.values() for param in command.params for option in param.opts}
    modules = [path for part in ("resumestream", "chaos") for path in (REPOSITORY / part).glob("**/*.py")]
    for module in [*modules, REPOSITORY / "noxfile.py"]:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                    found.add(name)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found.add(name)
                case ast.Constant(value=str(said)) if not re.search(r"\s", said):
                    found.update(re.findall(r"[\w-]+", said.lower()))
                case _:
                    pass
    return found


NAMES = names_in_code() | STRANGERS
PROBLEMS = {
    (str(it.status), it.code) for it in vars(errors).values() if inspect.isclass(it) and issubclass(it, BaseError)
}
DEFAULTS = {spec.name: spec.default for spec in fields(Policy)}


def lies(sentences: str) -> list[str]:
    """Names that nothing has, errors and methods that there are not, errors with another's status, other defaults."""
    spans = re.findall(r"`([^`\n]+)`", sentences)
    wrong = [word for span in spans for word in _WORD.findall(span) if word not in NAMES]
    methods = [name for span in spans for name in re.findall(r"\bstreams\.(\w+)\b(?=\(|$)", span)]
    wrong += [name for name in methods if not hasattr(resumestream.ResumeStream, name) and name not in ("asgi", "db")]
    wrong += [code for status, code in _PROBLEM.findall(sentences) if (status, code) not in PROBLEMS | ENDED]
    for name, number, unit in _DEFAULT.findall(sentences):
        value = int(number.replace(" ", "")) * UNITS[unit]
        if DEFAULTS.get(name, value) != value:
            wrong.append(f"{name} {number} {unit}".strip())
    return wrong


@pytest.mark.parametrize("page", CURRENT, ids=named)
def test_sentences_name_what_is_there(page: Path) -> None:
    """Fields, options, errors and their status, defaults: a reader copies them. Blocks run or are parsed elsewhere."""
    assert lies(prose(page)) == []
    codes = {code for _, code in PROBLEMS} | {outcome.replace("_", "-") for outcome in Outcome}
    assert set(re.findall(r"urn:resumestream:problem:([a-z-]+)", text(page))) - codes == set()


@pytest.mark.parametrize(
    ("sentence", "wrong"),
    [
        ("410 `key-expired`, `stall_s` (300), `max_event_bytes` (16 MiB), `--drain-s`, `streams.info(id)`", []),
        ("`Policy(max_orphaned_drains=1)`", ["max_orphaned_drains"]),
        ("410 `key-expire`", ["key-expire"]),
        ("429 `key-expired`", ["key-expired"]),
        ("`stall_s` (400)", ["stall_s 400"]),
        ("| `max_live_streams` | 2000 |", ["max_live_streams 2000"]),
        ("`--drains-s` (30)", ["--drains-s"]),
        ("`x-should-retries: false`", ["x-should-retries"]),
        ("`await streams.infos(id)`", ["infos"]),
    ],
)
def test_lies_are_found(sentence: str, wrong: list[str]) -> None:
    """The check itself."""
    assert list(dict.fromkeys(lies(sentence))) == wrong
