"""Null models of closure: closed forms, calibration under the null, power against wider search."""

import doctest
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, stats
from scipy.special import expit, logit

from panelbook.measure import closure
from panelbook.measure.betabinomial import fit_beta_binomial
from panelbook.measure.closure import NULLS, closure_by_scale, null_closure, thinned_pass_at_k
from panelbook.measure.passk import failure_ratio_change, gap_closure, max_common_k, pass_at_k_matrix
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts import adapters
from panelbook.rollouts.schema import select_counts

R = Resampling(seed=20260424, n_resamples=500)


def table(c_first, n_first, c_second, n_second):
    """Counts of two arms on the same problems."""
    ids = [f"p{i:04d}" for i in range(len(c_first))]
    arms = (("panel", n_first, c_first), ("think", n_second, c_second))
    return pd.concat(
        [pd.DataFrame({"arm": arm, "problem_id": ids, "n": n, "c": c}) for arm, n, c in arms],
        ignore_index=True,
    )


def study(weaken, n_problems=60, n=8, seed=0, a=0.8, b=0.4):
    """Counts of a strong arm, and of a weaker one with success probabilities `weaken(q)`."""
    rng = np.random.default_rng(seed)
    q = rng.beta(a, b, n_problems)
    return table(rng.binomial(n, weaken(q)), n, rng.binomial(n, q), n)


def mean_curve(counts, arm, ks):
    rows = counts[counts["arm"] == arm]
    return pass_at_k_matrix(rows["n"], rows["c"], ks).mean(axis=0)


def find(found, null="thinned", scale="points", k=8):
    return found[(found["null"] == null) & (found["scale"] == scale) & (found["k"] == k)].iloc[0]


def test_examples_in_docstrings():
    result = doctest.testmod(closure)
    assert result.attempted > 0
    assert result.failed == 0


class TestThinned:
    @pytest.mark.parametrize(
        ("n", "c", "s", "k"), [(4, 2, 0.3, 2), (4, 4, 0.5, 3), (5, 1, 0.8, 5), (3, 0, 0.5, 2)]
    )
    def test_is_the_mean_over_every_subset_and_every_way_to_spoil_its_draws(self, n, c, s, k):
        total = 0.0
        subsets = list(combinations([1] * c + [0] * (n - c), k))
        for subset in subsets:
            for kept in product((0, 1), repeat=k):
                chance = np.prod([s if keep else 1.0 - s for keep in kept])
                total += chance * any(x and keep for x, keep in zip(subset, kept, strict=True))
        assert thinned_pass_at_k([n], [c], s, [k])[0] == pytest.approx(total / len(subsets))

    @pytest.mark.parametrize("k", [1, 3, 8])
    def test_expects_one_minus_the_power_of_known_probabilities(self, k):
        n, s, q_P = 8, 0.35, np.array([0.1, 0.5, 0.95])
        counts = np.arange(n + 1)
        per_count = np.array([thinned_pass_at_k([n], [c], s, [k])[0] for c in counts])
        expected = [float(stats.binom.pmf(counts, n, q) @ per_count) for q in q_P]
        assert expected == pytest.approx(1.0 - (1.0 - s * q_P) ** k)

    def test_a_copy_that_keeps_all_is_the_arm_and_one_that_keeps_none_is_never_right(self):
        n, c, ks = [8, 8, 12], [0, 3, 12], [1, 4, 8]
        assert thinned_pass_at_k(n, c, 1.0, ks) == pytest.approx(pass_at_k_matrix(n, c, ks).mean(axis=0))
        assert thinned_pass_at_k(n, c, 0.0, ks) == pytest.approx(np.zeros(3))

    def test_many_draws_lose_no_precision(self):
        found = thinned_pass_at_k([200], [150], 0.4, [1, 100])
        assert found[0] == pytest.approx(0.3)
        assert found[1] == pytest.approx(1.0, abs=1e-12)

    def test_refuses_more_draws_than_there_are(self):
        with pytest.raises(ValueError, match="k must not exceed"):
            thinned_pass_at_k([4], [2], 0.5, [5])


