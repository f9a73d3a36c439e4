"""What readers take away: the data of figures and tables as CSV, and the links to them."""

import base64
import csv
import html
import io
import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.display import HTML
from matplotlib.figure import Figure

from panelbook.measure.uncertainty import Estimate
from panelbook.publish import downloads, figures
from panelbook.publish.downloads import (
    CSV,
    carry_data,
    keep,
    keeps_data,
    link_files,
    link_table,
    list_claims,
    name_file,
    take_files,
    write_csv,
)
from panelbook.publish.results import Results, show

TABLE = pd.DataFrame({"arm": ["panel", "think"], "estimate": [0.1 + 0.2, 1 / 3]})
PICTURE = b"\x89PNG picture"


@pytest.fixture
def display(monkeypatch):
    """Return a function that gives the output bundle of an object, as a notebook would."""
    formatter = DisplayFormatter()
    monkeypatch.setattr(downloads, "get_ipython", lambda: SimpleNamespace(display_formatter=formatter))
    carry_data()
    return lambda shown: formatter.format(shown)[0]


def code_cell(name, *outputs, figure=""):
    metadata = {"mystnb": {"figure": {"name": figure, "caption": "A figure."}}} if figure else {}
    return nbformat.v4.new_code_cell("1", id=name, outputs=list(outputs), metadata=metadata)


def output(**data):
    return nbformat.v4.new_output("execute_result", data=data)


def drawn(**more):
    data = {"image/svg+xml": "<svg/>", "image/png": base64.b64encode(PICTURE).decode(), CSV: "k\n1\n"}
    made = output(**data, **more)
    made.metadata["image/png"] = {"width": 500}
    return made


def tabled(text="a\n1\n"):
    return output(**{"text/html": "<table><tr><td>1</td></tr></table>", CSV: text})


