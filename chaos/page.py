"""What was played, on an HTML page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .suite import Played

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d8dc, #3b4048); --soft: light-dark(#5a6270, #9aa3b0);
  --held: light-dark(#1a7f37, #57c26f); --failed: light-dark(#c62828, #ff7b72); --paper: light-dark(#fff, #16181d); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 80rem;
  background: var(--paper); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: var(--paper); font-weight: 600; }
tbody th { font-weight: 500; white-space: nowrap; }
small, .what { color: var(--soft); }
.what { font-weight: 400; white-space: normal; display: block; max-width: 34rem; }
.held { color: var(--held); } .failed { color: var(--failed); font-weight: 600; }
pre, code { font: 13px/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; white-space: pre-wrap; border-left: 3px solid var(--failed); padding-left: .8rem; }
.scroll { overflow-x: auto; }
"""


def page(played: Sequence[Played], what: dict[str, str], *, seconds: float, tested: str) -> str:
    """A self-contained HTML page. `what`: scenario to its sentence."""
    failed = [each for each in played if not each.verdict.held]
    cells = [each for each in played if each.verdict.scenario in what]
    drawn = [each for each in played if each.verdict.scenario not in what]
    summary = f"{len(played) - len(failed)} of {len(played)} held, in {seconds:.0f} s, against {html.escape(tested)}."
    state = "failed" if failed else "held"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Chaos: {len(failed) or "none"} failed</title><style>{STYLE}</style></head><body>
<h1>Chaos</h1>
<p class="{state}">{summary}</p>
{"".join(map(_failure, failed))}
{_matrix(cells, what) if cells else ""}
{_drawn(drawn) if drawn else ""}
</body></html>
"""


def _failure(played: Played) -> str:
    return (
        f"<section><h3 class='failed'>{html.escape(played.code)}</h3><pre>{html.escape(played.verdict.told)}</pre>"
        f"<p>Replay: <code>{html.escape(played.replay)}</code><br><small>Logs: {html.escape(played.logs)}</small></p>"
        "</section>"
    )


def _matrix(cells: Sequence[Played], what: dict[str, str]) -> str:
    """Scenarios by configurations; a cell that was played more than once shows its worst, then its last."""
    columns = list(dict.fromkeys(each.verdict.configuration for each in cells))
    rows = list(dict.fromkeys(each.verdict.scenario for each in cells))
    at: dict[tuple[str, str], list[Played]] = {}
    for each in cells:
        at.setdefault((each.verdict.scenario, each.verdict.configuration), []).append(each)
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{html.escape(row)}<span class='what'>{html.escape(what[row])}</span></th>"
        + "".join(_cell(at.get((row, column), [])) for column in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f"<h2>Scenarios</h2><div class='scroll'><table><thead><tr><th>scenario</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(played: Sequence[Played]) -> str:
    if not played:
        return "<td><small>–</small></td>"
    shown = min(reversed(played), key=lambda each: each.verdict.held)
    verdict = shown.verdict
    state, word = ("held", "held") if verdict.held else ("failed", "FAILED")
    calls = f"{verdict.calls} call{'' if verdict.calls == 1 else 's'}"
    times = f" · played {len(played)}×" if len(played) > 1 else ""
    return (
        f"<td title='{html.escape(shown.replay, quote=True)}'><span class='{state}'>{word}</span><br>"
        f"<small>{verdict.seconds:.1f} s · {calls}{times}<br>{verdict.dialect}</small></td>"
    )


def _drawn(played: Sequence[Played]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(each.code)}</code></td>{_cell([each])}</tr>"
        for each in sorted(played, key=lambda each: each.verdict.held)
    )
    return (
        f"<h2>Random schedules</h2><p><small>Replay one: <code>python -m chaos replay SCHEDULE</code></small></p>"
        f"<details><summary>{len(played)} schedules</summary><div class='scroll'><table><tbody>{rows}</tbody></table>"
        "</div></details>"
    )