class TestCopies:
    """Each copy's closure in simulated studies is the one that its formula gives."""

    def test_thinned_is_the_closure_of_the_thinned_curve(self):
        counts = study(lambda q: 0.5 * q)
        found = find(null_closure(counts, "panel", "think", [8], R, 400, ["thinned"]))
        strong, weak = mean_curve(counts, "think", [1, 8]), mean_curve(counts, "panel", [1, 8])
        rows = counts[counts["arm"] == "think"]
        copy = thinned_pass_at_k(rows["n"], rows["c"], weak[0] / strong[0], [1, 8])
        assert copy[0] == pytest.approx(weak[0])
        assert found["strength"] == pytest.approx(weak[0] / strong[0])
        # The mean also holds the small bias of the estimated strength, which simulation brings in.
        assert found["estimate"] == pytest.approx((copy[1] - strong[1]) - (weak[0] - strong[0]), abs=0.01)
        assert found["observed"] == pytest.approx(gap_closure(counts, "panel", "think", 1, 8, R).value)

    def test_lost_problems_open_the_gap_by_their_share(self):
        counts = study(lambda q: 0.5 * q)
        found = find(null_closure(counts, "panel", "think", [8], R, 400, ["lost_problems"]), "lost_problems")
        strong, weak = mean_curve(counts, "think", [1, 8]), mean_curve(counts, "panel", [1, 8])
        lost = 1.0 - weak[0] / strong[0]
        assert found["estimate"] == pytest.approx(-lost * (strong[1] - strong[0]), abs=0.01)
        assert found["estimate"] < 0

    def test_a_shift_in_log_odds_is_that_of_the_posterior_mixture(self):
        counts = study(lambda q: expit(logit(q) - 1.5), a=2.0, b=1.0)
        found = find(null_closure(counts, "panel", "think", [8], R, 400, ["logit_shift"]), "logit_shift")
        strong, weak = mean_curve(counts, "think", [1, 8]), mean_curve(counts, "panel", [1, 8])
        rows = counts[counts["arm"] == "think"]
        prior = fit_beta_binomial(rows["n"], rows["c"])
        theta = np.linspace(-40.0, 40.0, 8001)  # integrated over log-odds, where the density is smooth
        a_P, b_P = prior.posterior(rows["n"], rows["c"])
        log_density = stats.beta.logpdf(expit(theta), a_P[:, np.newaxis], b_P[:, np.newaxis])
        mixture = np.exp(log_density).mean(axis=0) * expit(theta) * expit(-theta)

        def curve(d, k):
            return integrate.trapezoid(mixture * (1.0 - expit(d - theta) ** k), theta)

        d = optimize.brentq(lambda d: curve(d, 1) - curve(0, 1) - (weak[0] - strong[0]), 0.0, 4.0, xtol=1e-3)
        copy = strong[1] + curve(d, 8) - curve(0, 8)
        assert found["strength"] == pytest.approx(d, abs=0.02)
        assert found["estimate"] == pytest.approx((copy - strong[1]) - (weak[0] - strong[0]), abs=0.015)

    def test_known_shift_is_found_where_draws_are_many(self):
        counts = study(lambda q: expit(logit(q) - 1.5), n_problems=3000, n=32, a=2.0, b=1.0)
        found = null_closure(counts, "panel", "think", [8], R, 100, ["logit_shift", "logit_shift_jeffreys"])
        for null in ("logit_shift", "logit_shift_jeffreys"):
            assert find(found, null)["strength"] == pytest.approx(1.5, abs=0.1)

    def test_signs_turn_with_the_order_of_the_arms(self):
        counts = study(lambda q: 0.5 * q)
        there = find(null_closure(counts, "panel", "think", [8], R, 200, ["thinned"]))
        back = find(null_closure(counts, "think", "panel", [8], R, 200, ["thinned"]))
        assert (back["copied"], back["weaker"]) == (there["copied"], there["weaker"]) == ("think", "panel")
        for one, other in (
            ("estimate", "estimate"),
            ("observed", "observed"),
            ("low", "high"),
            ("high", "low"),
        ):
            assert back[one] == pytest.approx(-there[other])
        assert back["p"] == there["p"]

    def test_the_same_seed_gives_the_same_table_whatever_the_order_of_rows(self):
        counts = study(lambda q: 0.5 * q)
        shuffled = counts.sample(frac=1.0, random_state=1)
        pd.testing.assert_frame_equal(
            null_closure(counts, "panel", "think", [2, 8], R, 200),
            null_closure(shuffled, "panel", "think", [2, 8], R, 200),
        )