def book_of(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


class TestWriteCsv:
    def test_numbers_keep_all_their_digits(self):
        rows = list(csv.DictReader(io.StringIO(write_csv({"": TABLE}))))
        assert [float(row["estimate"]) for row in rows] == [0.1 + 0.2, 1 / 3]

    def test_lines_end_in_a_line_feed_and_missing_values_are_empty(self):
        frame = pd.DataFrame({"a": [1.5, np.nan], "b": [None, "x"]})
        assert write_csv({"": frame}) == "a,b\n1.5,\n,x\n"

    def test_several_tables_stand_below_each_other_and_whole_numbers_stay_whole(self):
        curve, gap = pd.DataFrame({"k": [1, 2]}), pd.DataFrame({"k": [4], "gap": [-0.5]})
        assert write_csv({"curve": curve, "gap": gap}) == "table,k,gap\ncurve,1,\ncurve,2,\ngap,4,-0.5\n"

    def test_whole_numbers_stay_whole_beside_a_gap(self):
        frame = pd.DataFrame({"n": [3, None], "text": ["a", None]}, dtype=object)
        assert write_csv({"": frame}) == "n,text\n3,a\n,\n"

    def test_an_index_that_says_something_is_a_column(self):
        named = pd.DataFrame({"n": [3]}, index=pd.Index(["panel"], name="arm"))
        labelled = pd.DataFrame({"n": [3]}, index=["panel"])
        counted = pd.DataFrame({"n": [3]}, index=[17])
        assert write_csv({"": named}) == "arm,n\npanel,3\n"
        assert write_csv({"": labelled}) == "index,n\npanel,3\n"
        assert write_csv({"": counted}) == "n\n3\n"

    def test_headings_of_two_levels_are_joined(self):
        frame = pd.DataFrame(
            [[1, 2]], columns=pd.MultiIndex.from_tuples([("share", "low"), ("share", "high")])
        )
        assert write_csv({"": frame}) == "share low,share high\n1,2\n"

    @pytest.mark.parametrize(
        "text", ['=HYPERLINK("x")', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
    )
    def test_a_formula_begins_with_an_apostrophe(self, text):
        (row,) = csv.DictReader(io.StringIO(write_csv({"": pd.DataFrame({"text": [text]})}), newline=""))
        assert row["text"] == f"'{text}"

    @pytest.mark.parametrize(
        "text", ["-3", "+0.5", "-1e-05", "+15.6 pp", "-40%", "a=b", "\N{MINUS SIGN}3", "-"]
    )
    def test_a_number_and_other_texts_stay_as_they_are(self, text):
        (row,) = csv.DictReader(io.StringIO(write_csv({"": pd.DataFrame({"text": [text]})})))
        assert row["text"] == text

    def test_a_heading_is_no_formula_either(self):
        assert write_csv({"": pd.DataFrame({"=1+1": [1]})}) == "'=1+1\n1\n"

    def test_commas_quotes_and_line_breaks_survive(self):
        text = 'a, "b"\nc\r\nd'
        written = write_csv({"": pd.DataFrame({"text": [text], "n": [1]})})
        assert next(csv.DictReader(io.StringIO(written, newline="")))["text"] == text

    def test_the_table_itself_is_not_changed(self):
        frame = pd.DataFrame({"text": ["=1"]}, index=pd.Index([5], name="id"))
        write_csv({"": frame, "again": frame})
        assert frame["text"].tolist() == ["=1"]
        assert list(frame.columns) == ["text"]


class TestKeepsData:
    def test_every_public_figure_keeps_its_data(self):
        names = [name for name in figures.__all__ if name.startswith("draw_")]
        assert len(names) >= 30
        assert [name for name in names if not hasattr(getattr(figures, name), "__wrapped__")] == []

    def test_tables_are_kept_under_the_names_of_arguments_and_keys(self, display):
        @keeps_data
        def draw(curve, panels, first):
            return Figure()

        other = pd.DataFrame({"budget": [8]})
        data = display(draw(TABLE, panels={"maj@B": (other, (1, 2))}, first="panel"))
        rows = list(csv.DictReader(io.StringIO(data[CSV])))
        assert [row["table"] for row in rows] == ["curve", "curve", "maj@B"]
        assert rows[2]["budget"] == "8"

    def test_what_a_function_keeps_by_itself_stays(self, display):
        @keeps_data
        def draw(curve):
            return keep(Figure(), {"marks": pd.DataFrame({"at": [7]})})

        assert display(draw(TABLE))[CSV].splitlines()[-1] == "marks,,,7"

    def test_a_figure_without_tables_has_no_csv(self, display):
        assert CSV not in display(Figure())


class TestCarryData:
    def test_outside_a_notebook_nothing_happens(self, monkeypatch):
        monkeypatch.setattr(downloads, "get_ipython", lambda: None)
        carry_data()

    def test_a_table_for_the_page_carries_unformatted_numbers(self, display):
        data = display(show(TABLE, why="a test"))
        assert "0.300" in data["text/html"]
        assert "0.30000000000000004" in data[CSV]

    def test_two_displays_of_one_table_are_the_same(self, display):
        first, second = (display(show(TABLE, why="a test"))["text/plain"] for _ in range(2))
        assert first == second
        assert " at 0x" not in first

    def test_a_data_frame_carries_itself(self, display):
        assert display(TABLE)[CSV] == write_csv({"": TABLE})

    def test_results_carry_values_and_not_their_spelling(self, display, tmp_path, monkeypatch):
        monkeypatch.setattr("panelbook.publish.results.glue", lambda *args, **kwargs: None)
        results = Results(tmp_path)
        results.add(
            "gain", Estimate(1 / 3, 0.25, 0.5, 20, 80, "bootstrap over 20 problems"), "points", "a gain"
        )
        (row,) = csv.DictReader(io.StringIO(display(results.table())[CSV]))
        assert (row["result"], float(row["value"]), float(row["high"])) == ("gain", 1 / 3, 0.5)
        assert (row["n_problems"], row["n_draws"]) == ("20", "80")

    def test_html_carries_what_it_was_given(self, display):
        assert CSV not in display(HTML("<p>x</p>"))
        assert display(keep(HTML("<p>x</p>"), {"": TABLE}))[CSV] == write_csv({"": TABLE})


class TestTakeFiles:
    def test_files_leave_the_notebook_and_the_page_stays(self):
        notebook = book_of(code_cell("fig", drawn(), figure="fig-pass"), code_cell("load", tabled()))
        files = take_files(notebook)
        assert files == {
            "fig-pass.svg": b"<svg/>",
            "fig-pass.png": PICTURE,
            "fig-pass.csv": b"k\n1\n",
            "table-load.csv": b"a\n1\n",
        }
        first, second = (cell.outputs[0] for cell in notebook.cells)
        assert set(first.data) == {"image/svg+xml"}
        assert first.metadata == {}
        assert set(second.data) == {"text/html"}

    def test_several_tables_of_one_cell_have_names_of_their_own(self):
        files = take_files(book_of(code_cell("load", tabled("a\n1\n"), tabled("a\n2\n"))))
        assert files == {"table-load.csv": b"a\n1\n", "table-load-2.csv": b"a\n2\n"}

    def test_a_table_without_csv_does_not_shift_the_names_of_others(self):
        bare = output(**{"text/html": "<p>no table</p>"})
        assert list(take_files(book_of(code_cell("load", bare, tabled())))) == ["table-load-2.csv"]

    def test_half_a_surrogate_pair_is_written_as_an_escape(self):
        assert (
            take_files(book_of(code_cell("load", tabled("a\n\ud83d\n"))))["table-load.csv"] == b"a\n\\ud83d\n"
        )

    def test_a_second_time_nothing_is_left_but_the_picture(self):
        notebook = book_of(code_cell("fig", drawn(), figure="fig-pass"), code_cell("load", tabled()))
        take_files(notebook)
        assert list(take_files(notebook)) == ["fig-pass.svg"]


class TestLinkFiles:
    def link(self, *cells, group="aime", command="panelbook run pass_at_k.aime", **more):
        page = book_of(*cells)
        files = take_files(page) | more
        for cell in page.cells:  # as a page is localised
            if figure := cell.metadata.get("mystnb", {}).get("figure"):
                figure["name"] += f"-{group}"
        linked = link_files(
            page, files, name=f"40_p-{group}", group=group, command=command, notebook="40_p.ipynb"
        )
        return page, linked

    def test_a_figure_is_followed_by_its_three_files_and_the_command(self):
        page, linked = self.link(code_cell("fig", drawn(), figure="fig-pass"))
        assert set(linked) == {"fig-pass-aime.svg", "fig-pass-aime.png", "fig-pass-aime.csv"}
        line = page.cells[1].source
        assert page.cells[1].cell_type == "markdown"
        assert re.findall(r'href="([^"]+)"', line) == [
            f"../downloads/40_p-aime/fig-pass-aime.{suffix}" for suffix in ("svg", "png", "csv")
        ]
        text = re.sub(r"<[^>]+>", "", line)
        assert "panelbook run pass_at_k.aime, cell fig of notebooks/40_p.ipynb" in text

    def test_every_link_says_what_it_is_a_file_of(self):
        page, _ = self.link(code_cell("fig", drawn(), figure="fig-pass"), code_cell("load", tabled()))
        shown = page.cells[1].source + page.cells[2].outputs[0].data["text/html"]
        links = re.findall(r'aria-label="([^"]+)">(\w+)</a>', shown)
        assert [text for _, text in links] == ["SVG", "PNG", "CSV", "CSV"]
        assert [label for label, _ in links][2:] == ["CSV of fig-pass-aime", "CSV of table-load-aime"]

    def test_what_is_no_figure_or_table_is_linked_at_the_end(self):
        page, linked = self.link(code_cell("load", tabled()), **{"results.json": b"{}", "curve.csv": b"k\n"})
        assert {"results-aime.json", "curve-aime.csv"} <= set(linked)
        assert "results-aime.json" in page.cells[-1].source
        assert "table-load" not in page.cells[-1].source

    def test_a_page_of_a_run_that_left_no_files_stays_as_it_is(self):
        page = book_of(code_cell("fig", output(**{"image/svg+xml": "<svg/>"}), figure="fig-pass-aime"))
        before = nbformat.writes(page)
        assert link_files(page, {}, name="p", group="aime", command="c", notebook="n") == {}
        assert nbformat.writes(page) == before

    def test_a_command_is_text_and_no_markup(self):
        command = "panelbook run a.b -p label='<script>&\"'"
        page, _ = self.link(code_cell("fig", drawn(), figure="fig-pass"), command=command)
        assert "<script>" not in page.cells[1].source
        assert html.escape(command) in page.cells[1].source

    def test_the_linked_notebook_is_valid_and_its_ids_are_unique(self):
        page, _ = self.link(
            code_cell("x" * 60, drawn(), drawn(), figure="fig-a"),
            code_cell("y", drawn(), figure="fig-b"),
            r=b"",
        )
        nbformat.validate(page)
        assert len({cell.id for cell in page.cells}) == len(page.cells)


def test_the_name_of_a_file_holds_the_group():
    assert name_file("curve.csv", "aime") == "curve-aime.csv"


def test_a_table_of_a_hand_written_page_is_linked_from_the_root():
    assert 'href="downloads/live.csv"' in link_table("live.csv", "live table")


def test_claims_are_listed_with_each_of_their_numbers():
    record = dict.fromkeys(("title", "value", "low", "high", "n_problems", "n_draws", "method", "reason"))
    ledger = [
        {
            "id": "D1",
            "claim": "wider",
            "verdict": "holds",
            "records": {"a": record | {"value": 0.5}, "b": record},
        },
        {"id": "D2", "claim": "untested", "verdict": "not recomputable", "records": {}},
    ]
    table = list_claims(ledger)
    assert table["id"].tolist() == ["D1", "D1", "D2"]
    assert table["value"].tolist()[0] == 0.5
    assert table["result"].isna().tolist() == [False, False, True]
