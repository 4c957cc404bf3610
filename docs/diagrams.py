"""What the docs take from the code: drawn here, never typed. `python -m docs.diagrams` writes it into the pages."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from resumestream import claims, errors, policy, route
from resumestream.dialects import DIALECTS
from resumestream.errors import ResumeStreamError as BaseError
from resumestream.http.measures import MEASURES
from resumestream.http.problems import OUTCOME_STATUS
from resumestream.lifecycle import ENDINGS, TRANSITIONS, Moved
from resumestream.model import State
from resumestream.upstream import KNOWN, Upstream

from . import commands, pictures, remedies
from .markdown import code, sentence, table

DOCS = Path(__file__).parent


def lifecycle_picture() -> str:
    """The transition table as a picture; moves between the same two states share one arrow."""
    arrows = {}
    for state, moves in TRANSITIONS.items():
        for target in dict.fromkeys(moves.values()):
            causes = [moved for moved in moves if moves[moved] is target]
            arrows[state.value, target.value] = "any ending" if causes == list(ENDINGS) else ", ".join(causes)
    return pictures.state_diagram("The states of a stream", arrows, list(State))


def lifecycle_table() -> str:
    """Every move in every state, and the outcome that an ending gives."""
    rows = [
        [moved, *(TRANSITIONS[state].get(moved, "illegal") for state in State), code(ENDINGS.get(moved))]
        for moved in Moved
    ]
    return table(["what happened", *State, "outcome"], rows)


def key_table() -> str:
    """What a POST with a key does, by how its stream is doing and what it consents to."""
    said = {
        claims.Verdict.START: "a new call",
        claims.Verdict.ATTACH: "attach",
        claims.Verdict.EXPIRED: answer(errors.KeyExpired),
        claims.Verdict.MISMATCH: answer(errors.RetryMismatch),
    }
    rows = [
        [standing.value, *(said[verdicts[consent]] for consent in claims.Consent)]
        for standing, verdicts in claims.DECISIONS.items()
    ]
    return table(["the key's stream", *(f"consent: {consent.value}" for consent in claims.Consent)], rows)


def route_table() -> str:
    """What may follow a provider call that failed."""
    rows = [
        [failure.value, *(retries[shown].value for shown in route.Shown)]
        for failure, retries in route.DECISIONS.items()
    ]
    return table(["the call", *(f"readers have {shown.value}" for shown in route.Shown)], rows)


def error_table() -> str:
    """Every error that a caller can meet."""
    rows = [
        [code(kind.code), str(kind.status), yes(kind.retry), code(kind.__name__), sentence(kind.__doc__)]
        for kind in errors_of_ours()
    ]
    return table(["code", "status", "retry helps", "Python", "when"], rows)


def remedy_table() -> str:
    """What to do about each of them."""
    return table(["code", "what to do"], [[code(it.code), remedies.ERRORS[it.code]] for it in errors_of_ours()])


def outcome_table() -> str:
    """Problems that tell how a stream ended."""
    rows = [
        [code(outcome.value.replace("_", "-")), str(status), remedies.OUTCOMES[outcome]]
        for outcome, status in OUTCOME_STATUS.items()
    ]
    return table(["code", "status", "what happened"], rows)


def errors_of_ours() -> list[type[BaseError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseError)]


def answer(kind: type[BaseError]) -> str:
    """Its status and code."""
    return f"{kind.status} {code(kind.code)}"


def yes(fact: bool) -> str:
    return "yes" if fact else "no"


def policy_table() -> str:
    """Every field of Policy with its default, its unit and its docstring."""
    return fields_table(policy.Policy, unit=unit)


def unit(name: str) -> str:
    """As the name says it."""
    if name.endswith("_bytes"):
        return "bytes"
    return "seconds" if name.endswith("_s") else "count" if name.startswith("max_") else ""


def upstream_table() -> str:
    """Every field of Upstream with its default and its docstring."""
    return fields_table(Upstream)


def fields_table(kind: Any, unit: Callable[[str], str] | None = None) -> str:
    """The fields of a dataclass, each with its default and the string below it; where asked, with its unit."""
    [body] = [node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef)]
    docs = {
        ast.unparse(field.target): ast.literal_eval(doc.value)
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }
    rows = [
        [
            code(spec.name),
            "" if spec.default is MISSING else code(spec.default),
            *([unit(spec.name)] if unit else []),
            sentence(docs.get(spec.name)),
        ]
        for spec in fields(kind)
    ]
    return table(["field", "default", *(["unit"] if unit else []), "meaning"], rows)


def known_table() -> str:
    """Every name that `serve` knows, and where it leads."""
    return table(["name", "base URL"], [[code(name), code(url)] for name, url in KNOWN.items()])


def dialect_table() -> str:
    """Every dialect: where it is expected, how it ends, and what may be added to it."""
    rows = []
    for dialect in DIALECTS.values():
        media = (
            ", ".join(map(code, sorted(dialect.framing.media_types))) if dialect is not DIALECTS["plain"] else "other"
        )
        where = (
            f"`{dialect.endpoint.pattern}`".replace("|", r"\|") if dialect.endpoint else code(dialect.header or None)
        )
        added = dialect.error_frame("code", "message") and sentence(type(dialect).error_frame.__doc__)
        kept = dialect.keepalive and code(repr(dialect.keepalive)[2:-1])
        rows.append([code(dialect.name), media, where, sentence(type(dialect).__doc__), kept or "", added or ""])
    return table(
        ["dialect", "media type", "path or header", "how it ends", "keep-alive", "failure in the stream"], rows
    )


def frame_table() -> str:
    """The bytes that tell of a failure in each dialect, in hexadecimal where it is no text."""
    framed = {dialect: dialect.error_frame("CODE", "MESSAGE") for dialect in DIALECTS.values()}
    rows = [
        [code(dialect.name), code(repr(frame)[2:-1] if frame.isascii() else frame.hex())]
        for dialect, frame in framed.items()
        if frame
    ]
    return table(["dialect", "failure frame"], rows)


def metric_table() -> str:
    """Every metric with its type, its labels and what it says."""
    rows = [
        [code(it.name), "counter" if it.grows else "gauge", ", ".join(map(code, it.labels)), it.meaning]
        for it in MEASURES
    ]
    return table(["metric", "type", "labels", "what it says"], rows)


DRAWN: dict[str, Callable[[], str]] = {
    "lifecycle-table": lifecycle_table,
    "key-table": key_table,
    "route-table": route_table,
    "error-table": error_table,
    "remedy-table": remedy_table,
    "outcome-table": outcome_table,
    "policy-table": policy_table,
    "upstream-table": upstream_table,
    "known-table": known_table,
    "dialect-table": dialect_table,
    "frame-table": frame_table,
    "metric-table": metric_table,
    **{f"command-{name}": partial(commands.command, name) for name in commands.COMMANDS},
}
"""What a page asks for by name."""

PICTURES: dict[str, Callable[[], str]] = {"lifecycle.svg": lifecycle_picture}
"""Files beside the pages."""


def redrawn(page: str) -> str:
    """`page` with everything between `<!-- drawn: NAME -->` and `<!-- end -->` drawn anew."""

    def draw(match: re.Match[str]) -> str:
        return f"{match[1]}\n{DRAWN[match[2]]()}\n<!-- end -->"

    return re.sub(r"(<!-- drawn: ([\w-]+) -->)\n.*?<!-- end -->", draw, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("**/*.md")):
        path.write_text(redrawn(path.read_text(encoding="utf-8")), encoding="utf-8")
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
