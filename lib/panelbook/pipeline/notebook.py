"""Notebooks as documents: the tracked form, the executed form, and the page made of the two.

Tracked notebooks carry no outputs and only the metadata that a reader's view needs. Executed ones
are made canonical, so that the same code and data give the same bytes: no paths, no times, no
counters of the session. A page joins the prose of the tracked notebook to the outputs of the
executed one, so a better sentence never costs a re-execution.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from panelbook.errors import BookError
from panelbook.pipeline.params import StageParams, render_parameters_cell

CELL_METADATA = ("tags", "mystnb")
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook as format 4.

    Raises
    ------
    BookError
        If the file is missing or is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise BookError(f"Notebook {path} is missing. Restore it: git checkout -- {path}") from None
    except Exception as error:  # nbformat raises whatever it stumbles over: KeyError, TypeError, its own
        why = str(error).partition("\n")[0]
        raise BookError(f"{path} is not a readable notebook: {type(error).__name__}: {why}") from None


def format_notebook(notebook: NotebookNode) -> str:
    """Return a notebook as the text of its file, with a final newline and sorted keys."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook in the form of `format_notebook`."""
    path.write_text(format_notebook(notebook), encoding="utf-8")


def clean_source(notebook: NotebookNode, params: type[StageParams]) -> NotebookNode:
    """Return the tracked form: no outputs, allowed metadata only, the parameters cell as its dataclass renders it."""
    cells = []
    for index, cell in enumerate(notebook.cells):
        kept = {
            "cell_type": cell.cell_type,
            "id": cell.get("id") or f"cell-{index:02d}",
            "metadata": {k: v for k, v in cell.metadata.items() if k in CELL_METADATA},
            "source": cell.source.strip("\n"),
        }
        if cell.cell_type == "code":
            kept |= {"execution_count": None, "outputs": []}
            if "parameters" in cell.metadata.get("tags", []):
                kept["source"] = render_parameters_cell(params)
        cells.append(kept)
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def hash_code(notebook: NotebookNode) -> str:
    """Return a SHA-256 over the code cells, with their ids and in their order; prose does not count."""
    code = [(cell.id, cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def canonicalise(executed: NotebookNode, params: StageParams, root: Path) -> NotebookNode:
    """Return an executed notebook without anything that differs between two runs of the same inputs.

    The cell that papermill injects is removed and its values are written into the parameters cell, so
    the page shows, and the downloaded notebook repeats, exactly what was run; only `output_dir` goes
    back to its default, so that a repetition by hand does not write over this run.
    """
    default_dir = type(params)().output_dir
    values = dataclasses.asdict(params) | {"output_dir": default_dir}
    cells = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    count = 0
    for cell in cells:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in CELL_METADATA})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = render_parameters_cell(type(params), values)
        cell.outputs = [_canonical_output(output, count, root) for output in cell.outputs]
    executed.cells = cells
    executed.metadata = NotebookNode({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    return executed


def _canonical_output(output: NotebookNode, count: int, root: Path) -> NotebookNode:
    if "execution_count" in output:
        output.execution_count = count
    text = json.dumps(output).replace(json.dumps(str(root))[1:-1] + "/", "")
    return nbformat.from_dict(json.loads(text))


def join_page(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Return the page: prose and captions of `source`, outputs and parameters of `executed`.

    Raises
    ------
    BookError
        If a code cell of the source was not executed: the two do not belong together.
    """
    done = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    cells = []
    for cell in source.cells:
        merged: dict[str, Any] = dict(cell)
        if cell.cell_type == "code":
            if cell.id not in done:
                raise BookError(f"cell {cell.id!r} was never executed; run `panelbook build` again.")
            ran = done[cell.id]
            merged |= {"outputs": ran.outputs, "execution_count": ran.execution_count, "source": ran.source}
        cells.append(merged)
    return nbformat.from_dict({**source, "cells": cells})
