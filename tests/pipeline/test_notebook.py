"""Notebooks as documents: the tracked form, the canonical form, the page; and the real ones are in the first."""

import json

import nbformat
import pytest
from toy_book import DRAW, DrawParams, make_notebook

from panelbook.errors import BookError
from panelbook.pipeline.notebook import (
    canonicalise,
    clean_source,
    hash_code,
    join_page,
    read_notebook,
    write_notebook,
)
from panelbook.pipeline.params import render_parameters_cell
from panelbook.pipeline.stages import STAGES
from panelbook.project import Project

PROJECT = Project.find()


def executed_notebook(root, *, count=17, duration=3.5, session="a1"):
    """Return what papermill leaves: counters, times, an injected cell, paths and ids of the session."""
    notebook = make_notebook(DRAW)
    injected = nbformat.v4.new_code_cell(
        f'n = 9\noutput_dir = "{root}/runs/.scratch/draw-{session}"',
        id=f"injected-{session}",
        metadata={"tags": ["injected-parameters"]},
    )
    notebook.cells.insert(3, injected)
    for cell in notebook.cells:
        cell.metadata["papermill"] = {"duration": duration, "start_time": f"2026-01-01T{session}"}
        if cell.cell_type == "code":
            cell.execution_count = count = count + 3
    work = notebook.cells[4]
    work.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=f"wrote {root}/runs/toy/draws.csv\n"),
        nbformat.v4.new_output("execute_result", {"text/plain": f"'{root}/x'"}, execution_count=count),
    ]
    notebook.metadata["papermill"] = {"environment_variables": {}, "duration": duration}
    notebook.metadata["language_info"] = {"name": "python", "version": f"3.{count}"}
    return notebook


class TestTrackedNotebooks:
    """Every notebook of the project, as it lies in the repository."""

    @pytest.fixture(params=STAGES.values(), ids=lambda stage: stage.notebook)
    def stage(self, request):
        return request.param

    @pytest.fixture
    def notebook(self, stage):
        return read_notebook(PROJECT.notebooks / stage.notebook)

    def test_has_no_outputs(self, notebook):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert (cell.outputs, cell.execution_count) == ([], None), cell.id

    def test_parameters_cell_is_the_rendering_of_its_dataclass(self, stage, notebook):
        cells = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        assert cells == [render_parameters_cell(stage.params)]

    def test_is_in_its_tracked_form_to_the_byte(self, stage, notebook, tmp_path):
        write_notebook(clean_source(notebook, stage.params), tmp_path / "tidy.ipynb")
        tracked = (PROJECT.notebooks / stage.notebook).read_bytes()
        assert (tmp_path / "tidy.ipynb").read_bytes() == tracked

    def test_cells_have_unique_readable_ids(self, notebook):
        ids = [cell.id for cell in notebook.cells]
        assert len(set(ids)) == len(ids)
        nbformat.validate(notebook)

    def test_begins_with_a_label_and_a_title(self, notebook):
        label, title = notebook.cells[0].source.splitlines()[:2]
        assert label.startswith("(ch-")
        assert title.startswith("# ")

    def test_every_figure_has_a_name_a_caption_and_alternative_text(self, notebook):
        for cell in notebook.cells:
            if "figures.draw_" in cell.source and cell.cell_type == "code":
                figure = cell.metadata["mystnb"]["figure"]
                assert figure["name"].startswith("fig-"), cell.id
                assert len(figure["caption"]) > 30, cell.id
                assert len(cell.metadata["mystnb"]["image"]["alt"]) > 30, cell.id


class TestRead:
    @pytest.mark.parametrize(
        "text",
        [
            "not json",
            "",
            "[]",
            "{}",
            '{"cells": 3}',
            '{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
            "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
        ],
    )
    def test_what_is_no_notebook_is_refused_by_name(self, tmp_path, text):
        path = tmp_path / "broken.ipynb"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BookError, match=r"broken\.ipynb is not a readable notebook") as refusal:
            read_notebook(path)
        assert len(str(refusal.value).splitlines()) == 1

    def test_bytes_that_are_no_text_are_refused_by_name(self, tmp_path):
        path = tmp_path / "broken.ipynb"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(BookError, match=r"broken\.ipynb is not a readable notebook"):
            read_notebook(path)

    def test_a_missing_notebook_is_answered_with_how_to_restore_it(self, tmp_path):
        with pytest.raises(BookError, match=r"is missing\. Restore it: git checkout --"):
            read_notebook(tmp_path / "gone.ipynb")

    def test_what_is_written_is_read_back(self, tmp_path):
        notebook = make_notebook(DRAW, prose="# Ünïcode ∑")
        write_notebook(notebook, tmp_path / "x.ipynb")
        assert read_notebook(tmp_path / "x.ipynb") == notebook


