"""Verdicts: each part of a rule decides, in the order that the module states."""

import doctest

import pytest

from panelbook.measure import claims
from panelbook.measure.claims import (
    AGGREGATES,
    CONTRADICTED,
    HOLDS,
    NOT_RECOMPUTABLE,
    Claim,
    Condition,
    Figure,
    judge,
    reaches_beyond,
)
from panelbook.measure.uncertainty import Estimate, exact

GAIN = Estimate(0.148, 0.02, 0.28, 20, 80, "bootstrap")
FIGURE = Figure(value="gain", published=0.15, within=0.01, style="points")
UP = Condition(value="gain", above=0.0, style="points")


def claim(**changes):
    values = {"id": "X1", "claim": "a gain", "why": "", "tracked": "rows", "function": "gain"}
    return Claim(**values | {"figures": [FIGURE]} | changes)


class TestVerdict:
    def test_examples_in_docstrings(self):
        result = doctest.testmod(claims)
        assert result.attempted > 0
        assert result.failed == 0

    def test_a_figure_within_its_tolerance_holds(self):
        assert judge(claim(), {"gain": GAIN}) == HOLDS

    @pytest.mark.parametrize("value", [0.1399, 0.1601, -0.15, 15.0])
    def test_a_figure_beyond_its_tolerance_is_contradicted(self, value):
        assert judge(claim(), {"gain": exact(value, "a count")}) == CONTRADICTED

    @pytest.mark.parametrize("value", [0.14, 0.16])
    def test_the_tolerance_itself_still_holds_although_floats_are_inexact(self, value):
        assert judge(claim(), {"gain": exact(value, "a count")}) == HOLDS

    def test_sums_can_do_no_more_than_hold_from_aggregates(self):
        assert judge(claim(tracked="sums"), {"gain": GAIN}) == AGGREGATES
        assert judge(claim(tracked="sums"), {"gain": exact(0.3, "a count")}) == CONTRADICTED

    def test_nothing_tracked_is_not_recomputable(self):
        assert judge(claim(tracked="nothing", function="", figures=[]), {}) == NOT_RECOMPUTABLE

    def test_a_direction_needs_the_whole_interval(self):
        both_signs = Estimate(0.15, -0.01, 0.3, 20, 80, "bootstrap")
        assert judge(claim(conditions=[UP]), {"gain": GAIN}) == HOLDS
        assert judge(claim(conditions=[UP]), {"gain": both_signs}) == CONTRADICTED
        down = Condition(value="gain", below=0.2)
        assert judge(claim(conditions=[down]), {"gain": GAIN}) == CONTRADICTED
        assert judge(claim(conditions=[down]), {"gain": exact(0.15, "a count")}) == HOLDS

    def test_touching_the_reference_is_not_beyond_it(self):
        assert (
            judge(claim(conditions=[UP]), {"gain": Estimate(0.15, 0.0, 0.3, 20, 80, "bootstrap")})
            == CONTRADICTED
        )

    def test_a_requirement_that_fails_comes_before_a_figure_that_fails(self):
        need = Condition(value="change", above=1e-6)
        evidence = {"gain": exact(0.9, "a count"), "change": exact(1e-8, "the largest")}
        assert judge(claim(requires=[need]), evidence) == NOT_RECOMPUTABLE
        assert judge(claim(requires=[need]), evidence | {"change": exact(1.0, "the largest")}) == CONTRADICTED

    def test_an_estimate_that_is_not_there_is_refused_by_name(self):
        with pytest.raises(ValueError, match=r"gain returns no 'gain'; it returns loss"):
            judge(claim(), {"loss": GAIN})


class TestRules:
    @pytest.mark.parametrize("ends", [{}, {"above": 0.0, "below": 1.0}])
    def test_a_condition_has_exactly_one_reference(self, ends):
        with pytest.raises(ValueError, match="either above or below"):
            Condition(value="gain", **ends)

    @pytest.mark.parametrize(
        "changes",
        [
            {"tracked": "nothing"},
            {"function": ""},
            {"figures": []},
        ],
    )
    def test_a_rule_that_could_not_decide_is_refused(self, changes):
        with pytest.raises(ValueError, match="claim X1"):
            claim(**changes)


class TestReach:
    @pytest.mark.parametrize(
        ("style", "low", "high", "expected"),
        [
            ("points", 0.02, 0.28, True),
            ("points", -0.02, 0.28, False),
            ("ratio", 0.5, 1.2, False),
            ("ratio", 1.1, 1.2, True),
            ("points", -0.3, -0.1, True),
        ],
    )
    def test_no_effect_is_one_for_a_ratio_and_zero_otherwise(self, style, low, high, expected):
        figure = Figure(value="gain", published=0.15, within=0.01, style=style)
        evidence = {"gain": Estimate((low + high) / 2, low, high, 20, 80, "bootstrap")}
        assert reaches_beyond(claim(figures=[figure]), evidence) is expected

    def test_without_an_interval_nothing_is_said(self):
        assert reaches_beyond(claim(), {"gain": exact(0.15, "a count")}) is None
        assert reaches_beyond(claim(tracked="nothing", function="", figures=[]), {}) is None
