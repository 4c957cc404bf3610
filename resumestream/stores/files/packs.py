"""Packs: files of frames. A frame is a long run of one sealed stream, compressed; where it is, the catalog says."""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import sqlite3
import zlib
from pathlib import Path

from .. import _zstd
from .disk import Disk
from .segments import damaged

FRAME_BYTES = 256 * 1024
"""Payload of a frame: one block of a replay, so that a reader who goes through a stream inflates each frame once."""
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
        self._row = self._position = 0

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.directory) if _NAME.fullmatch(name))
        except FileNotFoundError:
            return []

    def add(self, conn: sqlite3.Connection, stream: int, at: int, raw: bytes) -> None:
        """Make a frame. It is not at disk level before `sync`. Raises OSError."""
        small = _zstd.compress(raw)
        data = small if len(small) < len(raw) else raw
        self._put(conn, data)
        values = (stream, at, len(raw), self._row, self._position - len(data), len(data), zlib.crc32(data))
        conn.execute("INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def move(self, conn: sqlite3.Connection, frames: list[tuple[int, int]]) -> None:
        """Write frames, each a stream and an offset, anew as they are, durably. Raises StoreError, OSError."""
        for stream, at in frames:
            start, length, name, position, size, sum_ = _frame(conn, stream, at) or _missing(at)
            self._put(conn, self._stored(start, length, name, position, size, sum_))
            sql = "UPDATE frame SET pack = ?, position = ? WHERE stream = ? AND at = ?"
            conn.execute(sql, (self._row, self._position - size, stream, start))
        if self._fd is not None and frames:
            self._disk.sync(self._fd)
            self._disk.sync_directory(self.directory)

    def read(self, conn: sqlite3.Connection, stream: int, at: int, end: int) -> bytes:
        """Payload from `at` on, to `end` or the end of its frame. Raises StoreError where it is not there, or not as it
        was written; OSError, FileNotFoundError where its pack is gone."""
        start, length, name, position, size, sum_ = _frame(conn, stream, at) or _missing(at)
        if at >= start + length:
            raise damaged(at, end, "they are missing")
        data = self._stored(start, length, name, position, size, sum_)
        raw = data if size == length else _zstd.decompress(data, length)
        return raw[at - start : end - start]

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

    def sync_of(self, conn: sqlite3.Connection, streams: set[int]) -> None:
        """Bring the frames of these streams to disk level, whoever wrote them. Raises OSError."""
        sql = "SELECT DISTINCT name FROM frame JOIN pack ON pack.row = pack WHERE stream = ?"
        names = {name for stream in streams for (name,) in conn.execute(sql, (stream,))}
        for name in names:
            fd = self._disk.open(self.directory / name, write=True)
            try:
                self._disk.sync(fd)
            finally:
                os.close(fd)
        if names:
            self._disk.sync_directory(self.directory)

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

    def current(self, row: int) -> bool:
        return self._fd is not None and row == self._row

    def _put(self, conn: sqlite3.Connection, data: bytes) -> None:
        if self._fd is not None and self._position >= PACK_BYTES:
            self.close()
        known = self._fd is not None and conn.execute("SELECT 1 FROM pack WHERE row = ?", (self._row,)).fetchone()
        if self._fd is None or not known:  # the transaction that made it may have failed
            self.close()
            name = f"{secrets.token_hex(16)}.pack"
            self._fd, self._position = self._disk.create(self.directory / name), 0
            sql = "INSERT INTO pack (name, worker) VALUES (?, ?)"
            self._row = int(conn.execute(sql, (name, self.worker)).lastrowid or 0)
        self._disk.write_all(self._fd, data, self._position)
        self._position += len(data)

    def _stored(self, at: int, length: int, name: str, position: int, size: int, sum_: int) -> bytes:
        fd = self._disk.open(self.directory / name)
        try:
            data = self._disk.read(fd, size, position)
        finally:
            os.close(fd)
        if len(data) != size or zlib.crc32(data) != sum_:
            raise damaged(at, at + length, "they are not as they were written")
        return data


_Frame = tuple[int, int, str, int, int, int]
"""at, length, pack's name, position, size, sum"""


def _frame(conn: sqlite3.Connection, stream: int, at: int) -> _Frame | None:
    """The last one that begins at `at` or before."""
    sql = (
        "SELECT at, length, name, position, size, sum FROM frame JOIN pack ON pack.row = pack "
        "WHERE stream = ? AND at <= ? ORDER BY at DESC LIMIT 1"
    )
    found: _Frame | None = conn.execute(sql, (stream, at)).fetchone()
    return found


def _missing(at: int) -> _Frame:
    raise damaged(at, at + 1, "they are missing")
