"""Credentials out of texts: whatever has the shape of one is starred out, in place, before anybody reads it.

A net below the rule that no credential gets into a text at all: what providers, sources and callers say is not ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

CREDENTIAL_PARAMETERS = frozenset({"key", "api_key", "api-key", "apikey", "access_token", "ticket"})
"""Query parameters that say who asks, not what."""

LEAST_SECRET = 16
"""A known value that is shorter is no secret but a dummy: starring out every "ollama" helps nobody."""

# Longer than a stream id of ours, which is a random text too: no id is ever taken for one.
_LONG = r"[A-Za-z0-9_-]{24,}"
_SHAPES = re.compile(
    rf"""
    # what providers' keys look like by themselves
    (?<![A-Za-z0-9]) (?: (?:sk|pk|rk|csk|xai|pplx|nvapi)-{_LONG} | (?:gsk|hf|fw|r8|tgp|ghp|github_pat)_{_LONG}
                       | AIza{_LONG} | AKIA[0-9A-Z]{{16}} | ya29\.[\w.-]{{16,}} | eyJ[\w-]{{8,}}\.[\w-]+\.[\w-]* )
    # what stands where a credential does
  | (?i: (?<![A-Za-z0-9]) (?:bearer|basic) \s+ (?=[^\s"']*[0-9]) ) (?P<token> [A-Za-z0-9._~+/=-]{{8,}} )
  | (?i: (?:\A|[?&;]) (?:{"|".join(map(re.escape, sorted(CREDENTIAL_PARAMETERS)))}) = ) (?P<parameter> [^\s&;,"'<>\#]+ )
  | (?i: (?<![A-Za-z0-9]) (?:x-goog-api|x-api|api)[-_]key ["']{{0,2}} \s* [:=] \s* ["']{{0,2}} )
    (?P<value> [^\s"',;&<>}}]{{8,}} )
    """,
    re.VERBOSE | re.ASCII,
)

# Whitespace, quotes, brackets: no credential has one, so between two of them it lies whole.
_BREAKS = r"\s\"'<>,{}\[\]()"
_UNFINISHED = re.compile(rf"[^{_BREAKS}]*\Z")
_PIECES = re.compile(rf"[^{_BREAKS}]+")
_HELD, _CONTEXT = 4096, 64


def redact(text: str) -> str:
    """`text`, as long as before, with a star for each character of what looks like a credential."""
    return _SHAPES.sub(_starred, text)


class Redactor:
    """The same for bytes that come in pieces, and for what is known to be secret whatever it looks like."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {piece for secret in secrets for piece in _PIECES.findall(secret) if len(piece) >= LEAST_SECRET}
        self._known = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True)))) if known else None
        self._seen = self._held = ""

    def text(self, text: str) -> str:
        """One text, whole."""
        return redact(self._known.sub(_starred, text) if self._known else text)

    def feed(self, data: bytes) -> bytes:
        """What is certain of the bytes so far: a word may go on in the next piece."""
        text = self._held + data.decode("latin-1")
        unfinished = _UNFINISHED.search(text)
        assert unfinished
        end = max(unfinished.start(), len(text) - _HELD)
        self._held = text[end:]
        return self._ready(text[:end])

    def rest(self) -> bytes:
        """What was held back, at the end."""
        text, self._held = self._held, ""
        return self._ready(text)

    def _ready(self, text: str) -> bytes:
        before = self._seen
        self._seen = (before + text)[-_CONTEXT:]
        return self.text(before + text)[len(before) :].encode("latin-1")


_SERVERS = ("uvicorn.access", "uvicorn.error", "hypercorn.access", "hypercorn.error", "granian.access", "_granian")
LOGGERS = ("resumestream", *_SERVERS)
"""Ours, and those of the servers, which write down queries, and what a hook of the host's own raised."""


@contextmanager
def redacting_logs() -> Iterator[None]:
    """Meanwhile no record of LOGGERS holds what looks like a credential."""
    ours = RedactingFilter()
    for name in LOGGERS:
        logging.getLogger(name).addFilter(ours)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(ours)


class RedactingFilter(logging.Filter):
    """On a logger: its records hold no credential, in message, arguments or traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Argument by argument: access log formatters take them apart again.
        if isinstance(record.args, tuple):
            record.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in record.args)
        message = record.getMessage()
        if (masked := redact(message)) != message:
            record.msg, record.args = masked, ()
        if record.exc_info and record.exc_info[0]:
            trace = logging.Formatter().formatException(record.exc_info)
            if (masked := redact(trace)) != trace:
                record.exc_text, record.exc_info = masked, None
        return True


def _starred(match: re.Match[str]) -> str:
    begin, end = match.span(match.lastgroup or 0)
    found, at = match[0], match.start()
    return found[: begin - at] + "*" * (end - begin) + found[end - at :]
