"""The docs site: the Markdown pages of this folder, and an API reference from the docstrings. `make docs` builds it."""

from __future__ import annotations

import re

from r2router import __version__

project = "r2router"
release = version = __version__
copyright = "the r2router authors"  # noqa: A001 - the name that Sphinx reads
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["reports/*"]
html_theme = "furo"
html_title = f"r2router {__version__}"
html_show_sphinx = False
html_copy_source = False
default_role = "code"  # `name` in a docstring is code
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
suppress_warnings = ["misc.highlighting_failure", "myst.header"]

_FIELD = re.compile(r"^(\*{0,2}[a-z_]\w*(?:, \*{0,2}\w+)*): (.+)$")
_BESIDE_THE_DOCS = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def _one_item_per_attribute(app, what, name, obj, options, lines: list[str]) -> None:
    """Lines `name: meaning` of a docstring become a list."""
    shown: list[str] = []
    inside = False
    for line in lines:
        if found := _FIELD.match(line):
            shown += (
                [f"- **{found[1]}**: {found[2]}"]
                if inside or not shown or not shown[-1]
                else ["", f"- **{found[1]}**: {found[2]}"]
            )
            inside = True
        else:
            inside = inside and bool(line.strip())
            shown.append(f"  {line.strip()}" if inside else line)
    lines[:] = shown


def _name_what_is_not_on_the_site(app, docname: str, source: list[str]) -> None:
    """A link to a file of the repository outside of `docs/` becomes its text: the site stands alone."""
    if docname != "changes":
        source[0] = _BESIDE_THE_DOCS.sub(r"\1", source[0])


def setup(app) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _one_item_per_attribute)
    app.connect("source-read", _name_what_is_not_on_the_site)
