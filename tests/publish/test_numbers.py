"""No number without its uncertainty: what the check of a page lets through and what it stops, and how it says so."""

from pathlib import Path
from typing import ClassVar

import nbformat
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from panelbook.errors import BookError
from panelbook.measure.uncertainty import Estimate
from panelbook.project import Project
from panelbook.publish import results as module
from panelbook.publish.numbers import (
    BareNumber,
    check_outputs,
    check_page,
    check_prose,
    check_records,
    find_typed,
)
from panelbook.publish.results import Results, show

NOTEBOOKS = sorted(Project.find().notebooks.glob("*.ipynb"))


@pytest.fixture
def glued(monkeypatch):
    """Return what a notebook would have glued: name -> (mime bundle, metadata), made by the kernel's own formatter."""
    store: dict[str, tuple[dict, dict]] = {}
    formatter = DisplayFormatter()
    monkeypatch.setattr(
        module, "glue", lambda name, text, display: store.__setitem__(name, formatter.format(text))
    )
    return store


@pytest.fixture
def results(tmp_path, glued):
    found = Results(tmp_path)
    found.add("gap", Estimate(0.25, 0.125, 0.5, 20, 1640, "bootstrap"), "percent", "the gap")
    found.exact("n_rows", 1234, "count", "rows", "a count of rows")
    return found


def make_output(data, metadata=None, kind="display_data"):
    fields = {"data": data, "metadata": metadata or {}}
    if kind == "execute_result":
        fields["execution_count"] = 1
    return nbformat.v4.new_output(kind, **fields)


def make_page(*cells, prose="# A title\n\nA sentence."):
    """Return a page of one paragraph and of code cells given as (id, outputs)."""
    code = [nbformat.v4.new_code_cell("", id=name, outputs=outputs) for name, outputs in cells]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(prose, id="md-01"), *code])


def glue_cell(glued):
    """Return a cell that glued everything so far, with the metadata that MyST-NB writes."""
    prefix = "application/papermill.record/"
    outputs = [
        make_output(
            {prefix + mime: text for mime, text in data.items()},
            metadata | {"scrapbook": {"name": name, "mime_prefix": prefix}},
        )
        for name, (data, metadata) in glued.items()
    ]
    return ("glue", outputs)


def html_cell(shown, name="table"):
    text = shown if isinstance(shown, str) else shown.to_html()
    return (name, [make_output({"text/html": text, "text/plain": "…"}, kind="execute_result")])


def text_cell(text, name="print"):
    return (name, [make_output({"text/plain": text}, kind="execute_result")])


BARE = pd.DataFrame({"arm": ["panel"], "spread": [0.119]})
FULL = BARE.assign(low=0.099, high=0.14)


