"""Room that is kept for the worst moment: on a full disk, what ends streams and frees space must still be written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 1024 * 1024
"""Each commit that ends a stream takes some 50 KB of a log that then starts over."""


class Reserve:
    """A file that really has its blocks. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = False

    def take(self) -> bool:
        """Whether there is one now."""
        if not self._held:
            with contextlib.suppress(OSError):
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
                try:
                    os.fchmod(fd, 0o600)
                    _allocate(fd)
                    self._held = True
                finally:
                    os.close(fd)
                    if not self._held:
                        os.unlink(self._path)
        return self._held

    def give_up(self) -> bool:
        """Whether there was one: its room is free now."""
        held, self._held = self._held, False
        if held:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        return held


def _allocate(fd: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, RESERVE_BYTES)
    else:
        os.write(fd, bytes(RESERVE_BYTES))
