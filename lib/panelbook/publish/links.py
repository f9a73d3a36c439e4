"""Sphinx extension: four corrections to what the theme puts into every page.

The pages are built from a staged tree that is not tracked: `chapters/40_pass_at_k-aime.ipynb` is one
parameter group of `notebooks/40_pass_at_k.ipynb`, and `methods.md` lies in `book/`. The theme knows only
one folder for all of them, so its links are rewritten after it has made them.

Jupyter Book also loads the set-up of Thebe, which runs cells on a remote kernel, and loads it twice, which
is an error in the reader's console. This book does not use it. The script that turns dials, on the other hand, is
put into those pages that have one.

Entries of the list of references carry a role that WAI-ARIA has withdrawn, so that a screen reader finds a list
without items; they are named as items.
"""

import re
from typing import Any

SLASH = r"(?:/|%2F)"
CHAPTER = re.compile(rf"(notebooks{SLASH})chapters{SLASH}(\d\d_\w+)-[\w.]+?\.ipynb")
PAGE = re.compile(rf"notebooks({SLASH})([\w/]+\.md)")
DIALS = "panelbook/dials.js"
"""Where `panelbook.publish.pages` stages the script, from the folder of static files."""


def resolve_link(url: str) -> str:
    """Return the link to the tracked file behind a staged page; other links are returned unchanged."""
    return PAGE.sub(r"book\1\2", CHAPTER.sub(r"\1\2.ipynb", url))


def _rewrite(node: Any) -> None:
    """Rewrite every `url` in the theme's nested lists of buttons, in place."""
    for item in node if isinstance(node, list) else []:
        if isinstance(item.get("url"), str):
            item["url"] = resolve_link(item["url"])
        _rewrite(item.get("buttons"))


def _is_thebe(script: Any) -> bool:
    return "thebe" in f"{script.filename} {script.attributes.get('body', '')}".lower()


def _on_page(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    _rewrite(context.get("header_buttons"))
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
    if 'class="dial"' in context.get("body", ""):
        app.add_js_file(DIALS, loading_method="defer")  # during this event it is for this page alone
    scripts = context.get("script_files", [])
    context["script_files"] = [script for script in scripts if not _is_thebe(script)]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, after the theme (its own hooks have priorities up to 501)."""
    app.connect("html-page-context", _on_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
