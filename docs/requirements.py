"""Ids of requirements (`RS-READ-03`) in any page lead to the item of the specification that begins with them in bold.

The pages have the plain id: it reads well everywhere, and nobody keeps links by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

SPECIFICATION = "spec/index"
ID = re.compile(r"\bRS-[A-Z]+-\d{2}\b")
_DEFINED = re.compile(r"^\s*- \*\*(RS-[A-Z]+-\d{2})\*\*", re.MULTILINE)

logger = logging.getLogger(__name__)


def defined(source: str) -> list[str]:
    """The ids that a specification's Markdown defines, in its order."""
    return _DEFINED.findall(source)


class Targets(SphinxTransform):
    """What an id leads to: its item in the specification."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        if self.env.current_document.docname != SPECIFICATION:
            return
        for bold in self.document.findall(nodes.strong):
            name, item = bold.astext(), bold.parent.parent
            if ID.fullmatch(name) and isinstance(item, nodes.list_item) and item.astext().startswith(name):
                item["ids"].append(name.lower())


class Links(SphinxPostTransform):
    """Every id, as a link; in its own item it is the address to pass on. One that is not defined is a warning."""

    default_priority = 500

    def run(self, **kwargs: Any) -> None:
        # Sphinx has extensions keep what they found in its environment; it declares no such attributes.
        known = set(self.env.requirement_ids)  # type: ignore[attr-defined]
        for text in list(self.document.findall(nodes.Text)):
            if ID.search(text) and not isinstance(text.parent, nodes.literal | nodes.reference):
                if unknown := set(ID.findall(text)) - known:
                    logger.warning("no requirement %s in %s", sorted(unknown), SPECIFICATION, location=text.parent)
                text.parent.replace(text, [self._linked(part, known) for part in re.split(f"({ID.pattern})", text)])

    def _linked(self, part: str, known: set[str]) -> nodes.Node:
        if part not in known:
            return nodes.Text(part)
        page = self.app.builder.get_relative_uri(self.env.current_document.docname, SPECIFICATION)
        return nodes.reference("", part, internal=True, refuri=f"{page}#{part.lower()}")


def _collect(app: Sphinx) -> None:
    path = Path(app.srcdir) / f"{SPECIFICATION}.md"
    source = path.read_text(encoding="utf-8") if path.is_file() else ""
    app.env.requirement_ids = defined(source)  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _collect)
    app.add_transform(Targets)
    app.add_post_transform(Links)
    return {"parallel_read_safe": True}
