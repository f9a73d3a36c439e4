"""What a reader takes away from a page: every figure as SVG, PNG and CSV of its data, every table as CSV.

The files are made where the data are, in the notebook: `carry_data` makes IPython add the data of each figure and
table to its output. `take_files` moves them out of an executed notebook into the folder of its run, so that no page
grows; `link_files` adds to the page the links to their copies beside it.

CSV is UTF-8 with a line feed at the end of each row, and numbers have all their digits. A text that a spreadsheet
would run as a formula begins with an apostrophe: completions are text of strangers.

Pictures that are not matplotlib figures, and tables written by hand in prose, are not handled.
"""

import base64
import csv
import functools
import html
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
from IPython.core.getipython import get_ipython
from IPython.display import HTML
from matplotlib.figure import Figure
from nbformat import NotebookNode, v4
from pandas.io.formats.style import Styler

FOLDER = "downloads"
"""Folder of the files: below that of a run, and at the root of the book, where each page has one of its own."""

CSV, PAGE, PNG, SVG = "text/csv", "text/html", "image/png", "image/svg+xml"
DATA = "panelbook_data"
"""Attribute of a figure or a table that holds its data: name -> table."""

FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d*\.?\d*(?:[eE][+-]?\d+)?(?:%| pp|×)?\Z)")
"""How a text begins that a spreadsheet would take for a formula; a number with its sign and unit is none."""

SEPARATOR = " · "

Params = ParamSpec("Params")
Shown = TypeVar("Shown")


def keeps_data(draw: Callable[Params, Figure]) -> Callable[Params, Figure]:
    """Make a function that draws tables keep them with the figure it returns, each under the name of its argument."""
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def drawn(*args: Params.args, **kwargs: Params.kwargs) -> Figure:
        fig = draw(*args, **kwargs)
        own = getattr(fig, DATA, {})
        return keep(fig, _gather(signature.bind(*args, **kwargs).arguments) | own)

    return drawn


def keep(shown: Shown, tables: Mapping[str, pd.DataFrame]) -> Shown:
    """Keep tables with what shows them, by name, and return it."""
    setattr(shown, DATA, dict(tables))
    return shown


def carry_data() -> None:
    """Make what this notebook displays carry its data as CSV; outside a notebook do nothing."""
    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return
    bundles = shell.display_formatter.mimebundle_formatter
    for kind in (Figure, HTML):
        bundles.for_type(kind, lambda shown: _bundle(getattr(shown, DATA, {})))
    bundles.for_type(pd.DataFrame, lambda frame: _bundle({"": frame}))
    # A Styler's own text is its address in memory, which differs from run to run.
    bundles.for_type(
        Styler,
        lambda shown: {"text/plain": "<table>"} | _bundle(getattr(shown, DATA, {"": shown.data})),
    )


def write_csv(tables: Mapping[str, pd.DataFrame]) -> str:
    r"""Return tables as one CSV; several stand below each other, with the name of each in a first column `table`.

    Examples
    --------
    >>> write_csv({"": pd.DataFrame({"k": [1, 2], "note": ["a", "=1+1"]})})
    "k,note\n1,a\n2,'=1+1\n"
    """
    parts = {name: _flatten(table) for name, table in tables.items()}
    if len(parts) == 1:
        (whole,) = parts.values()
    else:  # as objects, so that whole numbers stay whole where another table lacks the column
        whole = pd.concat([part.astype(object).assign(table=name) for name, part in parts.items()])
        whole = whole[["table", *whole.columns.drop("table")]]
    text = str(whole.to_csv(index=False, lineterminator="\n"))
    if "\r" in text:  # which the csv module leaves bare, so that a reader would see a new row
        text = str(whole.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))
    return text


