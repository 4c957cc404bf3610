"""The calls that touch the disk, in one place: what a test replaces to make it full or broken.

A place is where a record begins: segment number and position in one integer, in the order in which they are written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from ...errors import StoreError, StoreFull
from .._schema import LostSync

_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
if sys.platform == "darwin":
    import fcntl

    def _sync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # its fsync leaves the data in the drive's cache
elif sys.platform == "win32":
    _sync = os.fsync
else:
    _sync = os.fdatasync


def place(segment: int, position: int) -> int:
    return segment << 32 | position


def parts(place: int) -> tuple[int, int]:
    """Segment and position."""
    return place >> 32, place & 0xFFFF_FFFF


class Disk:
    """Raises OSError; `failure` makes a StoreError of it."""

    def create(self, path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o600)
        os.fchmod(fd, 0o600)
        return fd

    def open(self, path: Path, *, write: bool = False) -> int:
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | _CAREFUL)

    def make_directory(self, path: Path) -> None:
        """For this user alone, and never through a link. Raises FileExistsError on one."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if path.is_symlink() or not path.is_dir():
            raise FileExistsError(errno.EEXIST, "it is a link or no directory", str(path))
        path.chmod(0o700)

    def write(self, fd: int, data: bytes, position: int) -> int:
        """How much of it was written: less than all where there is no space for more."""
        return os.pwrite(fd, data, position)

    def read(self, fd: int, size: int, position: int) -> bytes:
        return os.pread(fd, size, position)

    def flush(self, fd: int) -> None:
        """Bring a file, or what was made or removed in a directory, to disk level."""
        _sync(fd)

    def sync(self, fd: int) -> None:
        """`flush`. Raises LostSync where it fails: after that nothing can be relied on that is written here."""
        try:
            self.flush(fd)
        except OSError as error:
            raise LostSync(*error.args) from error

    def sync_directory(self, path: Path) -> None:
        """What was made or removed in it. Raises LostSync."""
        fd = os.open(path, os.O_RDONLY | _DIRECTORY | _CAREFUL)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def write_all(self, fd: int, data: bytes, position: int) -> None:
        """All of it. Raises OSError where there is no space for it."""
        while data:
            written = self.write(fd, data, position)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data, position = data[written:], position + written


def failure(error: OSError, where: str | Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"no space is left for the store at {where}; free some. What was acknowledged is kept")
    return StoreError(f"the store at {where} failed ({error.strerror or error})")
