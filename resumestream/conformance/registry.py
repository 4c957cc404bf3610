"""The checks, each the check of one requirement, and the requirements that none can be written for."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass

from .context import Context
from .levels import area_of, level_of

Run = Callable[[Context], None]

_ID = re.compile(r"RS-[A-Z]+-[0-9]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    id: str
    run: Run
    what: str
    """One sentence: what is done and looked at."""
    needs: tuple[str, ...]
    """Names of limits that the server must have declared."""
    level: str
    """The level that must be asked for: that of its area, or another whose upstreams it goes through."""
    alone: bool
    """No other check runs beside it: it fills something up that all share."""

    @property
    def area(self) -> str:
        return area_of(self.id)


CHECKS: dict[str, Check] = {}
"""Requirement id → its check. Filled by `load`."""

EXEMPT: dict[str, str] = {}
"""Requirement id → why nothing over HTTP can show whether it holds. Filled by `load`."""


def check(
    identifier: str, *, needs: tuple[str, ...] = (), level: str = "", alone: bool = False
) -> Callable[[Run], Run]:
    """Make a function the check of one requirement. Its docstring is one sentence on what is done and looked at."""

    def register(run: Run) -> Run:
        what = " ".join((run.__doc__ or "").split())
        if not what:
            raise ValueError(f"the check of {identifier} has no docstring")
        _once(identifier)
        CHECKS[identifier] = Check(
            id=identifier, run=run, what=what, needs=needs, level=level or level_of(identifier), alone=alone
        )
        return run

    return register


def exempt(identifier: str, why: str) -> None:
    """Say that a requirement is not black-box testable, and why."""
    _once(identifier)
    EXEMPT[identifier] = why


def _once(identifier: str) -> None:
    if not _ID.fullmatch(identifier):
        raise ValueError(f"{identifier!r} is no requirement id such as RS-READ-03")
    level_of(identifier)
    if identifier in CHECKS or identifier in EXEMPT:
        raise ValueError(f"{identifier} is there twice")


def load() -> None:
    """Import every file of `checks`; what it registers is in CHECKS and EXEMPT then."""
    from . import checks

    for module in pkgutil.iter_modules(checks.__path__):
        importlib.import_module(f"{checks.__name__}.{module.name}")
