"""Which upstreams there are. Wrong values are refused when an `Upstream` is made, before anything starts."""

from __future__ import annotations

import functools
import inspect
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from ..dialects import named
from ..errors import ConfigError, HeadersFailed
from ..model import Principal, ResumeKind
from .headers import HOP_BY_HOP, RawHeaders
from .target import climbs

KNOWN: dict[str, str] = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "openrouter": "https://openrouter.ai/api",
    "groq": "https://api.groq.com/openai",
    "deepseek": "https://api.deepseek.com",
    "mistral": "https://api.mistral.ai",
    "xai": "https://api.x.ai",
    "together": "https://api.together.ai",
    "fireworks": "https://api.fireworks.ai/inference",
    "cerebras": "https://api.cerebras.ai",
    "perplexity": "https://api.perplexity.ai",
    "zai": "https://api.z.ai/api",
    "ollama": "http://127.0.0.1:11434",
    "vllm": "http://127.0.0.1:8000",
}
"""Names that need no URL. They end before the version: clients append the path, `/v1/...` and all."""

HeaderSource = Callable[[Principal], Awaitable[Mapping[str, str]]]

MAX_RETRIES = 10

_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NOT_IN_URL = re.compile(r"[^\x21-\x7e]|\\")
_NOT_TO_SET = HOP_BY_HOP | {"host", "content-length", "accept-encoding"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; two equal origins may share them."""

    host: str
    port: int
    ssl_context: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """The `Host` header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.ssl_context else "http"] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Upstream:
    """A provider endpoint. Raises ConfigError when made with a wrong value."""

    base_url: str
    """`http` or `https`, with or without a path prefix; requests never leave it."""
    _: KW_ONLY
    headers: Mapping[str, str] | HeaderSource | None = field(default=None, repr=False, hash=False)
    """Server-side credentials, or what gives them for a principal. They replace the caller's."""
    dialect: str | None = None
    """The name of the provider's grammar; None guesses it from the path. `unknown` for what is nobody's."""
    retries: int = 0
    """How often the server itself calls again after a definite early failure (no connection, 408, 429, 5xx), unseen by
    the caller. `Retry-After` up to a minute is honoured."""
    fallbacks: Sequence[str] = field(default=(), hash=False)
    """Names of upstreams of the same dialect that are called next, each with `headers` of its own: a caller's
    credential goes only to the upstream that it was sent to."""
    failover: Literal["never", "segment"] = "never"
    """`segment`: a call that ends in the middle of its answer is followed by one to the next fallback, which is paid
    for as well; its answer is a new segment of the stream."""
    forward_key: bool = False
    """This upstream honours `Idempotency-Key`: it gets one that is the same for every try of a call, so that also a
    call that may have been billed can be made again."""
    include_usage: bool = False
    """Ask the provider to tell the usage of every answer, where a caller did not. What it tells then is metered, and
    left out of the log and of what callers get."""
    resume: ResumeKind | None = None
    """How a call that lost its connection, or its worker, is gone on with, without a new one: `responses` (OpenAI's
    background mode, where the request asks for it) or `resumestream`. Another worker needs `headers` for that."""
    connect_s: float = 10.0
    """The longest that name lookup, connect and TLS may take together."""
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True
    """True for the system's certificate authorities, else a PEM file of others, or an SSLContext."""

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if isinstance(self.headers, Mapping):
            _encoded(self.headers)
        elif self.headers is not None and not callable(self.headers):
            raise ConfigError(f"Upstream.headers is a {type(self.headers).__name__}; use a mapping or async function")
        if self.dialect is not None:
            named(self.dialect)
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or not 0 <= self.retries <= MAX_RETRIES:
            raise ConfigError(
                f"Upstream.retries is {self.retries!r}; it must be a whole number from 0 to {MAX_RETRIES}"
            )
        if isinstance(self.fallbacks, str) or not all(isinstance(name, str) for name in self.fallbacks):
            raise ConfigError(f"Upstream.fallbacks is {self.fallbacks!r}; give a list of names of upstreams")
        if self.resume not in (None, *get_args(ResumeKind)):
            raise ConfigError(f"Upstream.resume is {self.resume!r}; use {' or '.join(get_args(ResumeKind))}, or None")
        if self.include_usage and self.resume == "resumestream":
            raise ConfigError("Upstream.include_usage is for the resumestream behind this one, which counts the bytes")
        if self.failover not in ("never", "segment"):
            raise ConfigError(f"Upstream.failover is {self.failover!r}; use 'never' or 'segment'")
        if self.failover == "segment" and not self.fallbacks:
            raise ConfigError("Upstream.failover is 'segment', and there are no fallbacks to go to; name some")
        if isinstance(self.connect_s, bool) or not isinstance(self.connect_s, int | float) or not self.connect_s > 0:
            raise ConfigError(f"Upstream.connect_s is {self.connect_s!r}; it must be a number of seconds above 0")
        _ = self.origin

    @functools.cached_property
    def origin(self) -> Origin:
        url = urlsplit(self.base_url)
        return Origin(
            host=url.hostname or "",
            port=url.port or _PORTS[url.scheme],
            ssl_context=_ssl_context(self.verify) if url.scheme == "https" else None,
        )

    @property
    def server_side(self) -> bool:
        """Whether calls are paid with the operator's credentials and not the caller's."""
        return self.headers is not None

    async def own_headers(self, principal: Principal) -> RawHeaders | None:
        """The server-side headers for this principal, or None. Raises ConfigError where they cannot be sent, and
        HeadersFailed where the function given as `headers` raises."""
        if self.headers is None or isinstance(self.headers, Mapping):
            return None if self.headers is None else _encoded(self.headers)
        try:
            given: object = self.headers(principal)
            if inspect.isawaitable(given):
                return _encoded(await given)
        except ConfigError:
            raise
        except Exception as error:
            raise HeadersFailed("This upstream's credential cannot be had; the server's log tells why.") from error
        raise ConfigError("Upstream.headers is not async; it must be a mapping or an async function of (principal)")


