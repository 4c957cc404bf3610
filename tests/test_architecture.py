"""Dependencies point down, pure modules stay pure, files stay small. Each rule is shown to fail on a bad tree."""

from __future__ import annotations

import ast
import re
import statistics
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOT = "resumestream"

# One layer a line, from the ground up. A module imports from lower layers only; within PURE also sideways.
# A package (`stores`, `http`, ...) is one name here. A new module gets its name into exactly one layer.
HOUSE = """
errors model redaction usage retry_after
policy lifecycle framing offsets dialects ports identity claims endings reading refusals remote route conclusion
audience metering
stores upstream sources live eviction tallies counters
pour tail recovery follower admission sweep
drain
watch reads
claiming
hub
http
embed
resumestream
testing
conformance
cli
__main__
"""
LAYERS = [frozenset(line.split()) for line in HOUSE.strip().splitlines()]
PURE = LAYERS[0] | LAYERS[1]
IMPURE = {"asyncio", "datetime", "os", "pathlib", "random", "secrets", "select", "socket", "sqlite3", "ssl"}
IMPURE |= {"subprocess", "tempfile", "threading", "time", "uuid"}
"""Clocks, chance, threads and the outside world."""
TESTING_BELOW = "embed"
"""`testing` proves parts; it may use what lies under this, not the whole."""
PROVIDER = "testing.provider"
PROVIDER_MAY_IMPORT = frozenset({"h11"})
CONFORMANCE = "conformance"
"""Black-box checks: the wire alone, and what plays the provider."""
ASYNCIO_MAY_IMPORT = {
    PROVIDER: "runs as its own process on the standard library and h11 alone",
    "testing.running": "starts each server on the loop that the server is made for",
}
"""Module or package -> why anyio does not do. Everything else runs on trio as well."""
NEVER_IMPORTED = {
    "sse_starlette": "its import patches uvicorn's signal handling, and its watcher never starts on trio",
    "httpx": "a general HTTP client costs four times everything else on the path together",
    "httpx2": "a general HTTP client costs four times everything else on the path together",
}
CHAOS = "chaos"
"""The harness is a package of its own: it touches sockets and process ids alone."""
CHAOS_TARGETS = "targets"
CHAOS_PURE = {"history", "checker"}
IMPORT_NAMES = {"google_genai": "google", "toxiproxy_python": "toxiproxy"}
"""Where it is not the distribution's."""
MAX_LINES = 500
MAX_MEDIAN_LINES = 200


@dataclass(frozen=True)
class Import:
    """One imported name: `inside`, a module of ours (dotted, without the root), or `outside`, a foreign package."""

    line: int
    inside: str | None = None
    outside: str | None = None


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    imports: tuple[Import, ...]
    lines: int

    @property
    def unit(self) -> str:
        return self.name.partition(".")[0]


Package = dict[str, Module]
Check = Callable[[Package], Iterator[str]]


def load(folder: Path, root: str = ROOT) -> Package:
    """Every module of the package `root`, which is in `folder`."""
    paths = {_name(path.relative_to(folder), root): path for path in sorted(folder.rglob("*.py"))}
    return {name: _module(name, path, paths.keys(), root) for name, path in paths.items()}


def _name(relative: Path, root: str) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or root


def _module(name: str, path: Path, known: Collection[str], root: str) -> Module:
    source = path.read_text(encoding="utf-8")
    here = [root] if name == root else [root, *name.split(".")]
    package = here if path.name == "__init__.py" else here[:-1]
    found = tuple(_imports(ast.parse(source).body, package, known))
    return Module(name, path, found, source.count("\n"))


def _imports(nodes: Iterable[ast.AST], package: list[str], known: Collection[str]) -> Iterator[Import]:
    """`package` is where they stand, its root first."""
    root = package[0]
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(node.orelse, package, known)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield _resolved(alias.name.split("."), node.lineno, root)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                whole = [*base, alias.name]
                yield _resolved(whole if ".".join(whole[1:]) in known else base, node.lineno, root)
        else:
            yield from _imports(ast.iter_child_nodes(node), package, known)


def _resolved(parts: list[str], line: int, root: str) -> Import:
    if parts[0] != root:
        return Import(line, outside=parts[0])
    return Import(line, inside=".".join(parts[1:]) or root)


def _layer(unit: str) -> int | None:
    return next((index for index, units in enumerate(LAYERS) if unit in units), None)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _each(package: Package) -> Iterator[tuple[Module, Import]]:
    return ((module, found) for module in package.values() for found in module.imports)


def every_module_has_a_layer(package: Package) -> Iterator[str]:
    for unit in sorted({module.unit for module in package.values()}):
        if _layer(unit) is None:
            yield f"{unit} has no layer: add it to HOUSE in tests/test_architecture.py, as low as its imports allow"


