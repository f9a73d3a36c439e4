"""Numbers of a chapter: stored unrounded, written once, quoted by the prose in the same words."""

import json
import math
import re

import pandas as pd
import pytest

from panelbook.measure.uncertainty import Estimate
from panelbook.publish import results as module
from panelbook.publish.results import (
    EXACT,
    GAPS,
    NUMBER,
    STYLES,
    Name,
    Results,
    ResultsError,
    format_full,
    format_interval,
    format_value,
    list_moves,
    read_results,
    row_estimate,
    show,
)

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def glued(monkeypatch):
    """Return what the notebook would have glued, name -> text."""
    store: dict[str, str] = {}
    monkeypatch.setattr(module, "glue", lambda name, text, display: store.__setitem__(name, text))
    return store


@pytest.fixture
def results(tmp_path, glued):
    return Results(tmp_path / "out")


def make(value=0.25, low=0.125, high=0.5, n_problems=20, n_draws=1640, reason=""):
    return Estimate(value, low, high, n_problems, n_draws, "bootstrap", reason)


def record(value, style, low=None, high=None, reason="none was made", n_problems=None, n_draws=None):
    return {
        "value": value,
        "low": low,
        "high": high,
        "n_problems": n_problems,
        "n_draws": n_draws,
        "method": "by hand",
        "reason": reason if low is None else "",
        "style": style,
        "title": "a title",
    }


class TestFormat:
    @pytest.mark.parametrize(
        ("style", "value", "text"),
        [
            ("fraction", 0.12345, "0.123"),
            ("percent", 0.1234, "12.3%"),
            ("change", 0.782, "+78.2%"),
            ("change", -0.25, f"{MINUS}25.0%"),
            ("points", 0.156, "+15.6 pp"),
            ("points", -0.084, f"{MINUS}8.4 pp"),
            ("ratio", 6.914, "6.91×"),
            ("tokens", 1652.4, "1,652"),
            ("number", -1.005, f"{MINUS}1.00"),
            ("decimal", 23.456, "23.5"),
            ("millions", 12_345_678, "12.3 million"),
            ("level", 0.95, "95%"),
            ("level", 0.07, "7%"),
            ("level", 0.025, "2.5%"),
            ("exponent", 1.54e-4, "1.5e-04"),
            ("count", 877, "877"),
            ("count", 14032, "14,032"),
            ("p", 0.0312, "0.031"),
            ("p", 0.00012, "0.00012"),
            ("p", 6.3e-52, "6.3e-52"),
        ],
    )
    def test_of_a_value(self, style, value, text):
        assert format_value(record(value, style)) == text

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("value", [None, math.nan])
    def test_of_what_is_undefined(self, style, value):
        assert format_value(record(value, style)) == "undefined"

    def test_of_an_interval(self):
        assert format_interval(record(0.25, "percent", 0.125, 0.5)) == "12.5% to 50.0%"
        assert format_interval(record(0.0, "points", -0.01, 0.02)) == f"{MINUS}1.0 pp to +2.0 pp"

    def test_of_an_interval_that_is_not_there_gives_the_reason(self):
        assert format_interval(record(0.25, "percent", reason="only sums are tracked")).endswith(
            "only sums are tracked"
        )

    def test_of_all_of_it(self):
        full = format_full(record(0.25, "percent", 0.125, 0.5, n_problems=20, n_draws=1640))
        assert full == "25.0% (12.5% to 50.0%; 20 problems, 1,640 draws)"
        assert format_full(record(0.25, "percent", 0.125, 0.5)) == "25.0% (12.5% to 50.0%)"
        assert (
            format_full(record(0.25, "percent", 0.125, 0.5, n_problems=20))
            == "25.0% (12.5% to 50.0%; 20 problems)"
        )


