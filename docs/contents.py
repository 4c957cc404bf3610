"""The front page's lists of links are the site's table of contents: each section's pages, in their order.

So `index.md` stays plain Markdown, and there is no second list to forget a page in.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class Contents(SphinxTransform):
    """A hidden toctree for each section of the front page that has a list of pages."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        if self.env.current_document.docname != self.config.root_doc:
            return
        for section in list(self.document.findall(nodes.section)):
            pages = [page for item in _items(section) for page in _pages(item, self.env.found_docs)]
            if pages:
                section += _toctree(self.config.root_doc, str(section[0].astext()), pages)


def _items(section: nodes.section) -> list[nodes.list_item]:
    lists = [child for child in section.children if isinstance(child, nodes.bullet_list)]
    return [item for found in lists for item in found.findall(nodes.list_item)]


def _pages(item: nodes.list_item, known: set[str]) -> list[str]:
    """The page that the item begins with."""
    targets = (str(link["reftarget"]).removesuffix(".md") for link in item.findall(addnodes.pending_xref))
    return [target for target in targets if target in known][:1]


def _toctree(parent: str, caption: str, pages: list[str]) -> nodes.Node:
    toctree = addnodes.toctree(
        parent=parent,
        entries=[(None, page) for page in pages],
        includefiles=pages,
        caption=caption,
        rawcaption=caption,
        hidden=True,
        glob=False,
        includehidden=False,
        maxdepth=-1,
        numbered=0,
        titlesonly=True,
    )
    return nodes.compound("", toctree, classes=["toctree-wrapper"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(Contents)
    return {"parallel_read_safe": True}
