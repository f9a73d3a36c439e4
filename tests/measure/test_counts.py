"""The counts table: what is refused, and how two arms are lined up."""

import pandas as pd
import pytest

from panelbook.measure.counts import list_arms, pair_arms, require_columns, select_arm


@pytest.fixture
def counts():
    return pd.DataFrame(
        {
            "arm": ["think", "panel", "panel", "think", "panel"],
            "problem_id": ["p2", "p2", "p1", "p3", "p4"],
            "n": [4, 8, 8, 4, 8],
            "c": [1, 2, 0, 4, 8],
            "mean_tokens": [10.0, 5.0, 6.0, 20.0, 7.0],
        }
    )


def test_rows_come_in_the_order_of_problems(counts):
    assert select_arm(counts, "panel")["problem_id"].tolist() == ["p1", "p2", "p4"]
    assert select_arm(counts[::-1], "panel").equals(select_arm(counts, "panel"))
    assert list_arms(counts) == ["panel", "think"]


def test_pairing_is_an_inner_join_that_counts_what_it_drops(counts):
    pair = pair_arms(counts, "panel", "think")
    assert pair.first["problem_id"].tolist() == pair.second["problem_id"].tolist() == ["p2"]
    assert pair.n_unpaired == 3
    assert pair.n_draws == 12


def test_names_the_missing_column(counts):
    with pytest.raises(ValueError, match="no column 'mean_distance'"):
        select_arm(counts, "panel", ("mean_distance",))
    with pytest.raises(ValueError, match="training table has no column 'step'"):
        require_columns(counts, ("step",), "training")


def test_names_the_pair_that_occurs_twice(counts):
    with pytest.raises(ValueError, match=r"\('panel', 'p1'\) occurs more than once"):
        select_arm(pd.concat([counts, counts[2:3]]), "panel")


def test_names_the_arms_there_are(counts):
    with pytest.raises(ValueError, match="'native' has no rows; the counts table has: think, panel"):
        select_arm(counts, "native")


def test_refuses_arms_without_a_common_problem(counts):
    apart = counts[counts["problem_id"] != "p2"]
    with pytest.raises(ValueError, match=r"'panel' \(2 problems\) and 'think' \(1 problems\) share no"):
        pair_arms(apart, "panel", "think")


@pytest.mark.parametrize(("column", "value"), [("c", 9), ("c", -1), ("n", 0), ("n", 7.5), ("c", None)])
def test_names_the_problem_with_impossible_counts(counts, column, value):
    bad = counts.astype({"n": float, "c": float})
    bad.loc[1, column] = value
    with pytest.raises(ValueError, match="problem 'p2' of arm 'panel'"):
        select_arm(bad, "panel")


def test_names_the_problem_without_a_value(counts):
    counts.loc[2, "mean_tokens"] = None
    with pytest.raises(ValueError, match=r"'mean_tokens' must be a finite number; problem 'p1'.*1 such"):
        select_arm(counts, "panel", ("mean_tokens",))
    assert len(select_arm(counts, "panel")) == 3  # not asked for, not checked


def test_counts_may_arrive_as_floats(counts):
    rows = select_arm(counts.astype({"n": float, "c": float}), "panel")
    assert rows[["n", "c"]].dtypes.astype(str).tolist() == ["int64", "int64"]