class TestResults:
    def test_one_call_stores_the_number_and_glues_three_texts(self, results, glued):
        results.add("gap", make(), "percent", "the gap")
        assert glued == {
            "gap": "25.0%",
            "gap_ci": "12.5% to 50.0%",
            "gap_full": "25.0% (12.5% to 50.0%; 20 problems, 1,640 draws)",
        }
        assert results.text("gap_full") == glued["gap_full"]

    def test_what_is_stored_is_not_rounded_and_carries_interval_and_counts(self, results):
        value = 1 / 3
        results.add("gap", make(value), "percent", "the gap")
        results.save()
        stored = json.loads((results.output_dir / "results.json").read_text(encoding="utf-8"))["gap"]
        assert (stored["value"], stored["low"], stored["high"]) == (value, 0.125, 0.5)
        assert (stored["n_problems"], stored["n_draws"], stored["method"]) == (20, 1640, "bootstrap")
        assert (stored["style"], stored["title"]) == ("percent", "the gap")

    def test_what_is_saved_is_what_is_read(self, results):
        results.add("gap", make(), "percent", "the gap")
        results.add("p", make(0.5, None, None, reason="a toy"), "p", "no interval")
        results.save()
        assert read_results(results.output_dir / "results.json") == results.records

    def test_saving_twice_gives_the_same_bytes_whatever_the_order(self, tmp_path, glued):
        texts = []
        for name, order in (("one", "ab"), ("two", "ba")):
            results = Results(tmp_path / name)
            for key in order:
                results.add(key, make(), "percent", key)
            results.save()
            texts.append((results.output_dir / "results.json").read_bytes())
        assert texts[0] == texts[1]

    def test_an_undefined_value_is_stored_as_null_and_said_to_be_undefined(self, results, glued):
        results.add("cost", make(math.nan, None, None, reason="no draw is correct"), "tokens", "cost")
        results.save()
        assert (
            json.loads((results.output_dir / "results.json").read_text(encoding="utf-8"))["cost"]["value"]
            is None
        )
        assert glued["cost"] == "undefined"

    def test_a_name_can_be_used_once(self, results):
        results.add("gap", make(), "percent", "the gap")
        with pytest.raises(ResultsError, match="'gap' is there already"):
            results.add("gap", make(), "percent", "another gap")

    def test_an_unknown_style_is_answered_with_the_known_ones(self, results):
        with pytest.raises(ResultsError, match=r"no style 'precent'; known: fraction, percent"):
            results.add("gap", make(), "precent", "the gap")
        assert results.records == {}

    def test_a_word_is_glued_and_not_stored(self, results, glued):
        results.say("first", "panel")
        results.save()
        assert glued == {"first": "panel"}
        assert json.loads((results.output_dir / "results.json").read_text(encoding="utf-8")) == {}

    def test_an_exact_number_is_stored_with_its_reason_and_without_interval_and_counts(self, results, glued):
        results.exact("n", 1234, "count", "rows", "a count of the rows")
        results.save()
        stored = read_results(results.output_dir / "results.json")["n"]
        assert (stored["value"], stored["low"], stored["high"]) == (1234.0, None, None)
        assert (stored["n_problems"], stored["n_draws"]) == (None, None)
        assert (stored["method"], stored["reason"]) == (EXACT, "a count of the rows")
        assert glued == {
            "n": "1,234",
            "n_ci": "none: a count of the rows",
            "n_full": "1,234 (none: a count of the rows)",
        }

    def test_an_exact_number_needs_its_reason(self, results):
        with pytest.raises(ValueError, match="must say why"):
            results.exact("n", 3, "count", "rows", "")
        assert results.records == {}

    def test_an_exact_number_is_in_the_table_only_if_asked_for(self, results):
        results.add("gap", make(), "percent", "the gap")
        results.exact("n", 3, "count", "rows", "a count")
        assert results.table().data["quantity"].tolist() == ["the gap"]
        assert results.table("n").data["interval"].tolist() == ["none: a count"]

    def test_without_estimates_there_is_no_table(self, results):
        results.exact("n", 3, "count", "rows", "a count")
        assert results.table() is None

    def test_a_sentence_may_quote_what_is_a_result(self, results, glued):
        results.add("gap", make(-0.25, -0.5, -0.125), "points", "the gap")
        results.exact("p", 6.3e-52, "p", "p", "a p-value")
        said = f"A gap of {results.text('gap_full')}, p = {results.text('p')}, at pass@8 of MATH-500."
        results.say("sentence", said)
        assert glued["sentence"] == said

    @pytest.mark.parametrize(
        "bare", ["25.1%", "-0.3", f"{MINUS}8.4 pp", "6.9×", "of 1,652.", "3/4", "1e-17", "7"]
    )
    def test_a_sentence_with_another_number_is_refused(self, results, glued, bare):
        results.add("gap", make(), "percent", "the gap")
        with pytest.raises(
            ResultsError, match=r"'sentence' says .*no result of this chapter.*Results\.exact"
        ):
            results.say("sentence", f"It is {bare}")
        assert "sentence" not in glued

    def test_the_sentence_of_a_verdict_is_held_to_the_same_rule(self, results):
        with pytest.raises(ResultsError, match="says '1'"):
            results.say_direction("verdict", make(0.5, 0.1, 0.9), up="above 1", down="below", unclear="open")

    def test_the_digits_of_a_name_are_no_figures_there_and_in_sentences(self, results, glued):
        results.name("model", "Qwen 2.5 of 7")
        results.say("sentence", "Drawn with Qwen 2.5 of 7.")
        results.save()
        assert glued["model"] == "Qwen 2.5 of 7"
        assert isinstance(glued["model"], Name)
        assert read_results(results.output_dir / "results.json") == {}

    @pytest.mark.parametrize(
        ("low", "high", "reference", "said"),
        [
            (0.1, 0.5, 0.0, "up"),
            (-0.5, -0.1, 0.0, "down"),
            (-0.1, 0.5, 0.0, "unclear"),
            (0.0, 0.5, 0.0, "unclear"),
            (-0.5, 0.0, 0.0, "unclear"),
            (0.8, 1.2, 1.0, "unclear"),
            (1.1, 1.2, 1.0, "up"),
            (0.8, 0.9, 1.0, "down"),
            (None, None, 0.0, "unclear"),
        ],
    )
    def test_the_sentence_is_the_one_that_the_interval_supports(
        self, results, glued, low, high, reference, said
    ):
        found = make(0.3, low, high, reason="" if low is not None else "a toy")
        results.say_direction("verdict", found, up="up", down="down", unclear="unclear", reference=reference)
        assert glued["verdict"] == said

    def test_the_table_shows_what_was_asked_for_in_that_order(self, results):
        for name in ("a", "b", "c"):
            results.add(name, make(), "percent", f"title of {name}")
        assert results.table("c", "a").data["quantity"].tolist() == ["title of c", "title of a"]
        assert results.table().data["quantity"].tolist() == ["title of a", "title of b", "title of c"]
        row = results.table("a").data.iloc[0]
        assert row[["estimate", "interval", "problems", "draws"]].tolist() == [
            "25.0%",
            "12.5% to 50.0%",
            "20",
            "1,640",
        ]


