"""Where the payload of a catalog's streams is: what each durable store does its own way."""

from __future__ import annotations

import sqlite3
from typing import Protocol

from ._frame import Frame


class Payload(Protocol):
    """Called by the writer's thread, inside its transaction (`prepare`, `verify`, `audit`: inside a read)."""

    kind: str
    """Stamped on the catalog, so that no store opens another's."""
    tables: str
    """The statements that make its own tables."""

    def prepare(self, conn: sqlite3.Connection, stream: int, packed: int, tail: int) -> Frame | None:
        """Make the next frame of a sealed stream, from offset `packed` on, while others may write to the catalog. None
        where it was made before."""
        ...

    def pack(self, conn: sqlite3.Connection, stream: int, packed: int, frame: Frame | None) -> int:
        """Put the prepared frame where it stays. Returns up to where all is packed."""
        ...

    def erase(self, conn: sqlite3.Connection, stream: int) -> bool:
        """Drop the next piece of a stream that nobody may read any more. Returns whether there is more."""
        ...

    def free(self, conn: sqlite3.Connection) -> bool:
        """Give back, outside a transaction, what nobody needs any more. Returns whether there is more."""
        ...

    def verify(self, conn: sqlite3.Connection, stream: int, tail: int) -> list[str]:
        """Read all payload of a stream below `tail`. One sentence for each thing that is wrong."""
        ...

    def audit(self, conn: sqlite3.Connection) -> list[str]:
        """Look at its own tables as a whole. One sentence for each thing that is wrong."""
        ...
