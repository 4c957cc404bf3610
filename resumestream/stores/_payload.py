"""Where the payload of a catalog's streams is: what each durable store does its own way."""

from __future__ import annotations

import sqlite3
from typing import Protocol


class Payload(Protocol):
    """Called by the writer's thread, inside its transaction (`verify`, `audit`: by any thread, inside a read)."""

    kind: str
    """Stamped on the catalog, so that no store opens another's."""
    tables: str
    """The statements that make its own tables."""

    def pack(self, conn: sqlite3.Connection, stream: int, packed: int, tail: int) -> int:
        """Move the next piece of a sealed stream, from offset `packed` on, to where it stays. Returns where it ends."""
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
