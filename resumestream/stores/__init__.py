"""Where streams are kept. `open_store` turns what a person writes into a LogStore."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ConfigError
from ..policy import Policy
from ..ports import LogStore
from .filesystem import FileStore
from .memory import MemoryStore
from .sqlite import SQLiteStore

__all__ = ["FileStore", "MemoryStore", "SQLiteStore", "open_store"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)  # two letters at least: C:\ is a path
_FORMS = (
    "a path (SQLite), sqlite:///relative, sqlite:////absolute, file:relative, file:///absolute, memory:, or a LogStore"
)


def open_store(store: str | os.PathLike[str] | LogStore, *, policy: Policy, serving: bool) -> LogStore:
    """The store, not entered yet; nothing is touched before that. `serving`: the caller will drain into it;
    otherwise it looks at a store that is there, also while a server has it. Raises ConfigError."""
    if not isinstance(store, str | os.PathLike):
        if not isinstance(store, LogStore):
            raise ConfigError(f"store is a {type(store).__name__}; use {_FORMS}")
        return store
    text = os.fspath(store)
    scheme, rest = found.groups() if isinstance(store, str) and (found := _SCHEME.fullmatch(text)) else ("", text)
    match scheme.lower():
        case "memory" if not rest:
            return MemoryStore()
        case "sqlite" if rest.startswith("///") and rest != "///":
            return SQLiteStore(Path(rest[3:]), policy=policy, serving=serving)
        case "" if rest and rest != ":memory:":
            return SQLiteStore(Path(rest), policy=policy, serving=serving)
        case "file" if (path := re.sub("^//(?=/)", "", rest)) and not path.startswith("//"):
            return FileStore(Path(path), policy=policy, serving=serving)
    raise ConfigError(f"store {text!r} is not understood; use {_FORMS}")