def take_files(notebook: NotebookNode) -> dict[str, bytes]:
    """Take the files out of an executed notebook, which keeps what its page shows, and return them by name.

    A figure's files are called as its `mystnb` metadata call it, a table's after its cell.
    """
    files: dict[str, bytes] = {}
    for cell in notebook.cells:
        for stem, output in _list_shown(cell):
            picture, data = output.data.pop(PNG, None), output.data.pop(CSV, None)
            if SVG in output.data:
                files[f"{stem}.svg"] = _text(output.data[SVG]).encode()
            if picture is not None:
                files[f"{stem}.png"] = base64.b64decode(_text(picture))
                output.metadata.pop(PNG, None)
            if data is not None:
                files[f"{stem}.csv"] = _text(data).encode("utf-8", "backslashreplace")
    return files


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, made if need be."""
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name; none where there is no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}


def link_files(
    page: NotebookNode, files: Mapping[str, bytes], *, name: str, group: str, command: str, notebook: str
) -> dict[str, bytes]:
    """Add to a page the links to its files, and return the files under the names that are linked.

    Parameters
    ----------
    page
        Localised: the names of its figures end in the group. It is changed in place.
    files
        What `take_files` returned, and other files that the run left: those are linked at the end of the page.
    name, group
        Of the page.
    command, notebook
        What makes the page again, and the tracked notebook that it is made of.
    """
    linked: dict[str, bytes] = {}

    def link(file: str, text: str, of: str) -> str:
        target = name_file(file, group)
        linked[target] = files[file]
        return _link(f"../{FOLDER}/{name}/{target}", text, of)

    cells = []
    for cell in page.cells:
        cells.append(cell)
        for stem, output in _list_shown(cell, group):
            of = f"{stem}-{group}"
            made = [f"{stem}{suffix}" for suffix in (".svg", ".png", ".csv") if f"{stem}{suffix}" in files]
            if SVG in output.data and made:
                links = [link(file, file.rpartition(".")[2].upper(), of) for file in made]
                where = (
                    f"<code>{html.escape(cell.id)}</code> of <code>notebooks/{html.escape(notebook)}</code>"
                )
                again = f"<code>{html.escape(command)}</code>, cell {where}"
                line = _line("This figure", links, f" <span>Reproduce it: {again}</span>")
                cells.append(v4.new_markdown_cell(line, id=f"{cell.id}-{len(cells)}-files"[-64:]))
            elif made:
                output.data[PAGE] = _text(output.data[PAGE]) + _line("", [link(made[0], "CSV", of)])
            files = {file: content for file, content in files.items() if file not in made}
    if files:
        links = [link(file, file, name) for file in files]
        cells.append(v4.new_markdown_cell(_line("Files of this chapter", links), id="chapter-files"))
    page.cells = cells
    return linked


def name_file(file: str, group: str) -> str:
    """Return the name under which the file of a run leaves the book: that of its group is in it."""
    stem, dot, suffix = file.rpartition(".")
    return f"{stem}-{group}{dot}{suffix}"


def list_stems(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str, str]]:
    """Yield the cell of every figure and table, the stem of its files, and which of the two it is."""
    for cell in notebook.cells:
        for stem, output in _list_shown(cell):
            yield cell, stem, "figure" if SVG in output.data else "table"


def link_table(file: str, of: str) -> str:
    """Return the line that links the CSV of a table on a hand-written page at the root of the book."""
    return _line("", [_link(f"{FOLDER}/{file}", "CSV", of)])


def list_records(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return results as a table of numbers, a row each."""
    shown = ("title", "value", "low", "high", "n_problems", "n_draws", "method", "reason")
    rows = [{"result": name} | {key: record[key] for key in shown} for name, record in records.items()]
    return pd.DataFrame(rows, columns=["result", *shown], dtype=object)


def list_claims(ledger: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return claims with their records as a table: a row for each recomputed number.

    Parameters
    ----------
    ledger
        Claims after their trial, as `claims.json` has them, or any part of their fields.
    """
    shown = ("id", "claim", "chapter", "published", "verdict", "why")
    rows = [
        {key: claim[key] for key in shown if key in claim} | dict(row)
        for claim in ledger
        for row in list_records(claim["records"]).to_dict("records") or [{}]
    ]
    return pd.DataFrame(rows, dtype=object)


def _bundle(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    return {CSV: write_csv(tables)} if tables else {}


def _gather(arguments: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables among some arguments, and those inside their dictionaries and tuples."""
    found: dict[str, pd.DataFrame] = {}
    for name, value in arguments.items():
        if isinstance(value, pd.DataFrame):
            found[str(name)] = value
        elif isinstance(value, Mapping):
            found |= _gather(value)
        elif isinstance(value, tuple):
            found |= {str(name): part for part in value if isinstance(part, pd.DataFrame)}
    return found


def _flatten(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with plain columns: an index that says something is one of them, and no text is a formula."""
    numbered = table.index.names == [None] and pd.api.types.is_integer_dtype(table.index)
    plain = table.reset_index(drop=numbered)
    columns: list[Any] = list(plain.columns)
    names = [" ".join(map(str, name)).strip() if isinstance(name, tuple) else name for name in columns]
    plain.columns = pd.Index([_defuse(name) for name in names])
    for place, kind in enumerate(plain.dtypes):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)):
            cells = pd.Series([_defuse(value) for value in plain.iloc[:, place]], dtype=object)
            plain.isetitem(place, cells.array)  # objects still: a gap would make whole numbers decimal
    return plain


def _defuse(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would run."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _list_shown(cell: NotebookNode, group: str = "") -> Iterator[tuple[str, NotebookNode]]:
    """Yield every figure and every HTML output of a cell with the stem of its files."""
    named = cell.metadata.get("mystnb", {}).get("figure", {}).get("name", cell.id)
    stems = {SVG: named.removesuffix(f"-{group}") if group else named, PAGE: f"table-{cell.id}"}
    seen: list[str] = []
    for output in cell.get("outputs", []):
        kind = next((kind for kind in stems if kind in output.get("data", {})), None)
        if kind is None or "scrapbook" in output.metadata:
            continue
        seen.append(kind)
        n = seen.count(kind)
        yield stems[kind] + (f"-{n}" if n > 1 else ""), output


def _link(url: str, text: str, of: str) -> str:
    label = html.escape(f"{text} of {of}")
    return f'<a href="{html.escape(url)}" download aria-label="{label}">{html.escape(text)}</a>'


def _line(title: str, links: list[str], after: str = "") -> str:
    """Return one line of links; on paper only what comes after them is left."""
    text = f"{title}: " if title else ""
    return f'<p class="takeaway"><span class="takeaway-files">{text}{SEPARATOR.join(links)}</span>{after}</p>'


def _text(data: str | list[str]) -> str:
    """Join what the notebook format may keep in lines."""
    return data if isinstance(data, str) else "".join(data)
