"""What each chapter found, short and in full.

The first paragraph of a chapter is its finding in short, its section "Summary" the finding in full. Here the first
is set as a box that leads to the second and to the same question on other data, and all boxes are gathered, with
their numbers, on one page in the order of the table of contents. Whether a first paragraph *is* a finding no
program can tell; a chapter whose title is not followed by a paragraph gets no box.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import nbformat
from nbformat import NotebookNode

from panelbook.publish.markdown import doc_link, escape
from panelbook.publish.numbers import GLUED, read_glued

TITLE = re.compile(r"^# .+$", re.M)
SUMMARY = re.compile(r"^## Summary\b", re.M)
NOT_A_PARAGRAPH = re.compile(r"#|:::|```|\||[-*+] |\d+\. |> |\$\$|\([\w-]+\)=|<")
"""What markdown would read as markup in a text that was pasted."""

Link = tuple[str, str]
"""Text and target of a link to another page."""


class Page(Protocol):
    """What is read of a chapter; `panelbook.publish.pages.Chapter` is one."""

    @property
    def name(self) -> str:
        """File name without suffix."""

    @property
    def label(self) -> str:
        """How a reader calls its parameter group."""

    @property
    def title(self) -> str:
        """The question."""

    @property
    def notebook(self) -> NotebookNode | None:
        """Prose joined to outputs; None where the run could not be made."""


def mark_finding(notebook: NotebookNode, anchor: str, elsewhere: Sequence[Link] = ()) -> NotebookNode:
    """Return a page whose first paragraph is a box that leads to its summary.

    Parameters
    ----------
    anchor
        Label to give to the heading "Summary"; unique in the book.
    elsewhere
        Pages that ask the same question of other data: text and path from the root of the book.
    """
    page: NotebookNode = nbformat.from_dict(json.loads(json.dumps(notebook)))
    prose = [cell for cell in page.cells if cell.cell_type == "markdown"]
    opening = next((cell for cell in prose if TITLE.search(cell.source)), None)
    if opening is None or not (paragraph := _first_paragraph(opening.source)):
        return page
    links = []
    for cell in prose:
        if SUMMARY.search(cell.source):
            cell.source = SUMMARY.sub(lambda heading: f"({anchor})=\n{heading[0]}", cell.source, count=1)
            links.append(f"{{ref}}`The finding in full <{anchor}>`")
            break
    if elsewhere:
        links.append("Also asked of " + ", ".join(doc_link(*link) for link in elsewhere))
    foot = f"\n\n{'. '.join(links)}." if links else ""
    box = f":::{{admonition}} Finding in short\n:class: finding\n\n{paragraph}{foot}\n:::"
    start = opening.source.index(paragraph, TITLE.search(opening.source).end())  # type: ignore[union-attr]
    opening.source = opening.source[:start] + box + opening.source[start + len(paragraph) :]
    return page


def read_finding(notebook: NotebookNode) -> str:
    """Return the first paragraph of a page as markdown, what was glued filled in; "" where there is none."""
    glued = {name: text for name, (text, _) in read_glued(notebook)}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and TITLE.search(cell.source):
            paragraph = " ".join(_first_paragraph(cell.source).split())
            return GLUED.sub(lambda paste: escape(glued.get(paste[1], "…")), paragraph)
    return ""


def list_findings(toc: Mapping[str, Any], chapters: Mapping[str, Page]) -> str:
    """Return every chapter's finding in short as markdown, part by part.

    Parameters
    ----------
    toc
        An expanded table of contents, as `panelbook.publish.pages.expand_toc` makes it.
    chapters
        Path of a page in `toc` -> chapter.
    """
    blocks = []
    for part in toc.get("parts", [toc]):
        entries = [entry for entry in part.get("chapters", []) if entry.get("file") in chapters]
        if not entries:
            continue
        if "caption" in part:
            blocks.append(f"## {part['caption']}")
        for entry in entries:
            files = [entry["file"], *(section["file"] for section in entry.get("sections", []))]
            several = len(files) > 1
            lines = []
            for file in files:
                chapter = chapters[file]
                finding = read_finding(chapter.notebook) if chapter.notebook is not None else ""
                text = finding or "*this build could not make the chapter.*"
                lines.append(f"{doc_link(chapter.label, file)}: {text}" if several else text)
            title = chapters[files[0]].title
            heading = f"**{title}**" if several else f"**{doc_link(title, files[0])}**"
            blocks.append(heading + "".join(f"\n: {line}\n" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _first_paragraph(source: str) -> str:
    """Return what stands between the title and the next empty line, or "" if that is no plain text."""
    title = TITLE.search(source)
    below = source[title.end() :].strip("\n") if title else ""
    paragraph = re.split(r"\n\s*\n", below, maxsplit=1)[0].strip()
    return "" if NOT_A_PARAGRAPH.match(paragraph) else paragraph