class TestNumber:
    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("a gap of 12.5%, or +3 pp", ["12.5", "3"]),
            (f"{MINUS}8.4 pp and -0.3", ["8.4", "0.3"]),
            ("1,652, then 14,032.", ["1,652", "14,032"]),
            ("p = 6e-52 or 1.5e-04", ["6e-52", "1.5e-04"]),
            ("6.91× as much", ["6.91"]),
            ("pass@8 of MATH-500, L5, aime2024_0 and gpt-4", []),
        ],
    )
    def test_is_told_from_the_digits_of_a_name(self, text, numbers):
        assert NUMBER.findall(text) == numbers


class TestShow:
    TABLE = pd.DataFrame({"arm": ["a<b"], "x": [0.12345], "n": [1234]})

    def test_writes_decimals_thousands_and_no_markup(self):
        html = show(self.TABLE).to_html()
        assert ">0.123<" in html
        assert ">1,234<" in html
        assert "a&lt;b" in html

    def test_without_rows_it_says_so(self):
        assert show(self.TABLE.head(0)).data == "<p>No rows.</p>"

    def test_a_reason_stands_above_the_table_and_nothing_without_one(self):
        assert (
            "<caption>No intervals: only sums are tracked.</caption>"
            in show(self.TABLE, why="only sums are tracked").to_html()
        )
        assert "<caption>" not in show(self.TABLE).to_html()

    def test_a_missing_interval_is_explained_and_a_whole_one_needs_no_word(self):
        whole = self.TABLE.assign(low=0.1, high=0.2)
        assert "<caption>" not in show(whole).to_html()
        broken = pd.concat([whole, self.TABLE], ignore_index=True)
        assert f"<caption>{GAPS}</caption>" in show(broken).to_html()
        assert GAPS not in show(broken, why="a toy").to_html()
        assert GAPS not in show(self.TABLE.assign(lowest=float("nan"))).to_html()

    def test_a_column_may_have_a_format_of_its_own_and_the_others_keep_theirs(self):
        html = show(self.TABLE.assign(y=0.5, z=float("nan")), precision=1, formats={"x": "{:.2%}"}).to_html()
        assert ">12.35%<" in html
        assert ">0.5<" in html
        assert "nan" not in html

    def test_a_named_index_is_shown_and_another_is_not(self):
        table = self.TABLE.set_index("arm").rename_axis(columns="what")
        assert show(table).data.columns.tolist() == ["arm", "x", "n"]
        assert show(self.TABLE.set_axis(["row"])).data.columns.tolist() == ["arm", "x", "n"]
        by_two = show(self.TABLE.set_index(["arm", "n"]))
        assert by_two.data.columns.tolist() == ["arm", "n", "x"]


