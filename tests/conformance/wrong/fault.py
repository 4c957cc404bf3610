"""What a wrong server is: the right one, with one thing put into it or around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from .edits import Around


@dataclass(frozen=True)
class Wrong:
    ids: tuple[str, ...]
    """At least one of these requirements must tell."""
    around: Around = lambda app: app
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Holds while the server runs."""


Put = Callable[[Any], Any]


def put(where: Any, name: str, wrong: Put) -> Callable[[], AbstractContextManager[Any]]:
    """Another function in the place of that one; `wrong` makes it from the right one."""

    @contextmanager
    def putting() -> Iterator[None]:
        with patch.object(where, name, wrong(getattr(where, name))):
            yield

    return putting


def always(value: Any) -> Put:
    """That result, whatever is asked."""
    return lambda right: lambda *args, **options: value


async def nothing(*args: Any, **options: Any) -> None:
    """An async function that does nothing."""