def check_fallbacks(upstreams: Mapping[str, Upstream]) -> None:
    """Raises ConfigError for a fallback that cannot be one."""
    for name, upstream in upstreams.items():
        for other in upstream.fallbacks:
            fallback = upstreams.get(other)
            wrong = {
                "is no configured upstream": fallback is None,
                "is the upstream itself": other == name,
                "speaks another dialect": fallback is not None and fallback.dialect != upstream.dialect,
                "has no headers= of its own; a caller's credential is never sent to it": fallback is not None
                and not fallback.server_side,
                "is named twice": list(upstream.fallbacks).count(other) > 1,
            }
            for what, found in wrong.items():
                if found:
                    raise ConfigError(f"fallback {other!r} of upstream {name!r} {what}")


def _check_url(base_url: str) -> None:
    # An error text never holds a password or a key.
    shown = re.split(r"[?#]", re.sub(r"//.*@", "//", base_url))[0]
    try:
        url = urlsplit(base_url)
        port = url.port
    except ValueError:  # its text quotes parts
        raise ConfigError(f"Upstream base URL {shown!r} is no URL; check its host and port") from None
    wrong = {
        "has characters that a URL cannot have; percent-encode them": _NOT_IN_URL.search(base_url),
        "must start with http:// or https://": url.scheme not in _PORTS,
        "has a user or password before its host; use headers= for credentials": "@" in url.netloc,
        "has no host": not url.hostname,
        "has port 0": port == 0,
        "must end before any query or fragment": "?" in base_url or "#" in base_url,
        "has a '..' segment; write where it leads": climbs(url.path.encode("utf-8")),
    }
    for what, found in wrong.items():
        if found:
            raise ConfigError(f"Upstream base URL {shown!r} {what}")


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As bytes. The values are credentials: no error text shows one."""
    if not isinstance(headers, Mapping):
        raise ConfigError(f"Upstream.headers gave a {type(headers).__name__}; it must give a mapping")
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name) or name.lower() in _NOT_TO_SET:
            raise ConfigError(f"Upstream header {name!r} cannot be set: no header name, or made by the call itself")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ConfigError(f"The value of upstream header {name!r} has characters that a header cannot have")
    return [(name.lower().encode(), value.strip().encode("latin-1")) for name, value in headers.items()]


def _ssl_context(verify: bool | str | os.PathLike[str] | ssl.SSLContext) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        return verify
    if isinstance(verify, bool):
        if verify:
            return _default_context(None)
        raise ConfigError("Upstream.verify is False; trust the upstream's own CA file, or pass an ssl.SSLContext")
    return _default_context(os.fspath(verify))


@functools.cache  # one context for all upstreams: making one reads every certificate of the system
def _default_context(cafile: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cafile)
    except OSError as error:
        raise ConfigError(f"Upstream.verify is {cafile!r}, which cannot be read as a PEM file: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context