ROW = {
    "x": 0.25,
    "low": 0.1,
    "high": 0.4,
    "g_low": 0.2,
    "g_high": 0.3,
    "n_problems": 20.0,
    "n_draws": 40,
    "method": "m",
}


class TestRowEstimate:
    def test_takes_value_interval_and_counts(self):
        assert row_estimate(pd.Series(ROW), "x") == Estimate(0.25, 0.1, 0.4, 20, 40, "m")
        assert row_estimate(pd.Series(ROW), "x", prefix="g_").low == 0.2

    def test_without_an_interval_it_takes_the_reason(self):
        row = pd.Series(ROW | {"low": math.nan, "high": math.nan, "reason": "one problem"})
        made = row_estimate(row, "x")
        assert (made.low, made.high, made.reason) == (None, None, "one problem")

    def test_the_reason_of_its_own_interval_comes_first(self):
        row = pd.Series(
            ROW | {"g_low": math.nan, "g_high": math.nan, "reason": "general", "g_reason": "of the ratio"}
        )
        assert row_estimate(row, "x", prefix="g_").reason == "of the ratio"


class TestRead:
    def write(self, tmp_path, content):
        path = tmp_path / "results.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def test_a_missing_file_is_answered_with_the_command_that_makes_it(self, tmp_path):
        with pytest.raises(ResultsError, match=r"results\.json is missing. Run `panelbook build`"):
            read_results(tmp_path / "results.json")

    @pytest.mark.parametrize(
        "text", ["", "{", "not json", '{"a": NaN', "[1, 2]", "3", "null", '{"a": 3}', '{"a": [1]}']
    )
    def test_what_holds_no_results_is_named(self, tmp_path, text):
        with pytest.raises(ResultsError, match=r"results\.json"):
            read_results(self.write(tmp_path, text))

    @pytest.mark.parametrize("field", list(record(1, "count")))
    def test_a_result_that_lacks_a_field_is_named_with_it(self, tmp_path, field):
        broken = record(1, "count")
        del broken[field]
        with pytest.raises(ResultsError, match=f"result 'gap' lacks {field}"):
            read_results(self.write(tmp_path, {"gap": broken}))

    def test_a_result_without_interval_and_reason_is_named(self, tmp_path):
        with pytest.raises(ResultsError, match="'gap' has neither an interval nor a reason"):
            read_results(self.write(tmp_path, {"gap": record(1, "count", reason="")}))

    def test_messages_fit_one_screen(self, tmp_path):
        with pytest.raises(ResultsError) as error:
            read_results(self.write(tmp_path, {"gap": {}}))
        assert len(str(error.value).splitlines()) == 1
        assert re.search("lacks .*high, .*low, .*method", str(error.value))


def test_moves_are_the_results_that_changed_came_or_went():
    record = {"value": 1.0, "low": 0.0, "high": 2.0, "n_problems": 3, "n_draws": 6, "title": "t"}
    before = {"same": record, "moved": record, "gone": record}
    after = {"same": record | {"title": "renamed"}, "moved": record | {"high": 3.0}, "new": record}
    assert list_moves(before, after) == ["moved", "new", "gone"]
