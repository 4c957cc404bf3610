"""Small pieces of Markdown."""

from __future__ import annotations

import inspect


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def code(value: object) -> str:
    """`value` in code style, numbers with thin groups; nothing for None."""
    if value is None:
        return ""
    return f"`{value:_}`" if isinstance(value, int | float) and not isinstance(value, bool) else f"`{value}`"


def sentence(doc: str | None) -> str:
    """A docstring's first paragraph on one line."""
    return " ".join(inspect.cleandoc(doc or "").partition("\n\n")[0].split())
