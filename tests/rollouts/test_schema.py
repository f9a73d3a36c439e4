"""The counts table: what it must hold, how rows are chosen, and how draws are counted into it."""

import numpy as np
import pandas as pd
import pytest

from panelbook.rollouts.schema import (
    COUNTS_COLUMNS,
    COUNTS_KEY,
    TableError,
    check_counts,
    count_draws,
    read_counts,
    select_counts,
)


def make_counts(**changes):
    """Return two arms on three problems, as plain Python types; `changes` replace whole columns."""
    rows = [
        {
            "study": "toy",
            "benchmark": "sums",
            "arm": arm,
            "checkpoint": "w0",
            "problem_id": f"p{i}",
            "source": "easy",
            "n": 4,
            "c": i,
            "mean_tokens": None,
            "mean_distance": None,
            "max_tokens": None,
            "temperature": 1.0,
        }
        for arm in ("think", "panel")
        for i in range(3)
    ]
    return pd.DataFrame(rows).assign(**changes)


def make_draws():
    """Return three draws on one problem and two on another, one arm."""
    rows = [
        ("a", 0, "correct", 10),
        ("a", 1, "wrong", 20),
        ("a", 2, "correct", 60),
        ("b", 0, "timeout", 8),
        ("b", 1, "no_answer", 4),
    ]
    return pd.DataFrame(rows, columns=["problem_id", "sample_id", "status", "completion_tokens"]).assign(
        study="toy",
        benchmark="sums",
        arm="panel",
        checkpoint="w0",
        source="easy",
        max_tokens=64,
        temperature=1.0,
        extra="x",
    )


class TestCheck:
    def test_types_columns_and_order_are_fixed(self):
        table = check_counts(make_counts())
        assert list(table.columns) == list(COUNTS_COLUMNS)
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COUNTS_COLUMNS
        assert table["arm"].tolist() == ["panel"] * 3 + ["think"] * 3
        assert table.index.tolist() == list(range(6))

    def test_the_order_of_rows_and_further_columns_do_not_matter(self):
        shuffled = make_counts().sample(frac=1, random_state=3).assign(note="ignored")
        pd.testing.assert_frame_equal(check_counts(shuffled), check_counts(make_counts()))

    def test_checking_twice_changes_nothing(self):
        once = check_counts(make_counts())
        pd.testing.assert_frame_equal(check_counts(once), once)

    def test_the_table_handed_in_is_left_alone(self):
        given = make_counts()
        before = given.copy()
        check_counts(given)
        pd.testing.assert_frame_equal(given, before)

    @pytest.mark.parametrize("column", list(COUNTS_COLUMNS))
    def test_an_absent_column_is_named(self, column):
        with pytest.raises(TableError, match=f"mine: no column '{column}'; there are"):
            check_counts(make_counts().drop(columns=column), "mine")

    @pytest.mark.parametrize("column", [*COUNTS_KEY, "source"])
    def test_a_missing_value_in_a_column_that_needs_one_is_named(self, column):
        counts = make_counts()
        counts.loc[2, column] = None
        with pytest.raises(TableError, match=f"column '{column}' has missing values"):
            check_counts(counts)

    @pytest.mark.parametrize("column", ["mean_tokens", "mean_distance", "max_tokens", "temperature"])
    def test_a_value_that_was_not_recorded_may_be_missing(self, column):
        assert check_counts(make_counts(**{column: None}))[column].isna().all()

    @pytest.mark.parametrize(
        ("column", "values"), [("n", "four"), ("c", [0.5, 1, 2] * 2), ("c", None), ("mean_tokens", "long")]
    )
    def test_a_value_of_the_wrong_type_is_refused(self, column, values):
        with pytest.raises(TableError, match="counts: a column has values of the wrong type"):
            check_counts(make_counts(**{column: values}))

    @pytest.mark.parametrize(("n", "c"), [(4, 5), (4, -1), (0, 0), (-1, 0)])
    def test_counts_that_cannot_be_are_refused_with_problem_arm_n_and_c(self, n, c):
        counts = make_counts()
        counts.loc[4, ["n", "c"]] = [n, c]
        with pytest.raises(TableError) as error:
            check_counts(counts, "mine")
        assert f"mine: problem 'p1' of arm 'panel' has n={n}, c={c}" in str(error.value)

    @pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (4, 4)])
    def test_the_ends_of_the_range_are_allowed(self, n, c):
        assert check_counts(make_counts(n=n, c=c))["c"].tolist() == [c] * 6

    def test_a_row_that_occurs_twice_is_named(self):
        counts = make_counts()
        with pytest.raises(
            TableError, match=r"1 rows repeat another; the first is .*arm='think', .*problem_id='p0'"
        ):
            check_counts(pd.concat([counts, counts.head(1)]))

    def test_one_problem_may_stand_under_two_checkpoints(self):
        both = pd.concat([make_counts(), make_counts(checkpoint="w1")])
        assert len(check_counts(both)) == 12


