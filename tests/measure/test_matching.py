"""Matched bands: the beta-binomial, the two splits of a difference, and what they do on made-up arms."""

import doctest
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import matching
from panelbook.measure.matching import (
    beta_mixed_share,
    compare_matched,
    compare_sources,
    decompose_mixed,
    rate_dispersion,
    rate_moments,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=20260424, n_resamples=200)

PANEL = [0, 0, 3, 5, 1, 8, 0, 2, 4, 1]
THINK = [4, 0, 2, 8, 7, 8, 0, 0, 8, 6]


def make_counts(panel=PANEL, think=THINK, n=8):
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(len(c))],
                "source": [("amc", "hmmt")[i % 2] for i in range(len(c))],
                "n": n,
                "c": c,
            }
        )
        for arm, c in (("panel", panel), ("think", think))
    ]
    return pd.concat(arms, ignore_index=True)


def draw_counts(first, second, n=8, n_problems=4000, seed=1):
    """Arms with beta-distributed success rates of given (mean, dispersion), independent of each other."""
    rng = np.random.default_rng(seed)
    columns = []
    for mean, dispersion in (first, second):
        total = 1 / dispersion - 1
        columns.append(rng.binomial(n, rng.beta(mean * total, (1 - mean) * total, n_problems)))
    return make_counts(*columns, n=n)


def values(table):
    return table.set_index("part")["estimate"]


def test_examples_in_docstrings():
    result = doctest.testmod(matching)
    assert result.attempted > 0
    assert result.failed == 0


class TestMoments:
    @pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
    @pytest.mark.parametrize("n", [2, 3, 8])
    def test_they_are_unbiased(self, n, p):
        c = np.arange(n + 1)
        expected = stats.binom.pmf(c, n, p) @ rate_moments(np.full(n + 1, n), c)
        assert expected == pytest.approx([p, p * p], abs=1e-12)

    def test_dispersion_of_a_beta_distribution(self):
        a, b = 0.7, 2.1
        moments = [stats.beta.moment(order, a, b) for order in (1, 2)]
        assert float(rate_dispersion(*moments)) == pytest.approx(1 / (a + b + 1))

    def test_rates_that_agree_have_none_and_rates_of_0_and_1_have_all(self):
        assert float(rate_dispersion(0.3, 0.09)) == pytest.approx(0.0)
        assert float(rate_dispersion(0.3, 0.3)) == pytest.approx(1.0)
        assert float(rate_dispersion(0.3, 0.08)) == 0.0, "an estimate below what is possible"
        assert np.isnan(rate_dispersion(1.0, 1.0))

    @pytest.mark.parametrize(("n", "c"), [(1, 1), (4, 5), (4, -1), (float("nan"), 1)])
    def test_bad_counts_are_named(self, n, c):
        with pytest.raises(ValueError, match="row 1 has n="):
            rate_moments([8, n], [3, c])


class TestBetaMixedShare:
    @pytest.mark.parametrize("group_size", [1, 2, 5, 8, 64])
    @pytest.mark.parametrize(("a", "b"), [(1, 1), (0.3, 1.4), (5, 2), (0.02, 0.05)])
    def test_it_is_1_minus_both_ends_of_scipys_beta_binomial(self, a, b, group_size):
        ends = stats.betabinom.pmf([0, group_size], group_size, a, b).sum() if group_size > 1 else 1.0
        assert float(beta_mixed_share(a / (a + b), 1 / (a + b + 1), group_size)) == pytest.approx(
            1 - ends, abs=1e-10
        )

    def test_without_dispersion_it_is_binomial_and_with_all_of_it_nothing(self):
        assert float(beta_mixed_share(0.3, 0.0, 8)) == pytest.approx(1 - 0.3**8 - 0.7**8)
        assert float(beta_mixed_share(0.3, 1.0, 8)) == pytest.approx(0.0, abs=1e-9)

    def test_arrays_keep_their_shape(self):
        assert beta_mixed_share(np.full((3, 2), 0.5), 0.2, 4).shape == (3, 2)


