"""Packs: files of frames. A frame is a long run of one sealed stream, compressed; where it is, the catalog says."""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import sqlite3
from pathlib import Path

from .._frame import Frame, checked, damaged, inflated
from .disk import Disk

PACK_BYTES = 64 * 1024 * 1024
"""About where a pack ends and the next begins."""
TABLES = """
CREATE TABLE pack (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    worker TEXT NOT NULL  -- who may still add to it
);

CREATE TABLE frame (
    stream INTEGER NOT NULL,
    at INTEGER NOT NULL,
    length INTEGER NOT NULL,  -- of the payload; a frame as long as that is the payload itself
    pack INTEGER NOT NULL,
    position INTEGER NOT NULL,
    size INTEGER NOT NULL,
    sum INTEGER NOT NULL,  -- CRC-32 of the frame
    PRIMARY KEY (stream, at)
) WITHOUT ROWID;
CREATE INDEX frame_of_pack ON frame (pack);
"""
_NAME = re.compile(r"[0-9a-f]{32}\.pack")


class Packs:
    """What writes belongs to the catalog's writer thread; any thread may read."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory, self._disk = directory, disk
        self.worker = ""
        self._fd: int | None = None
        self._name = ""
        """Of the pack that is written to."""
        self._new = False
        self._position = 0

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.directory) if _NAME.fullmatch(name))
        except FileNotFoundError:
            return []

    def write(self, raw: bytes) -> Frame:
        """Make a frame, at disk level, that nothing names yet. Raises OSError."""
        made = Frame.of(raw)
        position = self._put(made.data)
        self._sync()
        return made._replace(data=b"", pack=self._name, position=position)

    def enter(self, conn: sqlite3.Connection, stream: int, at: int, frame: Frame) -> None:
        """Name it."""
        values = (stream, at, frame.length, self._row(conn, frame.pack), frame.position, frame.size, frame.sum)
        conn.execute("INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def move(self, conn: sqlite3.Connection, frames: list[tuple[int, int]]) -> None:
        """Write frames, each a stream and an offset, anew as they are, durably. Raises StoreError, OSError."""
        for stream, at in frames:
            start, length, name, position, size, sum_ = _frame(conn, stream, at) or _missing(at)
            position = self._put(self._stored(start, length, name, position, size, sum_))
            sql = "UPDATE frame SET pack = ?, position = ? WHERE stream = ? AND at = ?"
            conn.execute(sql, (self._row(conn, self._name), position, stream, start))
        self._sync()

    def read(self, conn: sqlite3.Connection, stream: int, at: int, end: int) -> bytes:
        """Payload from `at` on, to `end` or the end of its frame. Raises StoreError where it is not there, or not as it
        was written; OSError, FileNotFoundError where its pack is gone."""
        start, length, name, position, size, sum_ = _frame(conn, stream, at) or _missing(at)
        if at >= start + length:
            raise damaged(at, end, "they are missing")
        data = self._stored(start, length, name, position, size, sum_)
        return inflated(start, length, data)[at - start : end - start]

    def erase(self, conn: sqlite3.Connection, stream: int, most: int) -> int:
        """Overwrite some frames of a stream, about `most` bytes, and forget them. Returns how many. Raises OSError."""
        sql = "SELECT at, name, position, size FROM frame JOIN pack ON pack.row = pack WHERE stream = ? ORDER BY name"
        erased: list[tuple[int, int]] = []
        for at, name, position, size in conn.execute(sql, (stream,)).fetchall():
            if most <= 0:
                break
            most -= size
            try:
                fd = self._disk.open(self.directory / name, write=True)
            except FileNotFoundError:
                pass
            else:
                try:
                    self._disk.write_all(fd, bytes(size), position)
                    self._disk.sync(fd)
                finally:
                    os.close(fd)
            erased.append((stream, at))
        conn.executemany("DELETE FROM frame WHERE stream = ? AND at = ?", erased)
        return len(erased)

    def size(self, name: str) -> int:
        """0 where there is none."""
        try:
            return (self.directory / name).stat().st_size
        except FileNotFoundError:
            return 0

    def made_at(self, name: str) -> float:
        """Wall time."""
        try:
            return (self.directory / name).stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def framed(self, conn: sqlite3.Connection, stream: int) -> int:
        """Up to which offset there are frames."""
        sql = "SELECT ifnull(max(at + length), 0) FROM frame WHERE stream = ?"
        return int(conn.execute(sql, (stream,)).fetchone()[0])

    def unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.directory / name).unlink()

    def current(self, name: str) -> bool:
        return self._fd is not None and name == self._name

    def _put(self, data: bytes) -> int:
        """Write it behind what is there. Returns its position."""
        if self._fd is None or self._position >= PACK_BYTES:
            self._sync()
            self.close()
            self._name = f"{secrets.token_hex(16)}.pack"
            self._fd, self._position, self._new = self._disk.create(self.directory / self._name), 0, True
        self._disk.write_all(self._fd, data, self._position)
        self._position += len(data)
        return self._position - len(data)

    def _sync(self) -> None:
        if self._fd is not None:
            self._disk.sync(self._fd)
        if self._new:
            self._disk.sync_directory(self.directory)
            self._new = False

    def _row(self, conn: sqlite3.Connection, name: str) -> int:
        if found := conn.execute("SELECT row FROM pack WHERE name = ?", (name,)).fetchone():
            return int(found[0])
        return int(conn.execute("INSERT INTO pack (name, worker) VALUES (?, ?)", (name, self.worker)).lastrowid or 0)

    def _stored(self, at: int, length: int, name: str, position: int, size: int, sum_: int) -> bytes:
        fd = self._disk.open(self.directory / name)
        try:
            data = self._disk.read(fd, size, position)
        finally:
            os.close(fd)
        return checked(at, length, size, sum_, data)


_Found = tuple[int, int, str, int, int, int]
"""at, length, pack's name, position, size, sum"""


def _frame(conn: sqlite3.Connection, stream: int, at: int) -> _Found | None:
    """The last one that begins at `at` or before."""
    sql = (
        "SELECT at, length, name, position, size, sum FROM frame JOIN pack ON pack.row = pack "
        "WHERE stream = ? AND at <= ? ORDER BY at DESC LIMIT 1"
    )
    found: _Found | None = conn.execute(sql, (stream, at)).fetchone()
    return found


def _missing(at: int) -> _Found:
    raise damaged(at, at + 1, "they are missing")
