"""The multiverse's statistics against plain loops, closed forms and other libraries."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure.diversity import compare_spread
from panelbook.measure.multiverse import (
    compare_specifications,
    compare_strata,
    explained_shares,
    frontier_changes,
    list_frontier,
    list_neighbours,
)
from panelbook.measure.uncertainty import Resampling

RESAMPLING = Resampling(seed=5, n_resamples=500)
CHOICES = ["encoder", "kept"]


def specification_values(n_problems=12, effect=None, holes=()):
    """Values of two encoders, all draws or right ones; `effect` is first / second of each encoder."""
    rng = np.random.default_rng(1)
    effect = effect or {"x": 1.5, "y": 1.5}
    base = rng.uniform(0.1, 0.3, n_problems)
    rows = [
        {
            "encoder": encoder,
            "kept": kept,
            "arm": arm,
            "problem_id": f"p{i:02d}",
            "value": np.nan
            if kept == "right" and i in holes
            else base[i] * (effect[encoder] if arm == "a" else 1.0) * rng.uniform(0.95, 1.05),
            "n": 4,
        }
        for encoder, kept, arm, i in itertools.product("xy", ("all", "right"), "ab", range(n_problems))
    ]
    return pd.DataFrame(rows)


class TestSpecifications:
    def test_one_specification_is_the_paired_comparison_of_spread(self):
        values = specification_values()
        found = compare_specifications(values, CHOICES, "a", "b", RESAMPLING)
        for row in found.table.to_dict("records"):
            mine = values[(values["encoder"] == row["encoder"]) & (values["kept"] == row["kept"])]
            counts = mine.rename(columns={"value": "mean_distance"}).assign(c=0)
            expected = compare_spread(counts, "a", "b", RESAMPLING).relative_difference
            assert row["effect"] == pytest.approx(expected.value)
            assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
            assert (row["n_problems"], row["n_draws"]) == (12, 96)

    def test_right_draws_alone_are_compared_on_the_problems_that_have_them(self):
        values = specification_values(holes=(0, 3, 4))
        found = compare_specifications(values, CHOICES, "a", "b", RESAMPLING).table
        row = found[(found["encoder"] == "x") & (found["kept"] == "right")].iloc[0]
        mine = values[(values["encoder"] == "x") & (values["kept"] == "right")].dropna()
        means = mine.groupby("arm")["value"].mean()
        assert row["effect"] == pytest.approx(means["a"] / means["b"] - 1)
        assert (row["n_problems"], row["n_draws"]) == (9, 72)
        counts = mine.rename(columns={"value": "mean_distance"}).assign(c=0)
        expected = compare_spread(counts, "a", "b", RESAMPLING).relative_difference
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))

    def test_summary_by_plain_loops(self):
        found = compare_specifications(
            specification_values(effect={"x": 1.5, "y": 0.6}, holes=(0,)), CHOICES, "a", "b", RESAMPLING
        )
        effects = found.table["effect"].to_numpy()
        assert (np.diff(effects) <= 0).all()
        assert found.median.value == pytest.approx(np.median(effects))
        assert (found.share_positive, found.share_above, found.share_below) == (0.5, 0.5, 0.5)
        assert found.table["sign"].tolist() == ["above", "above", "below", "below"]
        shares = found.explained.set_index("choice")["share"]
        assert shares.to_dict() == pytest.approx(explained_shares(effects, found.table[CHOICES]))
        assert shares["encoder"] == pytest.approx(0.8)  # ranks 1 2 | 3 4
        assert (found.explained["low"].isna() == (found.explained["reason"] != "")).all()

    def test_the_median_of_an_odd_number_with_undefined_effects_is_that_of_the_rest(self):
        values = specification_values()
        values.loc[
            (values["encoder"] == "y") & (values["kept"] == "all") & (values["arm"] == "b"), "value"
        ] = 0.0
        found = compare_specifications(values, CHOICES, "a", "b", RESAMPLING)
        finite = found.table["effect"].dropna()
        assert len(finite) == 3
        assert found.median.value == pytest.approx(np.median(finite))
        assert found.table["sign"].iloc[-1] == "unclear"

    def test_a_specification_with_too_few_problems_is_left_out_and_counted(self):
        found = compare_specifications(
            specification_values(n_problems=6, holes=(0, 1)), CHOICES, "a", "b", RESAMPLING
        )
        assert set(found.table["kept"]) == {"all"}
        assert found.left_out == 2
        assert found.explained["choice"].tolist() == ["encoder"]

    @pytest.mark.parametrize("n", [1, 3])
    def test_few_problems_in_all_are_compared_as_far_as_they_go(self, n):
        found = compare_specifications(specification_values(n_problems=n), CHOICES, "a", "b", RESAMPLING)
        assert (len(found.table), found.left_out) == (4, 0)
        assert found.table["low"].isna().all() == (n == 1)
        assert (found.median.low is None) == (n == 1)

    def test_without_any_spread_in_the_second_arm_nothing_is_defined_and_nothing_fails(self):
        values = specification_values()
        values.loc[values["arm"] == "b", "value"] = 0.0
        found = compare_specifications(values, CHOICES, "a", "b", RESAMPLING)
        assert np.isnan(found.median.value)
        assert found.table["effect"].isna().all()
        assert np.isnan(found.p_joint)
        assert (found.share_positive, found.share_above) == (0.0, 0.0)

    def test_a_problem_of_one_arm_alone_does_not_count(self):
        values = specification_values()
        alone = values[(values["arm"] == "a") & (values["problem_id"] == "p00")].assign(
            problem_id="zz", value=9.0
        )
        one = compare_specifications(values, CHOICES, "a", "b", RESAMPLING)
        two = compare_specifications(pd.concat([values, alone]), CHOICES, "a", "b", RESAMPLING)
        pd.testing.assert_frame_equal(one.table, two.table)
        assert one.median == two.median

    def test_the_order_of_rows_does_not_matter(self):
        values = specification_values(effect={"x": 1.4, "y": 0.7})
        one = compare_specifications(values, CHOICES, "a", "b", RESAMPLING)
        two = compare_specifications(values.sample(frac=1, random_state=1), CHOICES, "a", "b", RESAMPLING)
        columns = [*CHOICES, "effect", "low", "high"]
        key = ["effect"]
        pd.testing.assert_frame_equal(
            one.table.sort_values(key)[columns].reset_index(drop=True),
            two.table.sort_values(key)[columns].reset_index(drop=True),
        )
        assert one.p_joint == two.p_joint

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.drop(columns="n"), "no column 'n'"),
            (lambda t: pd.concat([t, t.head(1)]), "occurs twice"),
            (lambda t: t[t["arm"] == "a"], "no specification has a problem with a value under both"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            compare_specifications(change(specification_values()), CHOICES, "a", "b", RESAMPLING)


class TestJointTest:
    def test_enumerated_over_all_patterns_of_exchange(self):
        values = specification_values(n_problems=7, effect={"x": 1.06, "y": 1.0})
        found = compare_specifications(values, CHOICES, "a", "b", RESAMPLING, n_flips=20000)
        wide = values.pivot(index="problem_id", columns=[*CHOICES, "arm"], values="value")
        first, second = (wide.xs(arm, axis=1, level="arm").to_numpy() for arm in "ab")
        medians = []
        for pattern in itertools.product([0, 1], repeat=7):
            swap = np.array(pattern, dtype=bool)[:, None]
            a, b = np.where(swap, second, first), np.where(swap, first, second)
            medians.append(abs(np.median(np.log(a.sum(axis=0) / b.sum(axis=0)))))
        exact = np.mean(np.array(medians) >= medians[0] - 1e-12)
        assert found.p_joint == pytest.approx(exact, abs=0.015)

    def test_a_clear_effect_is_rare_under_exchange(self):
        assert compare_specifications(specification_values(), CHOICES, "a", "b", RESAMPLING).p_joint < 0.01

    def test_without_an_effect_small_values_are_as_rare_as_they_should_be(self):
        quick = Resampling(seed=1, n_resamples=100)
        p = []
        for seed in range(20):
            values = specification_values()
            values["value"] = np.random.default_rng(seed).uniform(0.1, 0.3, len(values))
            p.append(compare_specifications(values, CHOICES, "a", "b", quick, n_flips=200).p_joint)
        assert 0.3 < np.mean(p) < 0.7
        assert np.mean(np.array(p) <= 0.1) < 0.3


class TestExplained:
    def test_equals_kruskal_and_wallis(self):
        rng = np.random.default_rng(2)
        effects = rng.normal(size=30).round(1)  # with ties
        labels = pd.DataFrame({"g": rng.choice(list("abc"), 30)})
        h = stats.kruskal(*[effects[labels["g"] == g] for g in "abc"]).statistic
        assert explained_shares(effects, labels)["g"] == pytest.approx(h / 29)

    def test_an_additive_table_is_explained_whole_and_an_interaction_not_at_all(self):
        labels = pd.DataFrame(list(itertools.product("ab", "xyz")), columns=["one", "two"])
        additive = labels["one"].map({"a": 0, "b": 3}) + labels["two"].map({"x": 0, "y": 1, "z": 2})
        assert sum(explained_shares(additive, labels).values()) == pytest.approx(1.0)
        square = pd.DataFrame(list(itertools.product("ab", "xy")), columns=["one", "two"])
        assert explained_shares([1.0, 0.0, 0.0, 1.0], square) == {"one": 0.0, "two": 0.0}

    def test_undefined_effects_are_left_out_and_equal_ones_have_no_variance(self):
        labels = pd.DataFrame({"g": list("aabbb")})
        one = explained_shares([1.0, 2.0, 3.0, 4.0, np.nan], labels)
        assert one == explained_shares([1.0, 2.0, 3.0, 4.0], labels.head(4))
        assert np.isnan(explained_shares([1.0] * 5, labels)["g"])


class TestNeighbours:
    TABLE = pd.DataFrame(
        list(itertools.product("xy", ("all", "right"), (2, 4))), columns=["encoder", "kept", "draws"]
    ).assign(effect=range(8))

    def test_one_change_at_a_time(self):
        own = {"encoder": "x", "kept": "all", "draws": 4}
        found = list_neighbours(self.TABLE, ["encoder", "kept", "draws"], own)
        assert found[["changed", "effect"]].to_numpy().tolist() == [
            ["nothing", 1],
            ["encoder: y", 5],
            ["kept: right", 3],
            ["draws: 2", 0],
        ]

    def test_a_specification_that_is_not_there_is_named(self):
        with pytest.raises(ValueError, match="'encoder': 'z'"):
            list_neighbours(self.TABLE, ["encoder", "kept"], {"encoder": "z", "kept": "all"})


def pair_table():
    rows = [
        # arm, problem, stratum, distance, i, j
        ("a", "p", "wrong", 0.4, 0, 1),
        ("a", "p", "wrong", 0.6, 0, 2),
        ("a", "p", "right", 0.2, 1, 2),
        ("a", "q", "wrong", 0.8, 0, 1),
        ("b", "p", "wrong", 0.3, 0, 1),
        ("b", "p", "right", 0.1, 0, 2),
        ("b", "q", "right", 0.1, 0, 1),
        ("b", "q", "right", 0.3, 1, 2),
    ]
    return pd.DataFrame(rows, columns=["arm", "problem_id", "stratum", "distance", "i", "j"])


class TestStrata:
    def test_by_hand(self):
        found = compare_strata(pair_table(), "a", "b", RESAMPLING).set_index("stratum")
        assert found.index.tolist() == ["right", "wrong", "mix held equal", "all pairs"]
        assert found.loc["wrong", ["first", "second"]].tolist() == pytest.approx([0.6, 0.3])
        assert found.loc["wrong", "effect"] == pytest.approx(1.0)
        assert found.loc["right", ["first", "second"]].tolist() == pytest.approx([0.2, 0.5 / 3])
        assert found.loc["all pairs", ["first", "second"]].tolist() == pytest.approx([0.5, 0.2])
        # four of eight pairs are of either kind
        assert found.loc["mix held equal", "first"] == pytest.approx(0.5 * 0.6 + 0.5 * 0.2)
        assert found.loc["mix held equal", "second"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.5 / 3)
        assert found["n_pairs_first"].tolist() == [1, 3, 4, 4]
        assert found["n_pairs_second"].tolist() == [3, 1, 4, 4]
        assert found.loc["wrong", ["n_problems", "n_draws"]].tolist() == [2, 3 + 2 + 2]

    def test_an_ordered_kind_keeps_its_order(self):
        pairs = pair_table()
        pairs["stratum"] = pd.Categorical(pairs["stratum"], ["wrong", "right", "never"])
        found = compare_strata(pairs, "a", "b", RESAMPLING)
        assert found["stratum"].tolist() == ["wrong", "right", "mix held equal", "all pairs"]

    def test_a_kind_of_one_arm_alone_is_not_weighed(self):
        pairs = pair_table()
        pairs.loc[(pairs["arm"] == "b") & (pairs["stratum"] == "wrong"), "stratum"] = "right"
        found = compare_strata(pairs, "a", "b", RESAMPLING).set_index("stratum")
        assert np.isnan(found.loc["wrong", "effect"])
        assert found.loc["wrong", "effect_reason"]
        assert found.loc["mix held equal", "first"] == pytest.approx(0.2)
        assert found.loc["mix held equal", "n_pairs_first"] == 1

    def test_a_difference_of_mix_alone_vanishes_at_an_equal_mix(self):
        rng = np.random.default_rng(0)
        rows = [
            (arm, f"p{p}", kind, (0.5 if kind == "wrong" else 0.1) * (1 + 0.1 * rng.normal()), i, i + 1)
            for arm, share in (("a", 0.8), ("b", 0.2))
            for p in range(40)
            for i in range(6)
            for kind in ["wrong" if rng.random() < share else "right"]
        ]
        pairs = pd.DataFrame(rows, columns=["arm", "problem_id", "stratum", "distance", "i", "j"])
        found = compare_strata(pairs, "a", "b", RESAMPLING).set_index("stratum")
        assert found.loc["all pairs", "effect_low"] > 0.5
        assert found.loc["mix held equal", "effect_low"] < 0 < found.loc["mix held equal", "effect_high"]

    def test_missing_arms_and_columns_are_named(self):
        with pytest.raises(ValueError, match="'c' has no pairs; the table has: a, b"):
            compare_strata(pair_table(), "a", "c", RESAMPLING)
        with pytest.raises(ValueError, match="no column 'distance'"):
            compare_strata(pair_table().drop(columns="distance"), "a", "b", RESAMPLING)


def heldout_table():
    rng = np.random.default_rng(3)
    rows = [
        {
            "arm": arm,
            "train_seed": seed,
            "step": step,
            "problem_id": f"p{i}",
            "n": 4,
            "c": int(min(4, rng.integers(0, 3) + (1 if step == 20 else 0))),
            "mean_distance": np.nan if step == 10 else 0.3 - 0.005 * step + 0.01 * rng.random(),
        }
        for arm, seed, step, i in itertools.product("ab", (1, 2), (0, 10, 20), range(15))
    ]
    return pd.DataFrame(rows)


class TestFrontier:
    def test_one_row_per_run_and_measured_step(self):
        table = heldout_table()
        found = list_frontier(table, RESAMPLING)
        assert found[["arm", "train_seed", "step"]].to_numpy().tolist() == [
            list(key) for key in itertools.product("ab", (1, 2), (0, 20))
        ]
        row = found.iloc[1]
        mine = table[(table["arm"] == "a") & (table["train_seed"] == 1) & (table["step"] == 20)]
        assert row["accuracy"] == pytest.approx((mine["c"] / 4).mean())
        assert row["spread"] == pytest.approx(mine["mean_distance"].mean())
        assert row["spread_low"] < row["spread"] < row["spread_high"]
        assert (row["n_problems"], row["n_draws"]) == (15, 60)

    def test_changes_average_the_seeds_within_each_problem(self):
        table = heldout_table()
        found = frontier_changes(table, RESAMPLING).set_index("arm")
        by = table.assign(rate=table["c"] / 4).groupby(["arm", "step"])[["rate", "mean_distance"]].mean()
        assert found.loc["b", "accuracy"] == pytest.approx(
            by.loc[("b", 20), "rate"] - by.loc[("b", 0), "rate"]
        )
        assert found.loc["b", ["spread_moved", "step_from", "step_to"]].tolist() == ["fell", 0, 20]
        assert found.loc["a", "accuracy_moved"] == "rose"
        assert found.loc["a", "spread_high"] < 0

    def test_without_a_second_measured_step_there_is_no_change(self):
        table = heldout_table()
        assert frontier_changes(table[table["step"] < 20], RESAMPLING).empty
        assert list_frontier(table[table["step"] == 10], RESAMPLING).empty

    def test_what_does_not_move_is_said_not_to(self):
        table = heldout_table().assign(c=2)
        assert set(frontier_changes(table, RESAMPLING)["accuracy_moved"]) == {"did not clearly move"}


def test_the_seed_alone_decides():
    """Two calls agree to the last digit."""
    values = specification_values()
    one, two = (compare_specifications(values, CHOICES, "a", "b", RESAMPLING) for _ in range(2))
    assert one.median == two.median
    pd.testing.assert_frame_equal(one.table, two.table)
