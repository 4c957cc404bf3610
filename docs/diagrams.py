"""What the docs take from the code: drawn here, never typed. `nox -s docs` writes it into the pages."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from resumestream import claims, errors, policy, route
from resumestream.dialects import DIALECTS
from resumestream.errors import ResumeStreamError as BaseError
from resumestream.http.measures import MEASURES
from resumestream.lifecycle import ENDINGS, TRANSITIONS, Moved
from resumestream.model import State
from resumestream.upstream import Upstream

DOCS = Path(__file__).parent


def lifecycle_diagram() -> str:
    """The transition table as a Mermaid state diagram; moves between the same two states share one arrow."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(TRANSITIONS))}"]
    for state, moves in TRANSITIONS.items():
        for target in dict.fromkeys(moves.values()):
            causes = [moved for moved in moves if moves[moved] is target]
            label = "any ending" if causes == list(ENDINGS) else ", ".join(causes)
            lines.append(f"    {state} --> {target}: {label}")
    lines += [f"    {state} --> [*]" for state, moves in TRANSITIONS.items() if not moves]
    return "\n".join([*lines, "```"])


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
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseError)]
    rows = [
        [code(kind.code), str(kind.status), "yes" if kind.retry else "no", code(kind.__name__), sentence(kind.__doc__)]
        for kind in kinds
    ]
    return table(["code", "status", "retry helps", "Python", "when"], rows)


def policy_table() -> str:
    """Every field of Policy with its default and its docstring."""
    return fields_table(policy.Policy)


def upstream_table() -> str:
    """Every field of Upstream with its default and its docstring."""
    return fields_table(Upstream)


def fields_table(kind: Any) -> str:
    """The fields of a dataclass, each with its default and the string below it."""
    [body] = [node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef)]
    docs = {
        ast.unparse(field.target): ast.literal_eval(doc.value)
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }
    rows = [
        [code(spec.name), "" if spec.default is MISSING else code(spec.default), sentence(docs.get(spec.name))]
        for spec in fields(kind)
    ]
    return table(["field", "default", "meaning"], rows)


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


def answer(kind: type[BaseError]) -> str:
    """Its status and code."""
    return f"{kind.status} {code(kind.code)}"


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


DRAWN: dict[str, Callable[[], str]] = {
    "lifecycle-diagram": lifecycle_diagram,
    "lifecycle-table": lifecycle_table,
    "key-table": key_table,
    "route-table": route_table,
    "error-table": error_table,
    "policy-table": policy_table,
    "upstream-table": upstream_table,
    "dialect-table": dialect_table,
    "frame-table": frame_table,
    "metric-table": metric_table,
}


def redrawn(page: str) -> str:
    """`page` with everything between `<!-- drawn: NAME -->` and `<!-- end -->` drawn anew."""

    def draw(match: re.Match[str]) -> str:
        return f"{match[1]}\n{DRAWN[match[2]]()}\n<!-- end -->"

    return re.sub(r"(<!-- drawn: ([\w-]+) -->)\n.*?<!-- end -->", draw, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        path.write_text(redrawn(path.read_text(encoding="utf-8")), encoding="utf-8")