class TestDecomposition:
    def test_the_parts_add_up(self):
        parts = values(decompose_mixed(make_counts(), "panel", "think", 8, R))
        assert parts["strength"] + parts["dispersion"] + parts["misfit"] == pytest.approx(
            parts["difference"], abs=1e-15
        )
        band = [np.mean([0 < c < 8 for c in arm]) for arm in (PANEL, THINK)]
        assert parts["difference"] == pytest.approx(band[0] - band[1])

    def test_the_parts_are_what_the_formula_says(self):
        moments = [rate_moments(np.full(10, 8), arm).mean(axis=0) for arm in (PANEL, THINK)]
        fits = []
        for m, q in moments:
            rho = (q - m * m) / (m * (1 - m))
            fits.append((m, 1 / rho - 1))

        def band(mean, total):
            return 1 - stats.betabinom.pmf([0, 8], 8, mean * total, (1 - mean) * total).sum()

        (m1, s1), (m2, s2) = fits
        strength = (band(m1, s1) - band(m2, s1) + band(m1, s2) - band(m2, s2)) / 2
        dispersion = (band(m1, s1) - band(m1, s2) + band(m2, s1) - band(m2, s2)) / 2
        parts = values(decompose_mixed(make_counts(), "panel", "think", 8, R))
        assert parts["strength"] == pytest.approx(strength)
        assert parts["dispersion"] == pytest.approx(dispersion)
        assert parts["share_strength"] == pytest.approx(strength / parts["difference"])
        observed = np.mean([0 < c < 8 for c in THINK])
        assert parts["second_at_first_mean"] == pytest.approx(observed + band(m1, s2) - band(m2, s2))

    def test_arms_of_one_mean_differ_by_dispersion_alone(self):
        parts = values(
            decompose_mixed(make_counts([4] * 9 + [0, 8], [0, 8] * 5 + [4]), "panel", "think", 8, R)
        )
        assert parts["strength"] == 0.0
        assert parts["difference"] > 0

    def test_exchanging_the_arms_turns_every_sign(self):
        one, other = (
            values(decompose_mixed(make_counts(), *arms, 8, R))
            for arms in (("panel", "think"), ("think", "panel"))
        )
        for part in ("difference", "strength", "dispersion", "misfit"):
            assert one[part] == pytest.approx(-other[part], abs=1e-14)

    def test_true_strength_is_found(self):
        """Arms of equal dispersion: all of the difference is strength. Arms of equal mean: none of it is."""
        same_spread = decompose_mixed(draw_counts((0.5, 0.4), (0.1, 0.4)), "panel", "think", 8, R).set_index(
            "part"
        )
        true = beta_mixed_share(0.5, 0.4, 8) - beta_mixed_share(0.1, 0.4, 8)
        assert same_spread.loc["strength", "low"] < true < same_spread.loc["strength", "high"]
        assert same_spread.loc["dispersion", "low"] < 0 < same_spread.loc["dispersion", "high"]
        same_mean = decompose_mixed(draw_counts((0.3, 0.2), (0.3, 0.7)), "panel", "think", 8, R).set_index(
            "part"
        )
        assert same_mean.loc["strength", "low"] < 0 < same_mean.loc["strength", "high"]
        assert same_mean.loc["dispersion", "low"] > 0

    def test_an_arm_that_is_always_right_has_no_dispersion_to_speak_of(self):
        table = decompose_mixed(make_counts(think=[8] * 10), "panel", "think", 8, R).set_index("part")
        assert np.isnan(table.loc["strength", "estimate"])
        assert "undefined" in table.loc["strength", "reason"]
        assert table.loc["difference", "low"] > 0

    def test_a_group_larger_than_the_draws_is_refused(self):
        with pytest.raises(ValueError, match="'p000' has n=8, k=9"):
            decompose_mixed(make_counts(), "panel", "think", 9, R)


def by_listing(c, n, n_sorting, group_size):
    """Chance of each (right among the sorters, mixed group of the rest) over all splits, in exact fractions."""
    marks = [True] * c + [False] * (n - c)
    cells = {}
    for sorters in combinations(range(n), n_sorting):
        rest = [marks[i] for i in range(n) if i not in sorters]
        groups = list(combinations(rest, group_size))
        mixed = Fraction(sum(0 < sum(group) < group_size for group in groups), len(groups))
        right = sum(marks[i] for i in sorters)
        weight, share = cells.get(right, (Fraction(0), Fraction(0)))
        cells[right] = weight + 1, share + mixed
    total = sum(weight for weight, _ in cells.values())
    return {right: (weight / total, share / total) for right, (weight, share) in cells.items()}


