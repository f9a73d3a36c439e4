"""Dials: what the page carries, and that no number gets into it without an interval or a reason."""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest

from panelbook.measure.uncertainty import Estimate, exact
from panelbook.publish import dials
from panelbook.publish.dials import (
    Axis,
    Chart,
    DialError,
    Knob,
    Label,
    Series,
    check_dials,
    dial,
    sentence,
)
from panelbook.publish.numbers import BareNumber, check_outputs

SERIES = [Series("panel", "#0072B2", "", "o"), Series("think", "#D55E00", "7 4", "s")]
CHART = Chart("curves", Axis("draws"), Axis("solved", "percent", low=0.0, high=1.0))
HALF = Estimate(0.0625, 0.01, 0.25, 8, 16, "bootstrap")


def make_points(**change):
    points = pd.DataFrame(
        [
            {
                "k": k,
                "view": view,
                "series": name,
                "x": k,
                "y": 0.0625 * k,
                "low": 0.01,
                "high": 0.7,
                "reason": "",
            }
            for k in (1, 2, 3)
            for view in ("a", "b")
            for name in ("panel", "think")
        ]
    )
    return points.assign(**change)


def make_knobs():
    return [
        Knob("k", "draws", [1, 2, 3], ["1 draw", "2 draws", "3 draws"], 2),
        Knob("view", "shown", ["a", "b"], ["one", "other"], "a", choice=True),
    ]


def say(k, view):
    return [sentence("With {k} {x}.", k=Label(str(k)), x=(HALF, "percent"))]


def make(**change):
    options = {
        "title": "draws",
        "claim": "Turn it.",
        "knobs": make_knobs(),
        "charts": [CHART, CHART],
        "series": SERIES,
        "points": make_points(),
        "say": say,
    }
    return dial(**options | change)


def read(page):
    """Parse the data as a browser would: the text of the script element."""
    return json.loads(re.search(r"<script type=\"application/json\">(.*?)</script>", page, re.S)[1])


class TestSentence:
    def test_numbers_stand_with_their_interval_in_the_style_of_the_results(self):
        parts = sentence("{a} has {x}.", a=Label("panel"), x=(HALF, "percent")).parts
        assert parts == ({"label": "panel"}, " has ", {"value": "6.2%", "interval": "1.0% to 25.0%"}, ".")

    def test_a_number_without_interval_says_why(self):
        (part,) = sentence("{x}", x=(exact(-0.5, "a setting"), "points")).parts
        assert part == {"value": "−50.0 pp", "interval": "none: a setting"}

    @pytest.mark.parametrize("template", ["It rises by 12%.", "A ratio of 1.5 is large.", "{x} beyond 3 pp"])
    def test_a_number_may_not_be_typed(self, template):
        with pytest.raises(DialError, match="states a number"):
            sentence(template, x=(HALF, "percent"))

    def test_a_bare_value_or_an_unknown_style_is_refused(self):
        with pytest.raises(DialError, match="'x' must be a Label or"):
            sentence("{x}", x=0.5)
        with pytest.raises(DialError, match="no style 'furlong'"):
            sentence("{x}", x=(HALF, "furlong"))


