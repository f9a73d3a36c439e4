"""Pieces of markdown that the book generates: foreign text, code, links and tables, each safe to paste into a page.

What is *not* handled: HTML, which is escaped where it is made.
"""

import re
from collections.abc import Sequence
from typing import Any

BAR, BAR_ESCAPED = re.compile(r"(?<!\\)\|"), r"\\|"
PUNCTUATION = re.compile(r"([\\`*_{}\[\]<>#|$~^!&])")


def escape(text: str) -> str:
    r"""Return a text so that markdown shows it as it is, in a paragraph or a cell of a table.

    Examples
    --------
    >>> escape("a_b|c$d")
    'a\\_b\\|c\\$d'
    """
    return PUNCTUATION.sub(r"\\\1", text)


def code(value: Any) -> str:
    r"""Return a value as code on one line, whatever it holds.

    Examples
    --------
    >>> code("a`b"), code(" ")
    ('`` a`b ``', '`""`')
    """
    text = re.sub(r"\s+", " ", str(value)).strip() or '""'
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def doc_link(text: str, path: str) -> str:
    """Return a link to a page of the book; a character that would end the link's text is left out.

    Examples
    --------
    >>> doc_link("a`b <c>", "/chapters/x")
    '{doc}`ab c </chapters/x>`'
    """
    return f"{{doc}}`{re.sub('[`<>]', '', text)} </{path.lstrip('/')}>`"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table of cells that are markdown already; a bar that would end a cell is escaped, in code too.

    Examples
    --------
    >>> print(table(["a", "b"], [["1", "`x|y`"]]))
    | a | b |
    | --- | --- |
    | 1 | `x\|y` |
    """
    lines = (heading, ["---"] * len(heading), *rows)
    return "\n".join(f"| {' | '.join(BAR.sub(BAR_ESCAPED, cell) for cell in line)} |" for line in lines)
