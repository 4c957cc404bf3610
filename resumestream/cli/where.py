"""Where a command looks: into a store, beside whoever serves it, or at a running server."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .offline import Offline
from .remote import Remote
from .streams import Streams

Store = Annotated[
    str | None,
    typer.Option(
        metavar="S",
        help="A path (SQLite) or store URL. Default: $RESUMESTREAM_STORE, else streams.db in the user data directory.",
    ),
]
Url = Annotated[str | None, typer.Option(metavar="URL", help="Ask a running server instead, at its mount point.")]
Header = Annotated[
    list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="Send this header to the server; repeatable.")
]
TokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Send the token in this file to the server, as a Bearer.")
]


def where(
    store: str | None, url: str | None, header: list[str] | None, token_file: Path | None
) -> AbstractAsyncContextManager[Streams]:
    """What the options name. Raises ConfigError."""
    if url is None:
        if header or token_file:
            raise ConfigError("--header and --token-file go to a server: name it with --url")
        return Offline(resolve(store))
    if store is not None:
        raise ConfigError("--store and --url exclude each other: look into a store, or ask the server")
    return Remote(url, [*map(_split_header, header or ()), *_bearer(token_file)])


def resolve(store: str | None) -> str:
    """The store to use where the command line named `store` or none."""
    if store is not None:
        return store
    return os.environ.get("RESUMESTREAM_STORE") or str(_user_data_directory() / "streams.db")


def _user_data_directory() -> Path:
    home, environ = Path.home(), os.environ
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "resumestream"


def _split_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError("--header is written 'Name: value'")
    return name.strip(), value.strip()


def _bearer(token_file: Path | None) -> list[tuple[str, str]]:
    if token_file is None:
        return []
    try:
        token = token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {token_file} cannot be read: {error}") from error
    return [("authorization", f"Bearer {token}")]
