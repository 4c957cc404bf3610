"""The site: Sphinx reads the same pages that people read on GitHub. `nox -s docs` builds it, warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "resumestream"
author = "the resumestream authors"
project_copyright = author
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "docs.contents", "docs.requirements"]

myst_heading_anchors = 4

default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_type_aliases = {"ASGIApp": "ASGIApp"}
python_maximum_signature_line_length = 100
nitpick_ignore_regex = [
    (r"py:.*", r"(anyio|collections|concurrent|contextlib|enum|os|pathlib|re|ssl|starlette|typing|types)\..*|ASGIApp"),
]
"""Of others: to link them, the build would need the network."""

smartquotes = False

html_theme = "furo"
html_static_path = html_css_files = ["site.css"]
html_title = "resumestream"
html_show_sourcelink = False
html_copy_source = False


def _parsable(_app: Sphinx, _what: str, _name: str, _it: object, _options: object, args: str, returns: str) -> object:
    """Defaults that are made anew each time are printed as no Python."""
    return args and args.replace("<factory>", "..."), returns


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", _parsable)