class TestDial:
    def test_frames_come_row_by_row_with_the_last_knob_fastest(self):
        data = read(make()._repr_html_())
        marks = [[mark[1] for mark in frame["points"]] for frame in data["frames"]]
        assert marks == [[1, 1], [1, 1], [2, 2], [2, 2], [3, 3], [3, 3]]
        assert data["frames"][2]["say"] == [
            ["With ", {"label": "2"}, " ", {"value": "6.2%", "interval": "1.0% to 25.0%"}, "."]
        ]
        assert [knob["at"] for knob in data["knobs"]] == [1, 0]

    def test_a_mark_has_series_place_interval_and_their_texts(self):
        data = read(make()._repr_html_())
        assert data["frames"][2]["points"][1] == [1, 2, 0.125, 0.01, 0.7, "12.5%", "1.0% to 70.0%"]

    def test_axes_end_where_they_are_told_or_where_the_intervals_do(self):
        open_ended = Chart("curves", Axis("draws"), Axis("solved", "percent"))
        axes = read(make(charts=[CHART, open_ended])._repr_html_())["charts"]
        assert [(axis["y"]["low"], axis["y"]["high"]) for axis in axes] == [(0.0, 1.0), (0.01, 0.7)]
        assert (axes[0]["x"]["low"], axes[0]["x"]["high"]) == (1, 3)

    def test_curves_are_those_of_the_choice_in_order_and_hold_no_infinity(self):
        curves = make_points().sort_values("k", ascending=False)
        curves.loc[(curves["view"] == "b") & (curves["k"] == 3), "high"] = np.inf
        charts = read(make(curves=curves)._repr_html_())["charts"]
        assert [row[0] for row in charts[0]["curves"][1][1]] == [1, 2, 3]
        assert [row[3] for row in charts[1]["curves"][0][1]] == [0.7, 0.7, None]

    def test_nothing_in_the_data_can_end_the_script_or_start_another(self):
        hostile = '</script><script>alert("1")</script><!-- & <b>'
        page = make(title=hostile, claim=hostile)._repr_html_()
        assert page.count("<script") == 1
        assert page.count("</script") == 1
        assert "<b>" not in page
        assert read(page)["title"] == hostile

    def test_without_scripts_it_is_one_line_with_the_command(self):
        found = make(instead="panelbook run pass_at_k -p k_max=4")
        page = found._repr_html_()
        assert page.startswith('<div class="dial" hidden>')
        assert "<code>panelbook run pass_at_k -p k_max=4</code>" in page.partition("</div>")[2]
        assert repr(found).splitlines() == [
            "Dial “draws”: it turns on the page of the rendered book. Here: panelbook run pass_at_k -p k_max=4"
        ]

    def test_the_same_rows_give_the_same_bytes(self):
        assert make()._repr_html_() == make()._repr_html_()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"points": make_points().query("k != 2")},
                r"nothing to show or to say at {'k': 2, 'view': 'a'}",
            ),
            ({"say": lambda k, view: []}, r"nothing to show or to say at {'k': 1"),
            ({"points": make_points().drop(columns="low")}, "lack the columns low"),
            ({"points": make_points(low=np.nan)}, "panel at 1 has neither an interval nor a reason"),
            ({"points": make_points(series="stranger")}, "no series 'stranger'"),
            ({"charts": [CHART] * 3}, "one chart, or one for each value"),
            ({"claim": "It gains 3.5 points."}, "says '3.5' with neither"),
            ({"say": lambda k, view: [sentence("{x}", x=Label("12.5%"))]}, "'12.5%', which is no position"),
        ],
        ids=["gap", "silent", "column", "interval", "series", "charts", "claim", "label"],
    )
    def test_what_is_incomplete_is_refused(self, change, message):
        with pytest.raises(DialError, match=message):
            make(**change)

    def test_a_dial_that_weighs_too_much_is_refused(self, monkeypatch):
        monkeypatch.setattr(dials, "MAX_BYTES", 500)
        with pytest.raises(DialError, match="more than 500"):
            make()

    @pytest.mark.parametrize(
        ("positions", "texts", "initial"), [([1], ["1"], 1), ([1, 2], ["1"], 1), ([1, 2], ["1", "2"], 3)]
    )
    def test_a_knob_needs_positions_with_texts_and_a_start(self, positions, texts, initial):
        with pytest.raises(DialError, match="at least two positions"):
            Knob("k", "draws", positions, texts, initial)

    def test_a_mark_without_interval_keeps_its_reason(self):
        page = make(points=make_points(low=np.nan, high=np.nan, reason="all problems agree"))._repr_html_()
        assert read(page)["frames"][0]["points"][0][3:] == [None, None, "6.2%", "none: all problems agree"]


class TestCheck:
    """What the build asks of the dials of an executed notebook, whoever wrote them."""

    def spoil(self, change):
        data = read(make()._repr_html_())
        change(data)
        return f'<div class="dial" hidden><script type="application/json">{json.dumps(data)}</script></div>'

    def test_a_good_dial_passes(self):
        check_dials(make()._repr_html_(), "page")

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data["frames"][0]["points"].__setitem__(0, [0, 1, 0.5, None, None, "50.0%", ""]),
            lambda data: data["frames"][0]["points"].__setitem__(
                0, [0, 1, 0.5, None, 0.6, "50.0%", "to 60.0%"]
            ),
            lambda data: data["frames"][1]["say"].append(["It is 50.0%."]),
            lambda data: data["frames"][1]["say"].append([{"value": "50.0%", "interval": ""}]),
            lambda data: data.update(note="At 95% confidence."),
        ],
        ids=["empty", "half", "typed", "value", "note"],
    )
    def test_a_number_with_neither_interval_nor_reason_is_found(self, change):
        with pytest.raises(DialError, match="neither interval nor reason"):
            check_dials(self.spoil(change), "page")

    @pytest.mark.parametrize("text", ["{", "[]", '{"title": "x"}', '{"title": 1, "knobs": 2}'])
    def test_a_broken_one_is_named(self, text):
        page = f'<div class="dial" hidden><script type="application/json">{text}</script></div>'
        with pytest.raises(DialError, match="page: a dial is broken"):
            check_dials(page, "page")

    def test_the_check_of_a_page_reads_its_dials(self):
        def notebook(page):
            cell = nbformat.v4.new_code_cell("dial", id="dial-k")
            cell.outputs = [
                nbformat.v4.new_output("execute_result", {"text/html": page, "text/plain": "Dial"})
            ]
            return nbformat.v4.new_notebook(cells=[cell])

        check_outputs(notebook(make()._repr_html_()), {}, "chapter")
        with pytest.raises(DialError, match="chapter, cell 'dial-k': dial 'draws'"):
            check_outputs(notebook(self.spoil(lambda data: data.update(note="95%"))), {}, "chapter")
        with pytest.raises(BareNumber):
            check_outputs(notebook(make()._repr_html_() + "<p>12.5%</p>"), {}, "chapter")