class TestTables:
    @pytest.mark.parametrize("shown", [BARE, BARE.style, show(BARE), BARE.style.format({"spread": "{:.1%}"})])
    def test_one_of_fractions_alone_is_stopped(self, shown):
        page = make_page(html_cell(shown, "spread-table"))
        with pytest.raises(
            BareNumber, match=r"diversity\.aime, cell 'spread-table'.*arm, spread.*low and high"
        ):
            check_outputs(page, {}, "diversity.aime")

    @pytest.mark.parametrize(
        "cell", ["0.12", "12%", "−3.5 pp", "6.91×", "2.4e-06", "1,652.5", "0.1 to 0.2", "+0.3", "± 0.2"]
    )
    def test_each_way_of_writing_a_fraction_is_seen(self, cell):
        with pytest.raises(BareNumber):
            check_outputs(make_page(html_cell(pd.DataFrame({"x": [cell]}))), {}, "page")

    @pytest.mark.parametrize("cell", ["12", "1,652", "nan", "", "v0.12 of it", "AIME 2024", "3 of 4", "True"])
    def test_counts_and_texts_are_no_fractions(self, cell):
        check_outputs(make_page(html_cell(pd.DataFrame({"x": [cell]}))), {}, "page")

    def test_one_with_intervals_passes(self):
        renamed = FULL.rename(columns={"low": "spread_low", "high": "spread_high"})
        spelled = BARE.assign(interval="0.099 to 0.140")
        check_outputs(
            make_page(
                *(html_cell(t, f"table-{i}") for i, t in enumerate((FULL, show(FULL), renamed, spelled)))
            ),
            {},
            "page",
        )

    @pytest.mark.parametrize("end", ["low", "high"])
    def test_half_an_interval_is_none(self, end):
        with pytest.raises(BareNumber):
            check_outputs(make_page(html_cell(FULL.drop(columns=end))), {}, "page")

    def test_a_word_that_holds_low_is_no_end_of_an_interval(self):
        table = BARE.assign(lowest=0.1, highest=0.2)
        with pytest.raises(BareNumber):
            check_outputs(make_page(html_cell(table)), {}, "page")

    def test_a_reason_in_the_caption_is_enough_and_must_be_one(self):
        check_outputs(make_page(html_cell(show(BARE, why="only sums are tracked"))), {}, "page")
        for caption in ("A table.", "No intervals:", "There are No intervals: none"):
            with pytest.raises(BareNumber):
                check_outputs(make_page(html_cell(BARE.style.set_caption(caption))), {}, "page")

    def test_a_row_without_its_interval_is_stopped_unless_the_caption_says_what_that_means(self):
        gap = pd.concat([FULL, BARE], ignore_index=True)
        for shown in (gap, gap.style.format(na_rep=""), FULL.assign(low="None")):
            with pytest.raises(BareNumber, match="without an interval"):
                check_outputs(make_page(html_cell(shown)), {}, "page")
        check_outputs(make_page(html_cell(show(gap))), {}, "page")
        check_outputs(make_page(html_cell(show(gap.assign(spread="")))), {}, "page")

    def test_headings_of_two_levels_are_read_together(self):
        wide = FULL.set_index("arm").T.unstack().to_frame().T
        assert wide.columns.nlevels == 2
        check_outputs(make_page(html_cell(wide)), {}, "page")
        with pytest.raises(BareNumber, match="panel spread"):
            check_outputs(make_page(html_cell(wide.drop(columns=[("panel", "low")]))), {}, "page")

    def test_only_the_bare_one_of_several_in_an_output_is_named(self):
        both = show(FULL).to_html() + show(BARE.rename(columns={"spread": "width"})).to_html()
        with pytest.raises(BareNumber, match="table of arm, width"):
            check_outputs(make_page(html_cell(both)), {}, "page")

    def test_an_index_is_no_measurement_and_quoted_code_no_number(self):
        check_outputs(make_page(html_cell(pd.DataFrame({"n": [3]}, index=[0.25]))), {}, "page")
        quoted = show(pd.DataFrame({"gold": ["0.5"]}), formats={"gold": "<code>{}</code>"})
        check_outputs(make_page(html_cell(quoted)), {}, "page")


class TestPrinted:
    @pytest.mark.parametrize("text", ["0.8333", "(0.07, 0.65)", "about 12% of them", "1.1e-16"])
    def test_a_fraction_is_stopped_however_it_is_printed(self, text):
        stream = ("print", [nbformat.v4.new_output("stream", text=f"first line\n{text}\n")])
        for cell in (text_cell(text), stream, html_cell(f"<p>{text}</p>", "print")):
            with pytest.raises(BareNumber, match=r"cell 'print'.*neither interval nor reason"):
                check_outputs(make_page(cell), {}, "page")

    def test_a_case_worked_by_hand_and_texts_of_models_are_free(self):
        check_outputs(make_page(text_cell("0.8333", "toy"), text_cell("0.5 + 1", "example-2")), {}, "page")
        check_outputs(make_page(html_cell("<pre>0.5 of 12%</pre>")), {}, "page")

    def test_counts_and_figures_pass(self):
        figure = make_output({"image/svg+xml": "<svg>0.5</svg>", "text/plain": "<Figure 5.2x3.1>"})
        check_outputs(make_page(text_cell("(3, 4)"), ("fig", [figure])), {}, "page")


class TestGlued:
    def test_what_is_a_result_passes_alone_and_in_a_sentence(self, results, glued):
        results.say(
            "said",
            f"It is {results.text('gap_full')} over {results.text('n_rows')} rows of MATH-500 at pass@8.",
        )
        results.name("model", "Qwen 2.5")
        results.say("with_name", "Made with Qwen 2.5.")
        prose = "# T\n\n{glue:text}`said` {glue:text}`gap_ci` {glue:text}`model` {glue:text}`with_name`"
        check_page(make_page(glue_cell(glued), prose=prose), results.records, "page")

    def test_a_bare_number_is_stopped(self, results, glued):
        module.glue("t", "4.72", display=False)
        with pytest.raises(BareNumber, match=r"page: 't' is glued as '4.72', but no result holds 4.72"):
            check_outputs(make_page(glue_cell(glued)), results.records, "page")

    def test_so_is_one_that_rounds_a_result_otherwise(self, results, glued):
        module.glue("rounded", "a gap of 25.04%", display=False)
        with pytest.raises(BareNumber, match=r"25\.04"):
            check_outputs(make_page(glue_cell(glued)), results.records, "page")

    def test_a_result_that_is_glued_but_not_saved_is_stopped(self, results, glued):
        with pytest.raises(BareNumber, match="'gap'"):
            check_outputs(make_page(glue_cell(glued)), {}, "page")

    def test_a_name_that_nothing_glues_is_stopped_in_prose_and_in_a_caption(self, results, glued):
        page = make_page(glue_cell(glued), prose="# T\n\nIt is {glue:text}`gapp`.")
        with pytest.raises(BareNumber, match=r"cell 'md-01': the prose quotes 'gapp'"):
            check_outputs(page, results.records, "page")
        page = make_page(glue_cell(glued))
        page.cells[1].metadata["mystnb"] = {"figure": {"caption": "{glue:text}`no_gap`", "name": "f"}}
        with pytest.raises(BareNumber, match=r"cell 'glue': the prose quotes 'no_gap'"):
            check_outputs(page, results.records, "page")


