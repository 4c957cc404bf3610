"""The command line, as its own parser has it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import EnumType
from typing import Any, Literal, get_args, get_origin

import typer

from resumestream.cli import app

from .markdown import code, sentence, table

COMMANDS: Mapping[str, Any] = vars(typer.main.get_command(app))["commands"]


def command(name: str) -> str:
    """Usage, purpose, and every argument and option of one command."""
    it = COMMANDS[name]
    params = [param for param in it.params if not getattr(param, "hidden", False)]
    used = " ".join(["resumestream", name, *(_shown(param) for param in params if not _is_option(param)), "[OPTIONS]"])
    rows = [[code(_shown(param)), _default(param), _help(param)] for param in params]
    shown = table(["argument or option", "default", "meaning"], rows)
    return "\n".join(["```text", used, "```", "", sentence(it.help), "", shown])


def _is_option(param: Any) -> bool:
    return str(param.opts[0]).startswith("-")


def _shown(param: Any) -> str:
    """As on a command line: its name, and what it wants in one word."""
    wants = str(param.metavar or str(param.name).upper())
    if not _is_option(param):
        return wants
    if param.is_flag:
        wants = ""
    elif choices := _choices(param.type_descriptor.annotation):
        wants = r"\|".join(choices)
    return f"{', '.join(param.opts)} {wants}".strip()


def _choices(annotation: Any) -> list[str]:
    """The words that it can be; none where it can be anything."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return list(map(str, annotation)) if isinstance(annotation, EnumType) else []


def _default(param: Any) -> str:
    if param.default is None or (_is_option(param) and param.is_flag):
        return ""
    return f"`{param.default:g}`" if isinstance(param.default, int | float) else code(param.default)


def _help(param: Any) -> str:
    """Without what escapes markup on a terminal."""
    return str(param.help or "").replace(r"\[", "[")