@pytest.mark.slow
class TestCalibration:
    """200 simulated studies of 50 problems: 3 standard errors of a share of 5% are 4.6 points."""

    def p_values(self, weaken, null, n_studies=200):
        found = []
        for seed in range(n_studies):
            counts = study(weaken, n_problems=50, seed=seed)
            row = null_closure(counts, "panel", "think", [8], Resampling(seed=seed), 199, [null])
            found.append(find(row, null)["p"])
        return np.array(found)

    def test_a_thinned_copy_is_rejected_as_often_as_the_level_says(self):
        p = self.p_values(lambda q: 0.5 * q, "thinned", 80)
        assert (p <= 0.05).mean() <= 0.12  # 3 standard errors above 5%
        assert 0.33 <= (p <= 0.5).mean() <= 0.67  # uniform, not only in the tail

    def test_problems_lost_whole_are_told_from_a_thinned_copy(self):
        def lose_half(q):
            return q * (np.arange(len(q)) % 2)

        assert (self.p_values(lose_half, "thinned", 15) <= 0.05).mean() > 0.9
        assert (self.p_values(lose_half, "lost_problems", 15) <= 0.05).mean() < 0.3


class TestPower:
    def test_a_weaker_arm_that_is_as_able_on_every_problem_leaves_every_null_upwards(self):
        counts = study(lambda q: np.full_like(q, 0.33), n_problems=80)
        found = null_closure(counts, "panel", "think", [8], R, 400)
        places = found.loc[found["scale"] == "points"].set_index("null")["place"]
        assert places.to_dict() == dict.fromkeys(NULLS, "above")

    def test_a_wide_band_holds_what_a_narrow_one_excludes(self):
        counts = study(lambda q: 0.5 * q, n_problems=200, seed=4)
        wide = find(
            null_closure(
                counts, "panel", "think", [8], Resampling(seed=1, confidence=0.99), 1000, ["thinned"]
            )
        )
        narrow = find(
            null_closure(counts, "panel", "think", [8], Resampling(seed=1, confidence=0.5), 1000, ["thinned"])
        )
        assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]

    @pytest.mark.parametrize("seed", range(12))
    def test_place_and_p_agree(self, seed):
        counts = study(lambda q: q**2, n_problems=40, seed=seed)
        found = null_closure(counts, "panel", "think", [4, 8], R, 399)
        told = found[found["reason"] == ""]
        assert ((told["p"] <= 0.05) == (told["place"] != "inside")).all()


@pytest.mark.published
@pytest.mark.parametrize("benchmark", ["math500_s50", "math500_l5", "aime", "olympiad"])
def test_the_published_panel_gains_less_than_a_thinned_copy_of_thinking(published_folder, benchmark):
    arms = ("panel", "thinking")
    counts = adapters.read_counts(published_folder)
    rows = select_counts(counts, study="published", benchmark=benchmark, arms=arms)
    found = null_closure(rows, *arms, [max_common_k(rows)], R, 200, ["thinned", "lost_problems"])
    places = found.loc[found["scale"] == "points"].set_index("null")["place"]
    assert places.to_dict() == {"thinned": "below", "lost_problems": "above"}


