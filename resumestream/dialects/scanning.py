"""What the scanners share: keeping what an answer tells of itself beside its text."""

from __future__ import annotations

from typing import Any

from ..framing import data_of
from ..usage import Usage
from .payload import one_line, parse

_KEPT_BYTES = 64 * 1024
"""The largest event that is kept unread."""


class Telling:
    """Usage and model of one answer. What comes later overwrites what came before; null says nothing."""

    def __init__(self) -> None:
        self.error = ""
        self._usage: dict[str, Any] = {}
        self._model = ""
        self._unread = b""

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
            self._usage |= {name: value for name, value in usage.items() if value is not None}
        if isinstance(model, str) and model:
            self._model = one_line(model)

    def _tell_later(self, block: bytes) -> None:
        """The same, read when somebody asks, unless a later one comes: some providers tell it in every event."""
        self._unread = block
        if len(block) > _KEPT_BYTES:
            self._catch_up()

    def _catch_up(self) -> None:
        block, self._unread = self._unread, b""
        if block:
            self._tell(parse(self._data(block)))
