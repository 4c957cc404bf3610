"""What a power cut may leave of a directory, from the shim's log of everything that was done in it.

What was synced is there. Of a file's unsynced writes any subset of sectors is; where the file grew over a lost one,
there are zeros. Of a directory's unsynced changes a prefix is, as file systems journal them. What is mapped into memory
and written there never is: files like SQLite's `-shm` come back as zeros, or not at all.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .judge import Said

_RECORD = struct.Struct("<IIIQq")
WRITE, SIZE, SYNC, CREATE, RENAME, LINK, UNLINK, MKDIR, ALLOCATE, NOTE, LOST = (1 << bit for bit in range(11))
SECTORS = (512, 4096)
SURVIVAL = (0.0, 0.1, 0.5, 0.9, 1.0)
"""How much of what was not synced a cut leaves."""


@dataclass(eq=False)
class File:
    synced: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Offset and data of a write, or a new size and None."""

    def now(self) -> bytes:
        data = bytearray(self.synced)
        for at, what in self.pending:
            _apply(data, at, what)
        return bytes(data)

    def after(self, rng: random.Random, survival: float, sector: int) -> bytes:
        data = bytearray(self.synced)
        size = len(data)
        for at, what in self.pending:
            size = at if what is None else max(size, at + len(what))
            if what is None:
                if rng.random() < survival:
                    _apply(data, at, None)
                continue
            start = at
            while start < at + len(what):
                end = min(at + len(what), start - start % sector + sector)
                if rng.random() < survival:
                    _apply(data, start, what[start - at : end - at])
                start = end
        if len(data) < size and rng.random() < 0.5:
            _apply(data, size, None)
        return bytes(data)


def _apply(data: bytearray, at: int, what: bytes | None) -> None:
    end = at if what is None else at + len(what)
    if len(data) < end:
        data.extend(bytes(end - len(data)))
    if what is None:
        del data[end:]
    else:
        data[at:end] = what


Entry = File | None
"""A file, or a directory."""
_GONE = File()


@dataclass(eq=False)
class Change:
    """Of names, at once: what each now means."""

    names: dict[str, Entry]

    @property
    def directories(self) -> set[str]:
        return {name.rpartition("/")[0] for name in self.names}


class Disk:
    """A directory as the log has left it so far, empty at first."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._open: dict[int, File] = {}
        """By inode."""
        self._names: dict[str, Entry] = {}
        self._durable: dict[str, Entry] = {}
        self._pending: list[Change] = []

    def do(self, op: int, inode: int, path: str, data: bytes, at: int) -> None:
        if op == WRITE:
            self._open[inode].pending.append((at, data))
        elif op == SIZE:
            self._open[inode].pending.append((at, None))
        elif op == ALLOCATE:
            file = self._open[inode]
            if len(file.now()) < at:
                file.pending.append((at, None))
        elif op == LOST and self._is_file(path):
            self._open[inode].pending = []
        elif op in (SYNC, LOST):  # a directory's changes are in the journal still: no file system goes on without them
            self._sync(inode, path)
        elif op == CREATE:
            self._open[inode] = File()
            self._change({path: self._open[inode]})
        elif op == RENAME:
            self._change({data.decode(): self._names[path], path: _GONE})
        elif op == LINK:
            self._change({data.decode(): self._names[path]})
        elif op == UNLINK:
            self._change({path: _GONE})
        elif op == MKDIR:
            self._change({path: None})

    def _is_file(self, path: str) -> bool:
        return self._names.get(path) is not None

    def _change(self, names: dict[str, Entry]) -> None:
        self._pending.append(Change(names))
        _merge(self._names, names)

    def _sync(self, inode: int, path: str) -> None:
        if self._is_file(path):
            file = self._open[inode]
            file.synced, file.pending = file.now(), []
            return
        for change in [change for change in self._pending if path in change.directories]:
            _merge(self._durable, change.names)
            self._pending.remove(change)

    def cut(self, rng: random.Random, to: Path, survival: float | None = None) -> None:
        """Write to `to` what one power cut could leave, of what was not synced about `survival` (None: any part)."""
        survival = rng.choice(SURVIVAL) if survival is None else survival
        sector = rng.choice(SECTORS)
        names = dict(self._durable)
        left: dict[str, int] = {}
        for directory in sorted({name for change in self._pending for name in change.directories}):
            mine = sum(directory in change.directories for change in self._pending)
            left[directory] = sum(rng.random() < survival for _ in range(mine))
        for change in self._pending:
            if all(left[directory] > 0 for directory in change.directories):
                _merge(names, change.names)
            for directory in change.directories:
                left[directory] -= 1
        contents: dict[int, bytes] = {}
        to.mkdir()
        for name, file in sorted(names.items()):
            path = to / name.removeprefix(self._root + "/")
            if name.endswith("-shm") or not path.parent.is_dir():
                continue
            if file is None:
                path.mkdir()
            else:
                if id(file) not in contents:
                    contents[id(file)] = file.after(rng, survival, sector)
                path.write_bytes(contents[id(file)])


def _merge(names: dict[str, Entry], change: dict[str, Entry]) -> None:
    for name, file in change.items():
        if file is _GONE:
            names.pop(name, None)
        else:
            names[name] = file


def replay(log: Path, root: Path, until: str | None = None) -> Iterator[tuple[int, Said, Disk]]:
    """After each operation, up to where `until` was said: its number, what had been said until then, and the disk; the
    last two go on changing."""
    disk, said, data, position, number = Disk(root), [], log.read_bytes(), 0, 0
    while position < len(data):
        op, path_size, size, inode, at = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size
        path, position = data[start : start + path_size].decode(), start + path_size + size
        body = data[start + path_size : position]
        if op == NOTE:
            what, stream, offset = json.loads(body)
            if what == until:
                return
            said.append((what, stream, offset))
        else:
            disk.do(op, inode, path, body, at)
            number += 1
            yield number, said, disk
