"""Every Python block of the guides runs, page by page, against a real server, a real app and the scripted provider.

The blocks of a page share one namespace and one directory, in their order. What a page says of addresses is replaced:
`http://127.0.0.1:8787` by a running `resumestream serve`, `http://127.0.0.1:8000` by the page's own `app`, which is
served from the first block that calls it on, and every provider's URL by the scripted provider's.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import CodeType, ModuleType
from urllib.parse import urlsplit

import pytest

from resumestream.testing.provider import Script, ScriptedProvider
from resumestream.testing.running import running
from resumestream.upstream import KNOWN

from .command import Process, started
from .pages import GUIDES, NO_RUN, Block, blocks, named

SERVE, APP = "http://127.0.0.1:8787", "http://127.0.0.1:8000"
HERE = ("vllm",)
"""Known providers that are elsewhere on the machine of a guide's reader: `serve` may name them, pages call `APP` so."""
ELSEWHERE = re.compile(r"https?://[\w.-]+\.example(?:\.com)?(?::\d+)?")
"""Any other provider of a page's own making."""

CREDENTIALS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")
MOST_NOT_RUN = 5


def python(page: Path) -> list[Block]:
    return [block for block in blocks(page, "python", "py") if block.runs]


RUN = [page for page in GUIDES if python(page)]


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as provider:
        yield provider


def placed(url: str, provider: ScriptedProvider) -> str:
    """The same path at the scripted provider."""
    return provider.url + urlsplit(url).path


@pytest.fixture(scope="module")
def server(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`resumestream serve` with every name that it knows."""
    store = tmp_path_factory.mktemp("serve") / "streams.db"
    upstreams = [word for name, url in KNOWN.items() for word in ("--upstream", f"{name}={placed(url, provider)}")]
    with started("serve", *upstreams, "--store", store, "--port", 0) as process:
        process.url = process.wait_for_line().split()[-1]
        yield process


class Reading:
    """One page, as somebody types it in."""

    def __init__(self, page: Path, provider: ScriptedProvider, server: str) -> None:
        self.module = ModuleType(f"page_{page.stem}")
        self._provider = provider
        origins = [url.removesuffix(urlsplit(url).path) for name, url in KNOWN.items() if name not in HERE]
        self._places = {SERVE: server, **dict.fromkeys(origins, provider.url)}
        self._served: object = None
        self._met: list[object] = []
        self._stack = ExitStack()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self, block: Block) -> None:
        """Raises what it raises, with the line of the page in the traceback."""
        if block.scripts:
            self._provider.script(*map(Script.from_json, block.scripts))
        if APP in block.text:
            self._places[APP] = self._url()
        code = self._compiled(block)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, self.module.__dict__))
        else:
            exec(code, self.module.__dict__)
        if (app := self._app) is not None and not any(app is met for met in self._met):
            self._met.append(app)

    def _compiled(self, block: Block) -> CodeType:
        source = ELSEWHERE.sub(self._provider.url, block.text)
        for place, url in self._places.items():
            source = source.replace(place, url)
        padded = "\n" * (block.line - 1) + source
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(padded, str(block.page), "exec", flags, dont_inherit=True)

    @property
    def _app(self) -> object:
        return self.module.__dict__.get("app")

    def _url(self) -> str:
        """Where the page's app is served."""
        app = self._app
        assert app is not None, f"no block before calls {APP} an app"
        if app is not self._served:
            self._stack.close()
            self._served, self.url = app, self._stack.enter_context(running(app))
        return self.url

    def start_the_rest(self) -> None:
        """Apps that nobody called start and stop, at least."""
        self._stack.close()
        for app in self._met:
            if app is not self._served:
                with running(app):
                    pass


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An empty directory, credentials that nobody checks, and nothing left behind."""
    monkeypatch.chdir(tmp_path)
    for name in CREDENTIALS:
        monkeypatch.setenv(name, "sk-nobody-checks-this")
    yield monkeypatch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("page", RUN, ids=named)
@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # examples leave clients open that a process's end closes
def test_the_blocks_of_a_page_run(
    page: Path, provider: ScriptedProvider, server: Process, reader: pytest.MonkeyPatch
) -> None:
    """In their order, each with what the ones before it left."""
    provider.reset()
    with Reading(page, provider, server.url) as reading:
        reader.setitem(sys.modules, reading.module.__name__, reading.module)
        for block in python(page):
            reading.run(block)
        reading.start_the_rest()
        reading.module.__dict__.clear()


def test_few_blocks_do_not_run() -> None:
    """Each says why, as `python no-run: REASON`."""
    kept = [block for page in GUIDES for block in blocks(page, "python", "py") if not block.runs]
    assert [str(block) for block in kept if not re.fullmatch(rf"{NO_RUN}: \S.+", block.note)] == []
    assert len(kept) <= MOST_NOT_RUN


def test_the_pages_have_blocks_to_run() -> None:
    """A harness that finds nothing would pass."""
    assert len([block for page in RUN for block in python(page)]) >= 8


# --- the harness itself ----------------------------------------------------------------------------------------------


def page_of(tmp_path: Path, *texts: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text("\n\n".join(texts), encoding="utf-8")
    return blocks(page, "python")


def fenced(text: str) -> str:
    return f"```python\n{text}\n```"


def test_a_wrong_block_fails_with_its_line(tmp_path: Path, provider: ScriptedProvider, reader: object) -> None:
    """A page that lies is found, at the line that lies."""
    first, second = page_of(tmp_path, fenced("there = 1"), "Text.", fenced("assert there == 1\nassert not there"))
    with Reading(first.page, provider, "http://127.0.0.1:1") as reading:
        reading.run(first)
        with pytest.raises(AssertionError) as raised:
            reading.run(second)
    assert raised.traceback[-1].lineno + 1 == 9


def test_an_app_is_served_and_its_provider_scripted(tmp_path: Path, provider: ScriptedProvider, reader: object) -> None:
    """A block calls the app of the block before, whose provider is the scripted one and does what a comment says."""
    app = """
from starlette.applications import Starlette
from resumestream import ResumeStream
app = Starlette()
ResumeStream("streams.db", upstreams={"openai": "https://api.openai.com"}).install(app)
"""
    call = """
from openai import OpenAI
client = OpenAI(base_url="http://127.0.0.1:8000/llm/openai/v1")
answer = client.chat.completions.create(model="m", messages=[], extra_headers={"Idempotency-Key": "k"})
assert answer.choices[0].message.content == "w0000 w0001 "
"""
    scripted = '<!-- scripted: {"tokens": 2} -->'
    provider.reset()
    with Reading(tmp_path / "page.md", provider, "http://127.0.0.1:1") as reading:
        for block in page_of(tmp_path, fenced(app), scripted, fenced(call)):
            reading.run(block)
        reading.start_the_rest()
    assert len(provider.ledger()) == 1


def test_a_block_may_await(tmp_path: Path, provider: ScriptedProvider, reader: object) -> None:
    """Await stands in a block as in a function."""
    (block,) = page_of(tmp_path, fenced("import anyio\nawait anyio.sleep(0)\ndone = True"))
    with Reading(block.page, provider, "http://127.0.0.1:1") as reading:
        reading.run(block)
        assert reading.module.__dict__["done"] is True
