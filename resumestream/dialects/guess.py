"""A dialect that only the path speaks for: believed once an event of it came."""

from __future__ import annotations

from ..framing import SSE, has_data
from ..ports import Dialect, Mark, Scanner
from ..usage import Usage


class Guess(Dialect):
    """The dialect it is made of, as long as nothing speaks against it. What came whole and is no event of it makes the
    answer `foreign`, until one comes: then nothing that only this grammar has may mean anything, or be added."""

    guessed = True

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.name, self.framing, self.keepalive = dialect.name, dialect.framing, dialect.keepalive

    def scanner(self) -> Scanner:
        return _Scanner(self._dialect)

    def error_frame(self, code: str, message: str) -> bytes | None:
        return self._dialect.error_frame(code, message)


class _Scanner:
    def __init__(self, dialect: Dialect) -> None:
        self._scanner, self._known, self._framing = dialect.scanner(), dialect.known, dialect.framing
        self._believed = False
        self.foreign = False

    def scan(self, block: bytes) -> Mark:
        mark = self._scanner.scan(block)
        if self._believed or mark is Mark.BLANK:
            return mark
        first_and_last = mark in (Mark.END, Mark.ERROR) and not self.foreign
        self._believed = first_and_last or (self._known is not None and self._known.search(block) is not None)
        self.foreign = not self._believed
        if self._believed:
            return mark
        return Mark.BLANK if self._framing is SSE and not has_data(block) else Mark.EVENT

    def ends_at_framed_end(self) -> bool:
        return self._scanner.ends_at_framed_end()

    @property
    def error(self) -> str:
        return self._scanner.error

    @property
    def usage(self) -> Usage | None:
        return self._scanner.usage

    @property
    def model(self) -> str:
        return self._scanner.model
