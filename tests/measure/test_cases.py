"""Cases: every rule on a table small enough to pick by eye, ties, and what is missing."""

import pandas as pd
import pytest

from panelbook.measure.cases import KINDS, find_slips, pick_cases, pick_situations

ROWS = [
    # problem, arm, sample, correct, completion, tokens, predicted, first result, first right
    ("a", "panel", 0, True, "1 + 1 = 2", 5, "2", "2", True),
    ("a", "panel", 1, True, "1 + 1 = 2", 5, "2", "2", True),
    ("a", "panel", 2, False, "1 + 1 = 2 , 2 + 1 = 4", 9, "4", "2", True),
    ("a", "think", 0, True, "1 + 1 = 2", 5, "2", "2", True),
    ("a", "think", 1, False, "x", 30, None, None, False),
    ("a", "think", 2, True, "1 + 2 = 2", 6, "2", "2", True),
    ("b", "panel", 0, False, "y", 9, "7", "7", False),
    ("b", "panel", 1, True, "9 - 1 = 7 , 2 * 2 = 5", 8, "8", "7", False),
    ("b", "panel", 2, False, "9 - 1 = 8 , 8 + 1 = 9", 8, "9", "8", True),
    ("b", "think", 0, False, "z", 30, "7", "7", False),
    ("b", "think", 1, False, "z", 30, "7", "7", False),
    ("b", "think", 2, False, "z", 30, "7", "7", False),
    ("c", "panel", 0, False, "w", 1, "0", "0", False),
    ("c", "think", 0, False, "w", 1, "0", "0", False),
]
COLUMNS = (
    "problem_id", "arm", "sample_id", "correct", "completion", "completion_tokens", "predicted", "first_result",
    "first_right",
)  # fmt: skip


@pytest.fixture
def draws():
    return pd.DataFrame(ROWS, columns=COLUMNS).astype({"predicted": "string", "first_result": "string"})


def place(draws, picked):
    """Return kind and arm -> (problem, sample) of what was picked."""
    rows = picked.dropna(subset="row").join(draws[["problem_id", "sample_id"]], on="row")
    return {(row.kind, row.arm): (row.problem_id, row.sample_id) for row in rows.itertuples()}


class TestSlips:
    @pytest.mark.parametrize(
        ("text", "slips"),
        [
            ("30 * 7 = 210 , 210 - 14 = 196", []),
            ("100 + 290 = 490 , 2 + 8 = 10", ["100 + 290 = 490"]),
            ("7-9=-2 7-9=2", ["7-9=2"]),
            ("1.5 + 2 = 9", []),  # no whole numbers
            ("2 * 3 + 1 = 8", []),  # a longer expression
            ("2 + 3 = 5.5", []),
            ("9" * 400 + " + 1 = 2", []),
            ("", []),
        ],
    )
    def test_wrong_equations_are_found_and_others_left(self, text, slips):
        assert find_slips(text) == slips


class TestSituations:
    def test_each_problem_once_and_the_typical_draw(self, draws):
        picked = pick_situations(draws, "panel", "think")
        assert picked["situation"].nunique() == 3  # as many as there are problems
        rows = draws.loc[picked["row"]].reset_index(drop=True)
        assert list(rows["arm"]) == ["panel", "think"] * 3
        assert list(rows["problem_id"].iloc[::2]) == list(rows["problem_id"].iloc[1::2])
        assert rows["problem_id"].iloc[::2].is_unique
        assert picked.iloc[0]["note"] == "right in 2 of 3 draws"
        assert rows.iloc[0][["problem_id", "sample_id"]].tolist() == ["a", 0]

    def test_order_of_the_rows_does_not_matter(self, draws):
        shuffled = draws.sample(frac=1, random_state=4)
        here, there = (place(draws, pick_situations(table, "panel", "think")) for table in (draws, shuffled))
        assert here == there

    def test_a_problem_of_one_arm_alone_cannot_be_shown_side_by_side(self, draws):
        with pytest.raises(ValueError, match="no problem was drawn under both 'panel' and 'native'"):
            pick_situations(draws, "panel", "native")


class TestKinds:
    def test_each_rule_takes_the_draw_that_it_names(self, draws):
        found = place(draws, pick_cases(draws, "panel", "think", turns=True))
        assert found["rescued", "panel"] == ("b", 1)
        assert found["spoiled", "panel"] == ("a", 2)  # a is easier than b
        assert found["wrong_path", "panel"] == ("b", 1)
        assert found["wrong_path", "think"] == ("a", 2)
        assert found["longest_wrong", "panel"] == ("a", 2)  # as long as (b, 0); a comes first
        assert found["longest_wrong", "think"] == ("a", 1)  # no answer is not right
        assert found["repeated", "panel"] == ("a", 0)
        assert found["repeated", "think"] == ("b", 0)

    def test_a_kind_without_a_draw_says_so(self, draws):
        picked = pick_cases(draws, "panel", "think", turns=True).set_index(["kind", "arm"])
        none = picked.loc[("rescued", "think")]
        assert (none["qualify"], none["draws"], none["note"]) == (0, 7, "")
        assert pd.isna(none["row"])

    def test_counts_and_notes(self, draws):
        picked = pick_cases(draws, "panel", "think", turns=True).set_index(["kind", "arm"])
        assert picked.loc[("repeated", "think"), ["qualify", "note"]].tolist() == [
            3,
            "3 of the 3 draws of this problem are this text",
        ]
        assert picked.loc[("spoiled", "panel"), "qualify"] == 2
        assert picked.loc[("wrong_path", "panel"), "note"] == "wrong on the way: 9 - 1 = 7, 2 * 2 = 5"

    def test_models_without_turns_have_the_kinds_that_need_none(self, draws):
        plain = draws.drop(columns=["first_result", "first_right"])
        picked = pick_cases(plain, "panel", "think", turns=False)
        assert set(picked["kind"]) == {name for name, kind in KINDS.items() if not kind.turns}
        assert set(picked["kind"]) == {"longest_wrong", "repeated"}

    def test_an_arm_without_draws_has_empty_rows(self, draws):
        picked = pick_cases(draws[draws["arm"] == "panel"], "panel", "think", turns=True)
        assert picked.loc[picked["arm"] == "think", "row"].isna().all()

    def test_order_of_the_rows_does_not_matter(self, draws):
        shuffled = draws.sample(frac=1, random_state=2)
        here, there = (
            place(draws, pick_cases(table, "panel", "think", turns=True)) for table in (draws, shuffled)
        )
        assert here == there