def imports_point_down(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        if found.inside is None:
            continue
        target = found.inside.partition(".")[0]
        own, other = _layer(module.unit), _layer(target)
        if own is None or other is None or target == module.unit or (own == other and module.unit in PURE):
            continue
        ceiling = min(own, _layer(TESTING_BELOW) or own) if module.unit == "testing" else own
        if other >= ceiling:
            yield f"{module.path}:{found.line} {module.name} (layer {own}) imports {found.inside} (layer {other})"


def no_cycles(package: Package) -> Iterator[str]:
    graph = {
        module.name: {found.inside for found in module.imports if found.inside and found.inside != module.name}
        for module in package.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "import cycle: " + " <- ".join(error.args[1])


def pure_modules_are_pure(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        name = found.outside
        if module.unit in PURE and name and (name not in sys.stdlib_module_names or name in IMPURE):
            yield f"{module.path}:{found.line} {module.name} is pure and imports {name}"


def the_scripted_provider_stands_alone(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        if not _within(module.name, PROVIDER):
            continue
        ours = found.inside and not _within(found.inside, PROVIDER)
        if ours or (found.outside and found.outside not in sys.stdlib_module_names | PROVIDER_MAY_IMPORT):
            yield f"{module.path}:{found.line} {module.name} imports {found.inside or found.outside}"


def conformance_knows_the_wire_alone(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        if not _within(module.name, CONFORMANCE):
            continue
        ours = found.inside and not any(_within(found.inside, own) for own in (CONFORMANCE, PROVIDER))
        if ours or (found.outside and found.outside not in sys.stdlib_module_names | PROVIDER_MAY_IMPORT):
            yield f"{module.path}:{found.line} {module.name} imports {found.inside or found.outside}"


def asyncio_stays_out(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        if found.outside == "asyncio" and not any(_within(module.name, listed) for listed in ASYNCIO_MAY_IMPORT):
            yield f"{module.path}:{found.line} {module.name} imports asyncio; use anyio, which runs on trio as well"


def foreign_imports_are_declared(package: Package) -> Iterator[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = chain(project["dependencies"], *project["optional-dependencies"].values())
    declared = {_import_name(requirement) for requirement in requirements}
    declared.add("compression")  # of the standard library, from Python 3.14 on
    for module, found in _each(package):
        if found.outside in NEVER_IMPORTED:
            yield f"{module.path}:{found.line} imports {found.outside}: {NEVER_IMPORTED[found.outside]}"
        elif found.outside and found.outside not in sys.stdlib_module_names | declared:
            yield f"{module.path}:{found.line} imports {found.outside}, which pyproject.toml does not declare"


def chaos_knows_sockets_alone(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        if found.outside == ROOT and module.unit != CHAOS_TARGETS:
            yield f"{module.path}:{found.line} {module.name} imports what it tests; only {CHAOS_TARGETS} may"
        if found.inside and _within(found.inside, CHAOS_TARGETS) and module.unit != CHAOS_TARGETS:
            yield f"{module.path}:{found.line} {module.name} imports {found.inside}, which runs in other processes"


def chaos_judges_purely(package: Package) -> Iterator[str]:
    for module, found in _each(package):
        foreign = found.outside and (found.outside not in sys.stdlib_module_names or found.outside in IMPURE)
        if module.unit in CHAOS_PURE and (foreign or (found.inside and found.inside not in CHAOS_PURE)):
            yield f"{module.path}:{found.line} {module.name} is pure and imports {found.outside or found.inside}"


def chaos_imports_are_declared(package: Package) -> Iterator[str]:
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    declared = {_import_name(requirement) for name in ("chaos", "test") for requirement in groups[name]}
    for module, found in _each(package):
        name = found.outside
        if name and module.unit != CHAOS_TARGETS and name not in sys.stdlib_module_names | declared:
            yield f"{module.path}:{found.line} imports {name}, which the groups chaos and test do not declare"


def _import_name(requirement: str) -> str:
    name = re.split(r"[^\w-]", requirement)[0].lower().replace("-", "_")
    return IMPORT_NAMES.get(name, name)


def files_are_small(package: Package) -> Iterator[str]:
    for module in package.values():
        if module.lines > MAX_LINES:
            yield f"{module.path} has {module.lines} lines; {MAX_LINES} is the most"
    median = statistics.median(module.lines for module in package.values())
    if median >= MAX_MEDIAN_LINES:
        yield f"the median file has {median:g} lines; keep it under {MAX_MEDIAN_LINES}"


CHECKS: tuple[Check, ...] = (
    every_module_has_a_layer,
    imports_point_down,
    no_cycles,
    pure_modules_are_pure,
    the_scripted_provider_stands_alone,
    conformance_knows_the_wire_alone,
    asyncio_stays_out,
    foreign_imports_are_declared,
    files_are_small,
)


CHAOS_CHECKS: tuple[Check, ...] = (
    no_cycles,
    chaos_knows_sockets_alone,
    chaos_judges_purely,
    chaos_imports_are_declared,
    files_are_small,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_house_stands(check: Check) -> None:
    """The package keeps every rule."""
    assert list(check(load(REPOSITORY / ROOT))) == []


@pytest.mark.parametrize("check", CHAOS_CHECKS, ids=lambda check: check.__name__)
def test_chaos_stands_apart(check: Check) -> None:
    assert list(check(load(REPOSITORY / CHAOS, CHAOS))) == []


BAD_TREES: list[tuple[Check, dict[str, str], str]] = [
    (every_module_has_a_layer, {"helpers.py": ""}, "helpers has no layer"),
    (imports_point_down, {"model.py": "from .hub import Hub", "hub.py": ""}, "model (layer 0) imports hub"),
    (imports_point_down, {"model.py": "def f():\n    from .hub import Hub", "hub.py": ""}, "imports hub"),
    (imports_point_down, {"pour.py": "from . import tail", "tail.py": ""}, "pour (layer 4) imports tail"),
    (imports_point_down, {"stores/memory.py": "import resumestream.hub", "hub.py": ""}, "stores.memory"),
    (imports_point_down, {"http/app.py": "from ..testing.log import x", "testing/log.py": ""}, "testing.log"),
    (imports_point_down, {"hub.py": "from . import ResumeStream", "__init__.py": ""}, "imports resumestream"),
    (imports_point_down, {"testing/run.py": "from ..embed import S", "embed.py": ""}, "testing.run"),
    (no_cycles, {"stores/a.py": "from .b import x", "stores/b.py": "from . import a"}, "import cycle"),
    (pure_modules_are_pure, {"ports.py": "import anyio"}, "ports is pure and imports anyio"),
    (pure_modules_are_pure, {"dialects/openai.py": "from time import time"}, "imports time"),
    (the_scripted_provider_stands_alone, {"testing/provider.py": "from ..model import Head"}, "imports model"),
    (the_scripted_provider_stands_alone, {"testing/provider/__main__.py": "import anyio"}, "imports anyio"),
    (conformance_knows_the_wire_alone, {"conformance/x.py": "from ..model import Head"}, "imports model"),
    (conformance_knows_the_wire_alone, {"conformance/x.py": "import anyio"}, "imports anyio"),
    (asyncio_stays_out, {"hub.py": "import asyncio.events"}, "hub imports asyncio"),
    (foreign_imports_are_declared, {"hub.py": "import sse_starlette.event"}, "signal handling"),
    (foreign_imports_are_declared, {"hub.py": "import requests"}, "does not declare"),
    (files_are_small, {"hub.py": "\n" * 501, "tail.py": "", "drain.py": ""}, "hub.py has 501 lines"),
    (files_are_small, {"hub.py": "\n" * 200}, "median file has 200 lines"),
]


BAD_CHAOS: list[tuple[Check, dict[str, str], str]] = [
    (no_cycles, {"stage.py": "from .actions import Kill", "actions.py": "from . import stage"}, "import cycle"),
    (chaos_knows_sockets_alone, {"stage.py": "from resumestream.model import Head"}, "stage imports what it tests"),
    (chaos_knows_sockets_alone, {"stage.py": "def f():\n    import resumestream"}, "stage imports what it tests"),
    (chaos_knows_sockets_alone, {"stage.py": "from .targets import x", "targets/x.py": ""}, "other processes"),
    (chaos_judges_purely, {"checker.py": "import time"}, "checker is pure and imports time"),
    (chaos_judges_purely, {"history.py": "from .stage import x", "stage.py": ""}, "history is pure and imports stage"),
    (chaos_imports_are_declared, {"stage.py": "import flask"}, "imports flask"),
]


@pytest.mark.parametrize(
    ("root", "check", "files", "complaint"),
    [(root, *bad) for root, trees in ((ROOT, BAD_TREES), (CHAOS, BAD_CHAOS)) for bad in trees],
)
def test_a_bad_tree_is_refused(root: str, check: Check, files: dict[str, str], complaint: str, tmp_path: Path) -> None:
    """Each rule fails, and says where, on a tree that breaks it."""
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source, encoding="utf-8")
    assert [found for found in check(load(tmp_path, root)) if complaint in found]


def test_imports_for_type_checkers_do_not_count(tmp_path: Path) -> None:
    """An import under TYPE_CHECKING is no dependency at run time; its `else` is."""
    source = "if TYPE_CHECKING:\n    from .hub import Hub\nelse:\n    import asyncio\n"
    (tmp_path / "model.py").write_text(source, encoding="utf-8")
    (tmp_path / "hub.py").write_text("", encoding="utf-8")
    assert [found.outside or found.inside for found in load(tmp_path)["model"].imports] == ["asyncio"]
