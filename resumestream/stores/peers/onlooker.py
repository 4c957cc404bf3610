"""The peers of a store as a process sees them that serves nothing: a command beside the servers, or without any."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from .alone import Alone
from .mailbox import DESCRIPTORS
from .messages import Kind, Message
from .page import Page
from .registry import is_id


class Onlooker(Alone):
    """Has no page, so that nobody takes it for a server, and leaves nothing behind. Only locks tell it who lives: a
    server that is merely silent does."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def lost(self, worker: str) -> bool:
        if worker == self.me or not is_id(worker):
            return worker != self.me
        try:
            with self._page(worker) as page:
                return not page.alive
        except FileNotFoundError:
            return True
        except OSError:  # not seen is not dead
            return False

    def alone(self) -> bool:
        try:
            return all(map(self.lost, self._workers()))
        except OSError:
            return False

    def tell(self, worker: str) -> None:
        if not is_id(worker):
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with self._place() as place:
                sock.sendto(Message(Kind.LOOK, self.me).encode(), f"{place}/{worker}.sock")

    @property
    def clock_start(self) -> float | None:
        """What the store clocks of the living go by; None where there are none."""
        with contextlib.suppress(OSError):
            for worker in self._workers():
                with contextlib.suppress(OSError), self._page(worker) as page:
                    if page.known and page.alive and page.clock_start is not None:
                        return page.clock_start
        return None

    def _workers(self) -> list[str]:
        """Everybody who has a page, dead ones too; nobody where no server ever was. Raises OSError."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return [name.removesuffix(".page") for name in names if name.endswith(".page")]

    @contextlib.contextmanager
    def _page(self, worker: str) -> Iterator[Page]:
        with self._descriptor() as dir_fd:
            page = Page.open(f"{worker}.page", dir_fd=dir_fd)
        try:
            yield page
        finally:
            page.close()

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        """The directory by a name that is short enough for a socket's address, where the platform has one."""
        with self._descriptor() as dir_fd:
            short = DESCRIPTORS / str(dir_fd)
            yield short if short.is_dir() else self._directory.absolute()

    @contextlib.contextmanager
    def _descriptor(self) -> Iterator[int]:
        dir_fd = os.open(self._directory, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0))
        try:
            yield dir_fd
        finally:
            os.close(dir_fd)