class TestRecords:
    RECORD: ClassVar = {
        **{"value": 0.1, "low": 0.0, "high": 0.2, "n_problems": 20, "n_draws": 40},
        **{"method": "bootstrap", "reason": "", "style": "percent", "title": "a title"},
    }

    def test_an_interval_with_counts_passes_and_so_does_a_reason(self):
        bare = {"low": None, "high": None, "n_problems": None, "n_draws": None, "reason": "a setting"}
        batches = {"n_problems": None, "n_draws": None, "method": "bootstrap over 20 batches"}
        check_records({"a": self.RECORD, "b": self.RECORD | bare, "c": self.RECORD | batches}, "page")

    @pytest.mark.parametrize("gone", [{"low": None}, {"high": None}, {"low": None, "high": None}])
    def test_without_interval_and_reason_it_is_stopped(self, gone):
        with pytest.raises(BareNumber, match="page: result 'a' has neither an interval nor a reason"):
            check_records({"a": self.RECORD | gone}, "page")

    def test_an_interval_over_nobody_knows_what_is_stopped(self):
        with pytest.raises(BareNumber, match="'a' has an interval, but does not say over how many"):
            check_records({"a": self.RECORD | {"n_problems": None, "n_draws": None}}, "page")


class TestProse:
    @pytest.mark.parametrize(
        ("text", "typed"),
        [
            ("The gap is 12.5% wide.", ["12.5%"]),
            ("It falls by 3 pp and costs 2.48× as much.", ["3 pp", "2.48×"]),
            ("Bars are 95% intervals.", ["95%"]),
            ("A rise of −0.3 on 134 problems.", ["0.3", "134"]),
            ("Of 1,652 tokens.", ["1,652"]),
            ("1. First\n2. Second, 0.4 wide\n", ["0.4"]),
            ("By hand: 0.5 of 200.\nAlso 0.6.\n\nThen 0.7.", ["0.7"]),
            ("$x$ = 0.5 and $$ 0.6 $$", ["0.5"]),
        ],
    )
    def test_a_figure_is_found(self, text, typed):
        assert find_typed(text) == typed

    @pytest.mark.parametrize(
        "text",
        [
            "Two arms, 3 panels and pass@16 of MATH-500 level 5, AIME 2024 and 2025.",
            "A chance of $0.5$, $1 - q^{16}$ and\n\n$$\n\\frac{0.25}{100}\n$$ (eq-x)",
            "Set `threshold: 0.7` {glue:text}`gap` {cite:p}`shao2024deepseekmath` {eq}`eq-12`.",
            "```python\nx = 0.5\n```\n",
            "Problems are resampled. By hand: two problems at 0.5 and 1.0 differ by 0.125.",
            "1. One\n10. Ten",
            "As in section 5.3 and chapter 12 of that book.",
            "See [the table](https://example.org/1.5/20%25).",
        ],
    )
    def test_counts_names_maths_code_and_work_by_hand_are_free(self, text):
        assert find_typed(text) == []

    def test_a_percentage_typed_into_prose_or_a_caption_is_named_with_its_cell(self):
        with pytest.raises(BareNumber, match=r"pass_at_k\.aime, cell 'md-01': 12\.5% is typed") as error:
            check_prose(make_page(prose="A gap of 12.5%."), "pass_at_k.aime")
        assert isinstance(error.value, BookError)
        assert "{glue:text}" in str(error.value)
        page = make_page(("fig-gap", []))
        page.cells[1].metadata["mystnb"] = {"figure": {"caption": "Bars are 95% intervals.", "name": "f"}}
        with pytest.raises(BareNumber, match=r"cell 'fig-gap': 95% is typed"):
            check_prose(page, "page")

    @pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: Path(path).stem)
    def test_no_notebook_types_a_figure(self, path):
        check_prose(nbformat.read(path, as_version=4), path.name)


def test_a_message_fits_three_lines_of_a_terminal(results, glued):
    module.glue("long", "9.99 " * 200, display=False)
    with pytest.raises(BareNumber) as error:
        check_outputs(make_page(glue_cell(glued)), results.records, "page")
    assert len(str(error.value)) < 400
