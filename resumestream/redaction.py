"""Credentials out of texts: whatever has the shape of one is starred out, in place, before anybody reads it.

A net below the rule that no credential gets into a text at all: what providers, sources and callers say is not ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

CREDENTIAL_PARAMETERS = frozenset(
    {"key", "api_key", "api-key", "apikey", "subscription-key", "access_token", "auth_token", "token", "ticket"}
    | {"sig", "signature", "x-amz-signature", "x-amz-security-token", "x-goog-signature"}
    | {"secret", "client_secret", "password"}
)
"""Query parameters that say who asks, not what."""

CREDENTIAL_HEADER = re.compile(r"auth|key|token|secret|password|signature")
"""Found in a header's name in lower case: its value may say who asks. What is none by this is never taken for one."""

LEAST_SECRET = 16
"""A known value that is shorter is no secret but a dummy: starring out every "ollama" helps nobody."""

# Longer than a stream id of ours, which is a random text too: no id is ever taken for one. Names of models and
# libraries begin as keys do (`sk-learn-...`, `xai-grok-...`); a key has digits, and capitals or a long unbroken part.
_LONG = r"(?=[\w-]{0,256}?[0-9]) (?=[\w-]{0,256}?[A-Z] | [a-z-]{0,32}[a-z0-9]{16}) [A-Za-z0-9_-]{24,}"
# Every bound keeps the search linear: without it, a text made for that would be searched again from each of its parts.
_SHAPES = re.compile(
    rf"""
    # what providers' keys look like by themselves
    (?<![A-Za-z0-9]) (?: (?:sk|pk|rk|csk|xai|pplx|nvapi|glpat)-{_LONG}
                       | (?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{{16,}}
                       | (?:gsk|hf|fw|r8|tgp|ghp|github_pat)_{_LONG}
                       | AIza{_LONG} | AKIA[0-9A-Z]{{16}} | ya29\.[\w.-]{{16,}}
                       | eyJ[\w-]{{8,1024}}+\.[\w-]+\.[\w-]* )
    # what stands where a credential does
  | (?i: (?<![A-Za-z0-9]) (?:bearer|basic) \s+ (?=[^\s"'\\]{{0,256}}?[0-9] | [a-z]{{20}}) )
    (?P<token> [A-Za-z0-9._~+/=-]{{8,}} )
  | (?i: (?:\A|[?&;]) (?:{"|".join(map(re.escape, sorted(CREDENTIAL_PARAMETERS)))}) = )
    (?P<parameter> [^\s&;,"'<>\#\\]+ )
  | (?i: (?<![A-Za-z0-9]) (?:x-goog-api|x-api|api)[-_]key \\?["']{{0,2}} \s{{0,8}} [:=] \s{{0,8}} \\?["']{{0,2}} )
    (?= [^\s"',;&<>}}\\]{{0,256}}?[0-9] ) (?= [^\s"',;&<>}}\\]{{0,256}}?[A-Za-z] )
    (?P<value> [A-Za-z0-9._~+/=-]{{8,}} )
  | :// [^\s/@:"'<>\\]{{0,256}} : (?P<password> [^\s/@"'<>\\]{{1,256}} ) @
    """,
    re.VERBOSE | re.ASCII,
)

# Whitespace, quotes, brackets: no credential has one, so between two of them it lies whole.
_BREAKS = " \t\n\r\v\f\"'<>,{}[]()"
_PIECES = re.compile(f"[^{re.escape(_BREAKS)}]+")
_LONGEST, _CONTEXT = 4096, 64
"""Of a credential, and of what stands before one, in characters."""


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
        """What is certain of the bytes so far: a word may go on in the next piece. Holds back 8 KiB at most."""
        text = self._held + data.decode("latin-1")
        end = max(text.rfind(mark, -_LONGEST) for mark in _BREAKS) + 1
        if end:
            return self._release(text, end, _CONTEXT)
        if len(text) > 2 * _LONGEST:
            # No word is that long, but bytes may be: what is released has been seen with all that could belong to it.
            return self._release(text, len(text) - _LONGEST, _LONGEST)
        self._held = text
        return b""

    def rest(self) -> bytes:
        """What was held back, at the end."""
        return self._release(self._held, len(self._held), _CONTEXT)

    def _release(self, text: str, end: int, context: int) -> bytes:
        before = self._seen
        masked = self.text(before + text)[len(before) : len(before) + end]
        self._seen, self._held = (before + text[:end])[-context:], text[end:]
        return masked.encode("latin-1")


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


_TAKEN_APART = frozenset({"uvicorn.access"})
"""Loggers whose formatter takes the arguments by their places."""


class RedactingFilter(logging.Filter):
    """On a logger: its records hold no credential, in message, arguments or traceback. Raises nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in record.args)
        if record.name not in _TAKEN_APART:
            try:
                message = record.getMessage()
            except Exception:
                # Whoever formats it next tells of that, as without us.
                return True
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