class TestSelect:
    @pytest.fixture
    def counts(self):
        return pd.concat(
            [make_counts(), make_counts(benchmark="products"), make_counts(study="other")], ignore_index=True
        )

    def test_keeps_the_rows_of_the_arms_on_one_benchmark_of_one_study(self, counts):
        chosen = select_counts(counts, study="toy", benchmark="sums", arms=["panel"])
        assert chosen[["study", "benchmark", "arm"]].drop_duplicates().to_numpy().tolist() == [
            ["toy", "sums", "panel"]
        ]
        assert chosen.index.tolist() == [0, 1, 2]

    def test_several_arms_are_kept_together(self, counts):
        chosen = select_counts(counts, study="toy", benchmark="sums", arms=["panel", "think"])
        assert len(chosen) == 6

    @pytest.mark.parametrize("wrong", [{"study": "x"}, {"benchmark": "x"}, {"arms": ["panel", "x"]}])
    def test_an_arm_that_is_not_there_is_answered_with_what_is(self, counts, wrong):
        arguments = {"study": "toy", "benchmark": "sums", "arms": ["panel"]} | wrong
        with pytest.raises(TableError, match="no rows for study") as error:
            select_counts(counts, **arguments)
        for row in ("other/sums/panel", "toy/products/think", "toy/sums/panel"):
            assert row in str(error.value)


class TestRead:
    def test_what_was_written_is_read_back(self, tmp_path):
        table = check_counts(make_counts(mean_tokens=3.5, max_tokens=64))
        table.to_parquet(tmp_path / "counts.parquet", index=False)
        pd.testing.assert_frame_equal(read_counts(tmp_path / "counts.parquet"), table)

    def test_a_missing_file_and_one_that_is_no_parquet_are_named(self, tmp_path):
        (tmp_path / "counts.csv").write_text("n,c\n4,1\n", encoding="utf-8")
        for name in ("counts.csv", "gone.parquet"):
            with pytest.raises(TableError, match=name):
                read_counts(tmp_path / name)

    def test_a_table_that_breaks_a_rule_is_refused_with_the_files_name(self, tmp_path):
        make_counts(n=1, c=2, max_tokens=1).to_parquet(tmp_path / "counts.parquet")
        with pytest.raises(TableError, match=r"counts\.parquet: problem 'p0' of arm 'think' has n=1, c=2"):
            read_counts(tmp_path / "counts.parquet")


class TestCountDraws:
    def test_by_hand(self):
        counts = count_draws(make_draws()).set_index("problem_id")
        assert counts.loc["a", ["n", "c", "mean_tokens"]].tolist() == [3, 2, 30.0]
        assert counts.loc["b", ["n", "c", "mean_tokens"]].tolist() == [2, 0, 6.0]
        assert counts["max_tokens"].tolist() == [64, 64]
        assert counts["mean_distance"].isna().all()

    def test_only_correct_counts_as_correct(self):
        for status in ("wrong", "no_answer", "unparsable", "timeout"):
            assert count_draws(make_draws().assign(status=status))["c"].sum() == 0
        assert count_draws(make_draws().assign(status="correct"))["c"].sum() == 5

    def test_arms_and_checkpoints_are_counted_apart(self):
        draws = pd.concat(
            [make_draws(), make_draws().assign(arm="think"), make_draws().assign(checkpoint="w1")]
        )
        assert len(count_draws(draws)) == 6

    def test_the_order_of_draws_does_not_matter(self):
        rng = np.random.default_rng(0)
        draws = make_draws()
        pd.testing.assert_frame_equal(
            count_draws(draws.iloc[rng.permutation(len(draws))]), count_draws(draws)
        )

    def test_a_draw_that_occurs_twice_is_refused(self):
        draws = make_draws()
        with pytest.raises(TableError, match=r"rollouts: 1 rows repeat another; .*sample_id=0"):
            count_draws(pd.concat([draws, draws.head(1)]))

    def test_an_absent_column_is_named(self):
        with pytest.raises(TableError, match="no column 'status'"):
            count_draws(make_draws().drop(columns="status"))
