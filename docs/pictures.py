"""State diagrams as SVG, in plain code: the states stand in a row, what leads on to a later one passes below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, GAP = 116, 44, 132
"""Of a state's box, and between two."""
LEFT, TOP = 52, 66
FONT = "13px system-ui, sans-serif"
_STYLE = f"""\
text {{ font: {FONT}; text-anchor: middle; fill: #1f2933 }}
.state {{ fill: #eef2f7; stroke: #52606d; rx: 8 }}
.move {{ fill: none; stroke: #52606d; marker-end: url(#tip) }}
.label {{ font-size: 12px; fill: #52606d }}"""
_TIP = '<marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
_TIP += '<path d="M0,0 L9,4 L0,8 z" fill="#52606d"/></marker>'


def state_diagram(title: str, moves: Mapping[tuple[str, str], str], states: Sequence[str]) -> str:
    """`moves`: from and to, and what is written at the arrow. A state that nothing leaves gets a double border."""
    left = {state: LEFT + at * (WIDTH + GAP) for at, state in enumerate(states)}
    ends = [state for state in states if not any(begin == state for begin, _ in moves)]
    parts = [
        f'<path class="move" d="M12,{TOP + HEIGHT / 2:g} H{LEFT}"/><circle cx="12" cy="{TOP + HEIGHT / 2:g}" r="5"/>'
    ]
    for (begin, end), label in moves.items():
        parts += _arrow(left[begin], left[end], label)
    for state, x in left.items():
        parts.append(f'<rect class="state" x="{x}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}"/>')
        if state in ends:
            parts.append(
                f'<rect class="state" x="{x + 4}" y="{TOP + 4}" width="{WIDTH - 8}" height="{HEIGHT - 8}" fill="none"/>'
            )
        parts.append(_text(x + WIDTH / 2, TOP + HEIGHT / 2 + 5, state))
    width, height = left[states[-1]] + WIDTH + 12, TOP + HEIGHT + 64
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            f"<defs>{_TIP}</defs>",
            f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _arrow(begin: int, end: int, label: str) -> list[str]:
    """To itself above, to the next one straight, to a later one below."""
    middle, bottom = TOP + HEIGHT / 2, TOP + HEIGHT
    if begin == end:
        x = begin + WIDTH / 2
        path = f"M{x - 22:g},{TOP} C{x - 34:g},{TOP - 38} {x + 34:g},{TOP - 38} {x + 22:g},{TOP}"
        return [f'<path class="move" d="{path}"/>', _text(x, TOP - 36, label, "label")]
    if end - begin == WIDTH + GAP:
        path = f"M{begin + WIDTH},{middle:g} H{end}"
        return [f'<path class="move" d="{path}"/>', _text((begin + WIDTH + end) / 2, middle - 9, label, "label")]
    x, y = begin + WIDTH / 2, end + WIDTH / 2 - 20
    path = f"M{x:g},{bottom} C{x:g},{bottom + 52} {y:g},{bottom + 52} {y:g},{bottom}"
    return [f'<path class="move" d="{path}"/>', _text((x + y) / 2, bottom + 54, label, "label")]


def _text(x: float, y: float, text: str, kind: str = "name") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'
