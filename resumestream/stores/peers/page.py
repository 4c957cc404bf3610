"""The page each serving process shows the others: a file of 8-byte words, mapped by its owner and by its readers.

A mapped word is one aligned 8-byte load or store on every platform that is served (a cast memoryview copies it whole),
so nobody reads half of one. Words are in the machine's byte order: the page never leaves the machine.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
import uuid
from pathlib import Path
from typing import Literal

from ..lock import is_locked, lock

Word = Literal["magic", "beats", "changes", "boot", "fences", "mark_segment", "mark_position"]
Real = Literal["lease_s", "clock_start"]

WORDS: dict[Word | Real, int] = {
    "magic": 0,
    "beats": 1,
    "lease_s": 2,
    "changes": 3,
    "clock_start": 4,
    "boot": 5,
    "fences": 6,
    "mark_segment": 7,
    "mark_position": 8,
}
"""Name -> its place, in words. Who writes: `fences` the takers, everything else the owner."""
SIZE = 4096
MAGIC = int.from_bytes(b"rspeer\x00\x01", "big")
"""The last byte is the version of this table."""


def boot_id() -> int:
    """64 random bits that change with every boot; 0 where the platform does not tell."""
    with contextlib.suppress(OSError, ValueError):
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()).int >> 64
    return 0


class Page:
    """Open until `close`; not for the children of a fork. `get` and `set` do not fail while it is open."""

    def __init__(self, fd: int, *, mine: bool) -> None:
        """Takes `fd` over. Raises OSError on what is no page."""
        self._fd = fd
        self._mine = mine
        try:
            self._map = mmap.mmap(fd, SIZE, access=mmap.ACCESS_WRITE if mine else mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise OSError(f"no page: {error}") from error
        self._words = memoryview(self._map).cast("Q")
        self._reals = memoryview(self._map).cast("d")

    @classmethod
    def create(cls, name: str, *, dir_fd: int, lease_s: float) -> Page:
        """Make one and lock it for life. It is whole and locked before it has its name, so that a page whose lock is
        free proves a death. Raises OSError."""
        draft = name.removesuffix(".page") + ".new"
        while True:
            fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=dir_fd)
            try:
                page = cls._whole(fd, lease_s)
            except BlockingIOError:  # another starter looks whether a dead process left the draft, and drops it
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=dir_fd)
                continue
            try:
                os.rename(draft, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            except FileNotFoundError:
                page.close()  # it has dropped it
            else:
                return page

    @classmethod
    def _whole(cls, fd: int, lease_s: float) -> Page:
        try:
            os.fchmod(fd, 0o600)
            lock(fd)
            written = 0
            while written < SIZE:  # real blocks: a store into a hole of a full disk would kill the process
                written += os.write(fd, bytes(SIZE - written))
        except OSError:
            os.close(fd)
            raise
        page = cls(fd, mine=True)
        page._words[WORDS["magic"]] = MAGIC
        page._words[WORDS["boot"]] = boot_id()
        page._reals[WORDS["lease_s"]] = lease_s
        page._reals[WORDS["clock_start"]] = math.nan
        return page

    @classmethod
    def open(cls, name: str, *, dir_fd: int) -> Page:
        """Another's. Raises FileNotFoundError, and OSError where it cannot be opened."""
        return cls(os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd), mine=False)

    def close(self) -> None:
        self._words.release()
        self._reals.release()
        self._map.close()
        os.close(self._fd)

    @property
    def known(self) -> bool:
        """Whether the words mean what this version thinks."""
        return self._words[0] == MAGIC

    @property
    def alive(self) -> bool:
        """Whether its owner lives, be it frozen. Once False, always False."""
        return self._mine or is_locked(self._fd)

    @property
    def lease_s(self) -> float:
        return self._reals[WORDS["lease_s"]]

    @property
    def clock_start(self) -> float | None:
        """Store clock minus elapsed time, in seconds; None until published."""
        start = self._reals[WORDS["clock_start"]]
        return None if math.isnan(start) else start

    @clock_start.setter
    def clock_start(self, start: float) -> None:
        self._reals[WORDS["clock_start"]] = start

    def get(self, name: Word) -> int:
        return self._words[WORDS[name]]

    def set(self, name: Word, value: int) -> None:
        """On another's page only `fences`, ordered like any write to a file. Two takers that count it up lose one of
        two counts: write 64 random bits, and compare for equality."""
        if self._mine:
            self._words[WORDS[name]] = value
        else:
            os.pwrite(self._fd, struct.pack("=Q", value), 8 * WORDS[name])
