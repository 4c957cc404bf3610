"""An exclusive lock that the operating system frees when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from ..errors import StoreLocked, StoreUnusable

if sys.platform == "win32":
    import msvcrt

    def _locking(fd: int, how: int) -> None:
        # Locked bytes cannot be read by others on Windows: lock one far behind the text that tells the holder.
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, how, 1)
        os.lseek(fd, 0, os.SEEK_SET)

    def lock(fd: int) -> None:
        _locking(fd, msvcrt.LK_NBLCK)

    def is_locked(fd: int) -> bool:
        try:
            lock(fd)
        except OSError:
            return True
        _locking(fd, msvcrt.LK_UNLCK)
        return False
else:
    import fcntl

    def lock(fd: int) -> None:
        """Until `fd` and every copy of it is closed, those of forked children too. Raises OSError where it is taken."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_locked(fd: int) -> bool:
        """Whether somebody holds the lock through another opening of the file. Askers do not see each other."""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
        return False


_CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def make_private(path: Path) -> None:
    """An empty file for this user alone, whatever the umask. Raises FileExistsError."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    path.chmod(0o600)


def make_folder(path: Path) -> None:
    """A directory for this user alone, and what is missing above it, there also after a power cut."""
    if not path.parent.is_dir():
        make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(0o700)
    if sys.platform != "win32":
        fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class FileLock:
    """Held from `acquire` to `release`, or to the end of the process. The file stays: unlinking it would let two
    processes lock two files of one name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Does not wait. Raises StoreLocked, and StoreUnusable where the file cannot be made."""
        try:
            with contextlib.suppress(FileExistsError):
                make_private(self.path)
            fd = os.open(self.path, os.O_RDWR | _CAREFUL)
        except OSError as error:
            raise StoreUnusable(f"the lock file {self.path} cannot be opened: {error.strerror}") from error
        try:
            lock(fd)
        except OSError:
            holder = os.read(fd, 20).decode("ascii", "replace").strip()
            os.close(fd)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise StoreLocked(f"{who} holds {self.path}; stop it, or use another store") from None
        with contextlib.suppress(OSError):  # the text is a courtesy; on a full disk the lock is as good without it
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        self._fd = fd

    def release(self) -> None:
        """Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