class TestCleanSource:
    def test_outputs_counters_and_foreign_metadata_go(self, tmp_path):
        cleaned = clean_source(executed_notebook(tmp_path), DrawParams)
        text = json.dumps(cleaned)
        assert "papermill" not in text
        assert str(tmp_path) not in json.dumps([c.get("outputs") for c in cleaned.cells])
        assert {c.get("execution_count") for c in cleaned.cells} == {None}

    def test_tags_figures_and_ids_stay(self):
        notebook = make_notebook(DRAW)
        notebook.cells[3].metadata = nbformat.from_dict(
            {"tags": ["hide-input"], "mystnb": {"figure": {"name": "fig-x"}}, "scrolled": True}
        )
        cleaned = clean_source(notebook, DrawParams)
        assert cleaned.cells[3].metadata == {
            "tags": ["hide-input"],
            "mystnb": {"figure": {"name": "fig-x"}},
        }
        assert [c.id for c in cleaned.cells] == [c.id for c in notebook.cells]

    def test_the_parameters_cell_is_written_anew(self):
        notebook = make_notebook(DRAW)
        notebook.cells[2].source = "n = 99  # stale"
        assert clean_source(notebook, DrawParams).cells[2].source == render_parameters_cell(DrawParams)

    def test_a_cell_without_id_gets_one(self):
        notebook = make_notebook(DRAW)
        del notebook.cells[1]["id"]
        assert clean_source(notebook, DrawParams).cells[1].id == "cell-01"

    def test_once_is_enough(self, tmp_path):
        once = clean_source(executed_notebook(tmp_path), DrawParams)
        assert clean_source(once, DrawParams) == once


class TestHashCode:
    @pytest.fixture
    def notebook(self):
        return make_notebook(DRAW)

    def test_prose_metadata_and_outputs_do_not_count(self, notebook, tmp_path):
        before = hash_code(notebook)
        notebook.cells[0].source = "# Another question"
        notebook.cells[3].metadata["mystnb"] = {"figure": {"caption": "Another caption"}}
        notebook.cells[3].outputs = [nbformat.v4.new_output("stream", text="x")]
        notebook.cells.append(nbformat.v4.new_markdown_cell("More prose."))
        assert hash_code(notebook) == before

    @pytest.mark.parametrize(
        "edit",
        [
            lambda cells: cells[3].update(source=cells[3].source + "  # a remark"),
            lambda cells: cells[3].update(id="renamed"),
            lambda cells: cells.append(nbformat.v4.new_code_cell("1")),
            lambda cells: cells.pop(3),
            lambda cells: cells.insert(1, cells.pop(3)),
        ],
        ids=["source", "id", "added", "removed", "moved"],
    )
    def test_any_edit_of_code_counts(self, notebook, edit):
        before = hash_code(notebook)
        edit(notebook.cells)
        assert hash_code(notebook) != before


class TestCanonicalise:
    def test_two_executions_give_the_same_notebook_whatever_session_they_ran_in(self, tmp_path):
        params = DrawParams(n=9, output_dir="somewhere")
        one = canonicalise(executed_notebook(tmp_path / "a"), params, tmp_path / "a")
        other = executed_notebook(tmp_path / "b", count=40, duration=0.1, session="b2")
        assert canonicalise(other, params, tmp_path / "b") == one

    def test_paths_become_relative_to_the_root(self, tmp_path):
        page = canonicalise(executed_notebook(tmp_path), DrawParams(), tmp_path)
        assert page.cells[3].outputs[0].text == "wrote runs/toy/draws.csv\n"
        assert str(tmp_path) not in json.dumps(page)

    def test_the_parameters_cell_shows_what_was_run_and_the_injected_one_is_gone(self, tmp_path):
        page = canonicalise(executed_notebook(tmp_path), DrawParams(n=9, output_dir="scratch"), tmp_path)
        cell = next(c for c in page.cells if c.id == "parameters")
        namespace: dict = {}
        exec(cell.source, namespace)
        assert namespace["n"] == 9
        assert namespace["output_dir"] == DrawParams().output_dir
        assert not any("injected-parameters" in c.metadata.get("tags", []) for c in page.cells)

    def test_cells_are_counted_from_one(self, tmp_path):
        page = canonicalise(executed_notebook(tmp_path), DrawParams(), tmp_path)
        counts = [c.execution_count for c in page.cells if c.cell_type == "code"]
        assert counts == [1, 2, 3, 4]
        assert page.cells[3].outputs[1].execution_count == 3

    def test_the_result_is_a_valid_notebook(self, tmp_path):
        nbformat.validate(canonicalise(executed_notebook(tmp_path), DrawParams(), tmp_path))


class TestJoinPage:
    @pytest.fixture
    def executed(self, tmp_path):
        return canonicalise(executed_notebook(tmp_path), DrawParams(n=9), tmp_path)

    def test_prose_and_captions_come_from_the_source_outputs_and_parameters_from_the_run(self, executed):
        source = make_notebook(DRAW, prose="# A better sentence")
        source.cells[3].metadata["mystnb"] = {"figure": {"caption": "A better caption"}}
        page = join_page(source, executed)
        assert page.cells[0].source == "# A better sentence"
        assert page.cells[3].metadata["mystnb"]["figure"]["caption"] == "A better caption"
        assert page.cells[3].outputs == executed.cells[3].outputs
        assert "n: int = 9" in page.cells[2].source

    def test_prose_may_be_added_and_removed_without_an_execution(self, executed):
        source = make_notebook(DRAW)
        source.cells.insert(3, nbformat.v4.new_markdown_cell("Between two cells.", id="between"))
        del source.cells[0]
        page = join_page(source, executed)
        assert [c.id for c in page.cells] == ["imports", "parameters", "between", "work", "save"]
        assert page.cells[3].outputs == executed.cells[3].outputs

    def test_a_cell_that_never_ran_is_named(self, executed):
        source = make_notebook(DRAW)
        source.cells.append(nbformat.v4.new_code_cell("1 + 1", id="brand-new"))
        with pytest.raises(BookError, match="cell 'brand-new' was never executed"):
            join_page(source, executed)
