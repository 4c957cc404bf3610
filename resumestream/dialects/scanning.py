"""What the scanners share: keeping what an answer tells of itself beside its text."""

from __future__ import annotations

from typing import Any

from ..framing import data_of
from ..usage import Usage
from .payload import one_line, parse

_KEPT_BYTES = 64 * 1024
"""How much is kept unread."""
_KEPT = 8
"""How many events are."""
_MOST_NAMES, _MOST_PARTS = 64, 128
"""Of a usage, and of the choices of one answer. More than any provider has; beyond it nothing is kept in memory."""


class Telling:
    """Usage and model of one answer. What comes later overwrites what came before; null says nothing."""

    foreign = False

    def __init__(self) -> None:
        self.error = ""
        self._usage: dict[str, Any] = {}
        self._model = ""
        self._unread: list[bytes] = []

    @property
    def usage(self) -> Usage | None:
        self._catch_up()
        return Usage.of(self._usage)

    @property
    def model(self) -> str:
        self._catch_up()
        return self._model

    def ends_at_framed_end(self) -> bool:
        return False

    def _told(self, body: dict[str, Any]) -> tuple[object, object]:
        """The usage and the model that an event tells, if it does."""
        return body.get("usage"), body.get("model")

    def _data(self, block: bytes) -> bytes:
        return data_of(block)

    def _tell(self, body: dict[str, Any]) -> None:
        """Take over what `body` tells."""
        usage, model = self._told(body)
        if isinstance(usage, dict):
            for name, value in usage.items():
                if value is not None and (name in self._usage or len(self._usage) < _MOST_NAMES):
                    self._usage[name] = value
        if isinstance(model, str) and model:
            self._model = one_line(model)

    def _tell_later(self, block: bytes) -> None:
        """The same, read when somebody asks, or when there are several: some providers tell it in every event, and only
        the last one that does is worth reading."""
        self._unread.append(block)
        if len(self._unread) == _KEPT or sum(map(len, self._unread)) > _KEPT_BYTES:
            self._catch_up()

    def _catch_up(self) -> None:
        unread, self._unread = self._unread, []
        bodies: list[dict[str, Any]] = []
        while unread and not (bodies and _says_something(self._told(bodies[-1])[0])):
            bodies.append(parse(self._data(unread.pop())))
        for body in reversed(bodies):
            self._tell(body)


class Finished:
    """Which parts of an answer (choices, candidates) are finished, by their index. The first is always there."""

    def __init__(self) -> None:
        self._seen = {0: False}
        self._too_many = False

    def saw(self, index: int, finished: object) -> None:
        """A piece of that part came, and said whether it is the last."""
        if index in self._seen or len(self._seen) < _MOST_PARTS:
            self._seen[index] = self._seen.get(index, False) or bool(finished)
        else:
            self._too_many = True

    @property
    def all(self) -> bool:
        """Of more parts than are kept in memory, never."""
        return not self._too_many and all(self._seen.values())


def bare_counts(body: dict[str, Any]) -> dict[str, Any]:
    """The counts and durations of Ollama's last line, which has no object for its usage."""
    if "eval_count" not in body and "prompt_eval_count" not in body:
        return {}
    return {name: value for name, value in body.items() if name.endswith(("_count", "_duration"))}


def _says_something(usage: object) -> bool:
    return isinstance(usage, dict) and any(value is not None for value in usage.values())
