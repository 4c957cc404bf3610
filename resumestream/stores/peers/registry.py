"""The directory in which the processes that serve one store find each other: a page and a socket each."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from ...errors import StoreUnusable
from ..lock import is_locked
from .page import Page

_ID = re.compile(r"[A-Za-z0-9_-]{12}")
_OPEN_DIR = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


def mint() -> str:
    """A process incarnation's id: random, never reused."""
    return secrets.token_urlsafe(9)


def is_id(text: str) -> bool:
    """Whether `mint` could have made it: nothing else becomes part of a file's name."""
    return _ID.fullmatch(text) is not None


class Registry:
    """Open from construction to `close`. Pages of others are mapped when first asked for."""

    def __init__(self, directory: Path, me: str, *, lease_s: float) -> None:
        """Raises StoreUnusable."""
        self.me = me
        self.dir_fd = _private_directory(directory)
        self._pages: dict[str, Page] = {}
        try:
            self._sweep()
            self.page = Page.create(f"{me}.page", dir_fd=self.dir_fd, lease_s=lease_s)
        except OSError as error:
            os.close(self.dir_fd)
            raise StoreUnusable(
                f"nothing can be written in {directory}: {error.strerror or error}; make room, or use another store"
            ) from error

    def close(self) -> None:
        """Leave: to the others this process is unknown from here on."""
        self._unlink(self.me)
        for page in self._pages.values():
            page.close()
        self.page.close()
        os.close(self.dir_fd)

    def workers(self) -> list[str]:
        """Everybody else who has a page, dead ones too. Raises OSError."""
        names = (name for name in os.listdir(self.dir_fd) if name.endswith(".page"))
        return sorted(worker for name in names if is_id(worker := name.removesuffix(".page")) and worker != self.me)

    def find(self, worker: str) -> Page | None:
        """Its page; None where there is none. Raises OSError where that cannot be told."""
        if worker == self.me:
            return self.page
        if worker not in self._pages and is_id(worker):
            with contextlib.suppress(FileNotFoundError):
                self._pages[worker] = Page.open(f"{worker}.page", dir_fd=self.dir_fd)
        return self._pages.get(worker)

    def gone(self, worker: str) -> bool:
        """Whether it is certainly dead, or unknown."""
        if worker == self.me:
            return False
        try:
            page = self.find(worker)
            return page is None or not page.alive
        except OSError:  # out of descriptors, say: that proves nothing
            return False

    def bury(self, worker: str) -> None:
        if is_id(worker) and self.gone(worker):
            self.forget(worker)
            self._unlink(worker)

    def forget(self, worker: str) -> None:
        """Unmap its page."""
        if page := self._pages.pop(worker, None):
            page.close()

    def mapped(self) -> list[str]:
        return list(self._pages)

    def _unlink(self, worker: str) -> None:
        for name in (f"{worker}.sock", f"{worker}.page"):  # the page last: it is what leads to the rest
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self.dir_fd)

    def _sweep(self) -> None:
        """Drop drafts of pages whose makers died over them."""
        for draft in os.listdir(self.dir_fd):
            if not draft.endswith(".new") or not is_id(draft.removesuffix(".new")):
                continue
            with contextlib.suppress(OSError):
                fd = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.dir_fd)
                try:
                    if not is_locked(fd):
                        os.unlink(draft, dir_fd=self.dir_fd)
                finally:
                    os.close(fd)


def _private_directory(directory: Path) -> int:
    """A descriptor of it, made for this user alone where it is not there. Raises StoreUnusable."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(directory, _OPEN_DIR)
    except OSError as error:
        why = (
            "it is a link or no directory"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror
        )
        raise StoreUnusable(
            f"{directory} cannot be used as a directory: {why}; remove it, or use another store"
        ) from error
    found = os.fstat(fd)
    if found.st_uid != os.geteuid():
        os.close(fd)
        raise StoreUnusable(f"{directory} belongs to user {found.st_uid}; serve one store as one user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.fchmod(fd, 0o700)
    return fd