class TestScales:
    def test_values_are_those_computed_by_hand(self):
        counts = table([1, 0, 2, 3], 4, [4, 1, 3, 3], 4)
        found = closure_by_scale(counts, "panel", "think", [2], R).set_index("scale")["estimate"]
        w, s = mean_curve(counts, "panel", [1, 2]), mean_curve(counts, "think", [1, 2])
        assert found["points"] == pytest.approx((w[1] - s[1]) - (w[0] - s[0]))
        assert found["logit"] == pytest.approx((logit(w[1]) - logit(s[1])) - (logit(w[0]) - logit(s[0])))
        ratio = ((1 - s[1]) / (1 - w[1])) / ((1 - s[0]) / (1 - w[0]))
        assert found["failure"] == pytest.approx(np.log(ratio))

    def test_agree_with_the_chapter_on_pass_at_k_interval_included(self):
        counts = study(lambda q: 0.5 * q, n_problems=100, a=0.3, b=0.6)
        found = closure_by_scale(counts, "panel", "think", [4, 8], R).set_index(["scale", "k"])
        points = gap_closure(counts, "panel", "think", 1, 8, R)
        row = found.loc[("points", 8)]
        assert (row["estimate"], row["low"], row["high"]) == (points.value, points.low, points.high)
        ratio = failure_ratio_change(counts, "panel", "think", 1, 8, R)
        row = found.loc[("failure", 8)]
        assert np.exp(-row["estimate"]) == pytest.approx(ratio.value)
        assert (np.exp(-row["high"]), np.exp(-row["low"])) == pytest.approx((ratio.low, ratio.high))

    def test_observed_closure_is_the_same_in_both_tables(self):
        counts = study(lambda q: 0.5 * q)
        observed = closure_by_scale(counts, "panel", "think", [8], R).set_index("scale")["estimate"]
        nulls = null_closure(counts, "panel", "think", [8], R, 200, ["thinned"]).set_index("scale")[
            "observed"
        ]
        assert observed.to_dict() == pytest.approx(nulls.to_dict())

    def test_a_mean_of_exactly_one_has_no_value_on_two_scales_and_says_why(self):
        counts = table([1, 2, 3, 2, 1], 4, [4, 3, 4, 4, 2], 4)
        observed = closure_by_scale(counts, "panel", "think", [4], R).set_index("scale")
        nulls = null_closure(counts, "panel", "think", [4], R, 200)
        assert np.isfinite(observed.loc["points", "estimate"])
        assert nulls.loc[nulls["scale"] == "points", "place"].ne("").all()
        for scale in ("logit", "failure"):
            assert np.isnan(observed.loc[scale, "estimate"])
            assert "pass@4 of panel is exactly 1" in observed.loc[scale, "reason"]
            rows = nulls[nulls["scale"] == scale]
            assert rows[["estimate", "low", "high", "p"]].isna().all(axis=None)
            assert rows["reason"].str.contains("exactly 1").all()

    def test_studies_without_a_value_are_counted_and_take_the_band_away(self):
        counts = table([2] * 11 + [0], 4, [4] * 11 + [0], 4)
        row = find(null_closure(counts, "panel", "think", [4], R, 300, ["thinned"]), scale="logit", k=4)
        assert row["n_undefined"] > 15
        assert "undefined in" in row["reason"]
        assert np.isnan(row["low"])


class TestEdges:
    def test_an_arm_that_is_never_right_is_a_copy_of_anything(self):
        counts = table([0, 0, 0], 4, [1, 2, 4], 4)
        found = null_closure(counts, "panel", "think", [2, 4], R, 200)
        assert len(found) == 2 * 3 * len(NULLS)
        assert found["reason"].str.contains("panel is never right").all()
        assert found[["estimate", "low", "p"]].isna().all(axis=None)

    @pytest.mark.parametrize("c", [[4, 4, 4], [2, 2, 2]])
    def test_two_arms_that_are_equal_on_every_problem_are_inside(self, c):
        found = null_closure(table(c, 4, c, 4), "panel", "think", [4], R, 200)
        points = found[found["scale"] == "points"]
        assert (points["observed"] == 0.0).all()
        assert (points["p"] > 0.05).all()

    def test_draws_may_differ_between_arms_and_problems(self):
        rng = np.random.default_rng(2)
        q, n_first, n_second = rng.beta(1, 1, 40), rng.integers(4, 9, 40), rng.integers(4, 17, 40)
        counts = table(rng.binomial(n_first, 0.5 * q), n_first, rng.binomial(n_second, q), n_second)
        found = null_closure(counts, "panel", "think", [2, 4], R, 200)
        assert found["estimate"].notna().all()
        assert found["n_draws"].eq(int(n_first.sum() + n_second.sum())).all()

    def test_a_single_draw_leaves_no_k_and_an_empty_table(self):
        counts = table([1, 0], 1, [1, 1], 1)
        assert closure_by_scale(counts, "panel", "think", [], R).empty
        found = null_closure(counts, "panel", "think", [], R, 200)
        assert found.empty
        assert {"null", "scale", "place"} <= set(found.columns)

    def test_a_single_problem_gives_a_table(self):
        found = null_closure(table([1], 4, [3], 4), "panel", "think", [4], R, 200)
        assert len(found) == 3 * len(NULLS)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"ks": [1]}, "every k must be 2 or more"),
            ({"ks": [9]}, "k must not exceed the draws"),
            ({"n_null": 10}, "n_null must be 100 or more"),
            ({"nulls": ["magic"]}, "no null 'magic'"),
            ({"first": "nobody"}, "'nobody' has no rows"),
        ],
    )
    def test_refuses(self, changes, message):
        arguments = {"first": "panel", "second": "think", "ks": [8], "resampling": R, "n_null": 200} | changes
        with pytest.raises(ValueError, match=message):
            null_closure(study(lambda q: 0.5 * q), **arguments)

    def test_refuses_a_table_without_counts(self):
        with pytest.raises(ValueError, match="no column 'c'"):
            closure_by_scale(study(lambda q: q).drop(columns="c"), "panel", "think", [8], R)