class TestMatching:
    def test_strata_are_averages_over_every_split_of_the_draws(self):
        n = 5  # two sort, three are the group
        counts = make_counts([1, 2, 5, 0], [3, 4, 0, 2], n=n)
        _, strata = compare_matched(counts, "panel", "think", R)
        assert strata["n_sorting"].unique().tolist() == [2]
        assert strata["group_size"].unique().tolist() == [3]
        for side, arm in (("first", [1, 2, 5, 0]), ("second", [3, 4, 0, 2])):
            cells = [by_listing(c, n, 2, 3) for c in arm]
            for right in range(3):
                weight = sum(cell.get(right, (0, 0))[0] for cell in cells)
                share = sum(cell.get(right, (0, 0))[1] for cell in cells)
                row = strata.set_index("right").loc[right]
                assert row[f"{side}_weight"] == pytest.approx(float(weight / 4))
                assert row[side] == pytest.approx(float(share / weight))

    def test_the_parts_add_up_to_the_difference_of_mixed_groups(self):
        parts, strata = compare_matched(make_counts(), "panel", "think", R)
        parts = values(parts)
        assert parts["success"] + parts["within"] == pytest.approx(parts["difference"], abs=1e-15)
        mixed = [
            np.mean([1 - sum(stats.hypergeom.pmf([0, 4], 8, c, 4)) for c in arm]) for arm in (PANEL, THINK)
        ]
        assert parts["difference"] == pytest.approx(mixed[0] - mixed[1])
        assert parts["ratio"] == pytest.approx(mixed[0] / mixed[1])
        weights = (strata["first_weight"] + strata["second_weight"]) / 2
        matched = (weights * strata["first"]).sum() / (weights * strata["second"]).sum()
        assert parts["matched_ratio"] == pytest.approx(matched)
        assert weights.sum() == pytest.approx(1.0)

    def test_equal_arms_are_equal_when_matched(self):
        parts = values(compare_matched(make_counts(PANEL, PANEL), "panel", "think", R)[0])
        assert parts[["difference", "success", "within"]].tolist() == pytest.approx([0, 0, 0])
        assert parts["matched_ratio"] == pytest.approx(1.0)

    def test_a_stratum_that_one_arm_never_reaches_counts_as_success(self):
        """Rates of 0 against rates of 1/2: nothing is left to compare within the strata above 0."""
        parts, strata = compare_matched(make_counts([4] * 10, [0] * 10), "panel", "think", R)
        parts = values(parts)
        assert strata["second_weight"].tolist() == [1, 0, 0, 0, 0]
        assert strata["second"].isna().tolist() == [False, True, True, True, True]
        assert parts["success"] + parts["within"] == pytest.approx(parts["difference"])
        assert parts["success"] > 0.5 * parts["difference"]

    def test_success_that_differs_only_in_where_it_lies_is_explained_by_strata(self):
        """Arms with rates 1/2 on most problems and 0 on most: inside the strata they are nearly alike."""
        rng = np.random.default_rng(3)
        rates = [np.repeat([0.5, 0.0], sizes) for sizes in ((800, 200), (200, 800))]
        counts = make_counts(*(rng.binomial(16, rate) for rate in rates), n=16)
        parts = values(compare_matched(counts, "panel", "think", R)[0])
        assert parts["share_success"] > 0.9
        assert parts["ratio"] > 3
        assert parts["matched_ratio"] < 1.2

    @pytest.mark.parametrize(("n", "split"), [(3, (1, 2)), (4, (2, 2)), (7, (3, 4)), (16, (8, 8))])
    def test_draws_are_halved_and_a_group_has_two_at_least(self, n, split):
        _, strata = compare_matched(make_counts([1, 2, 0], [2, 1, 1], n=n), "panel", "think", R)
        assert (strata["n_sorting"][0], strata["group_size"][0]) == split

    def test_problems_may_have_more_draws_than_the_fewest(self):
        counts = make_counts()
        counts.loc[3, "n"] = 12
        _, strata = compare_matched(counts, "panel", "think", R)
        assert strata["first_weight"].sum() == pytest.approx(1.0)

    def test_too_few_draws_are_refused(self):
        with pytest.raises(ValueError, match="needs 3 or more of every problem; one has n=2"):
            compare_matched(make_counts([1, 2], [0, 1], n=2), "panel", "think", R)


class TestSources:
    def test_each_source_has_its_own_problems(self):
        table = compare_sources(make_counts(), "panel", "think", 8, R).set_index("source")
        amc = [PANEL[::2], THINK[::2]]
        assert table.loc["amc", "first_success"] == pytest.approx(np.mean(amc[0]) / 8)
        assert table.loc["amc", "second_mixed"] == pytest.approx(np.mean([0 < c < 8 for c in amc[1]]))
        assert table.loc["amc", "n_problems"] == 5
        assert table["difference"].tolist() == pytest.approx(
            (table["first_mixed"] - table["second_mixed"]).tolist()
        )
        assert (table["low"] <= table["difference"]).all()

    def test_sources_must_be_there(self):
        with pytest.raises(ValueError, match="'source'"):
            compare_sources(make_counts().drop(columns="source"), "panel", "think", 8, R)
