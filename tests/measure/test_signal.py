"""Signal: what a group teaches, by listing every outcome; its parts; visits."""

import doctest
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from panelbook.measure import signal
from panelbook.measure.signal import (
    audit_visits,
    compare_signal,
    compare_signal_per_token,
    expected_signal,
    fresh_mixed_share,
    mixed_share_at_any_size,
    reward_parts,
    round_robin_visits,
)
from panelbook.measure.uncertainty import Resampling

R = Resampling(seed=20260424, n_resamples=200)

PANEL = [0, 0, 3, 5, 1, 8, 0, 2]
THINK = [4, 0, 2, 8, 7, 8, 0, 0]


def make_counts(panel=PANEL, think=THINK, n=8, tokens=(100.0, 300.0)):
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(len(c))],
                "source": [("amc", "hmmt")[i % 2] for i in range(len(c))],
                "n": n,
                "c": c,
                "mean_tokens": mean,
            }
        )
        for arm, c, mean in (("panel", panel, tokens[0]), ("think", think, tokens[1]))
    ]
    return pd.concat(arms, ignore_index=True)


def make_draws(marks, arm="panel"):
    """Draws from {problem: [(correct, tag_valid), ...]}."""
    rows = [
        (arm, problem, "correct" if correct else "wrong", tag_valid)
        for problem, draws in marks.items()
        for correct, tag_valid in draws
    ]
    return pd.DataFrame(rows, columns=["arm", "problem_id", "status", "tag_valid"])


def test_examples_in_docstrings():
    result = doctest.testmod(signal)
    assert result.attempted > 0
    assert result.failed == 0


class TestExpectedSignal:
    @pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
    @pytest.mark.parametrize("size", [2, 3, 6])
    def test_it_is_the_mean_squared_advantage_of_every_group(self, size, p):
        """Expectation over the observed counts against the listed outcomes of a group; here G may exceed n."""
        n = 4
        c = np.arange(n + 1)
        estimated = stats.binom.pmf(c, n, p) @ expected_signal(np.full(n + 1, n), c, size)
        squared = absolute = 0.0
        for outcome in itertools.product((0.0, 1.0), repeat=size):
            rewards = np.array(outcome)
            chance = np.prod(np.where(rewards == 1, p, 1 - p))
            squared += chance * np.mean((rewards - rewards.mean()) ** 2)
            absolute += chance * np.mean(np.abs(rewards - rewards.mean()))
        assert estimated == pytest.approx(squared, rel=1e-12)
        assert absolute == pytest.approx(2 * squared, rel=1e-12)

    @pytest.mark.parametrize(
        ("n", "c", "size", "message"),
        [
            (1, 0, 4, "n >= 2"),
            (4, 5, 4, "c=5"),
            (4, 2, 1, "group_size must be 2"),
            (4, float("nan"), 4, "c=nan"),
        ],
    )
    def test_bad_input_is_refused(self, n, c, size, message):
        with pytest.raises(ValueError, match=message):
            expected_signal([n], [c], size)


class TestCompareSignal:
    def test_values_by_hand(self):
        table = compare_signal(make_counts(), "panel", "think", 4, R).set_index("quantity")
        by_arm = [np.mean([c * (8 - c) / 56 for c in arm]) for arm in (PANEL, THINK)]
        assert table.loc["first", "estimate"] == pytest.approx(0.75 * by_arm[0])
        assert table.loc["ratio", "estimate"] == pytest.approx(by_arm[0] / by_arm[1])
        m = [np.mean(arm) / 8 for arm in (PANEL, THINK)]
        assert table.loc["strength_factor", "estimate"] == pytest.approx(
            m[0] * (1 - m[0]) / (m[1] * (1 - m[1]))
        )

    def test_the_ratio_is_the_product_of_its_factors_and_does_not_depend_on_the_group_size(self):
        tables = [
            compare_signal(make_counts(), "panel", "think", size, R).set_index("quantity") for size in (2, 64)
        ]
        for table in tables:
            value = table["estimate"]
            assert value["ratio"] == pytest.approx(value["strength_factor"] * value["dispersion_factor"])
        assert tables[0].loc["ratio", "estimate"] == pytest.approx(tables[1].loc["ratio", "estimate"])

    def test_per_token_divides_by_the_mean_length(self):
        plain = compare_signal(make_counts(), "panel", "think", 8, R).set_index("quantity")["estimate"]
        table = compare_signal_per_token(make_counts(), "panel", "think", 8, R).set_index("quantity")[
            "estimate"
        ]
        assert table["first"] == pytest.approx(plain["first"] / 100 * 1e6)
        assert table["ratio"] == pytest.approx(3 * plain["ratio"])

    def test_lengths_that_are_not_known_are_refused(self):
        with pytest.raises(ValueError, match="'mean_tokens' must be a finite number"):
            compare_signal_per_token(make_counts(tokens=(100.0, np.nan)), "panel", "think", 8, R)

    def test_an_arm_without_any_signal_leaves_the_ratio_undefined(self):
        table = compare_signal(make_counts(think=[8] * 8), "panel", "think", 8, R).set_index("quantity")
        assert np.isnan(table.loc["ratio", "estimate"])
        assert table.loc["ratio", "reason"]


class TestGroupSizes:
    def test_counted_up_to_n_and_modelled_beyond(self):
        table = mixed_share_at_any_size(make_counts(), [16, 2, 8], R)
        mine = table[table["arm"] == "panel"].set_index("group_size")
        assert mine["model_based"].to_dict() == {2: False, 8: False, 16: True}
        assert mine.loc[8, "estimate"] == pytest.approx(4 / 8)
        pairs = np.mean([2 * c * (8 - c) / 56 for c in PANEL])
        assert mine.loc[2, "estimate"] == pytest.approx(pairs)

    def test_the_model_is_right_where_the_model_is_true(self):
        a, b = 0.5, 1.2
        rng = np.random.default_rng(4)
        c = rng.binomial(8, rng.beta(a, b, 5000))
        table = mixed_share_at_any_size(make_counts(c, c), [32], R).iloc[0]
        true = 1 - stats.betabinom.pmf([0, 32], 32, a, b).sum()
        assert table["low"] < true < table["high"]
        assert table["high"] - table["low"] < 0.06

    def test_a_group_of_one_is_refused(self):
        with pytest.raises(ValueError, match="2 or more"):
            mixed_share_at_any_size(make_counts(), [1, 2], R)


class TestFreshGroups:
    def test_the_posterior_by_integration(self):
        counts = make_counts(PANEL * 20, THINK * 20)
        chosen = [f"p{i:03d}" for i, c in enumerate(PANEL * 20) if 0 < c < 8]
        m, q = signal.rate_moments(np.full(160, 8), PANEL * 20).mean(axis=0)
        total = (m - q) / (q - m * m)
        by_source = {}
        for i, c in enumerate(PANEL * 20):
            if 0 < c < 8:
                beta = stats.beta(m * total + c, (1 - m) * total + 8 - c)
                mixed = beta.expect(lambda p: 1 - p**16 - (1 - p) ** 16)
                by_source.setdefault(i % 2, []).append(mixed)
        true = np.mean([np.mean(each) for each in by_source.values()])
        assert fresh_mixed_share(counts, "panel", chosen, 16, R).value == pytest.approx(true, rel=1e-6)

    def test_a_band_is_narrower_when_its_groups_are_drawn_anew(self):
        rng = np.random.default_rng(5)
        p = rng.beta(0.3, 0.9, 3000)
        c, again = rng.binomial(8, p), rng.binomial(8, p)
        counts = make_counts(c, c)
        band = (c > 0) & (c < 8)
        chosen = [f"p{i:03d}" for i in np.flatnonzero(band)]
        estimate = fresh_mixed_share(counts, "panel", chosen, 8, R)
        true = np.mean([((again[i::2] > 0) & (again[i::2] < 8))[band[i::2]].mean() for i in (0, 1)])
        assert true < 0.9
        assert estimate.value == pytest.approx(true, abs=0.03)

    def test_problems_of_another_pool_are_refused(self):
        with pytest.raises(ValueError, match="none of the 1 problems"):
            fresh_mixed_share(make_counts(), "panel", ["q"], 8, R)


MARKS = {
    "p0": [(True, True), (True, False), (False, True), (False, False), (True, True)],
    "p1": [(False, False), (False, False), (False, True)],
}


class TestRewardParts:
    def test_parts_against_numpy(self):
        table = reward_parts(make_draws(MARKS), 0.2, 4, R).set_index("part")["estimate"]
        parts = []
        for draws in MARKS.values():
            x, y = np.array(draws, dtype=float).T
            cov = np.cov(x, 0.2 * (y - 1), ddof=1)
            parts.append([cov[0, 0], cov[1, 1], 2 * cov[0, 1], np.var(x + 0.2 * (y - 1), ddof=1)])
        outcome, tags, covariance, total = 0.75 * np.mean(parts, axis=0)
        assert table[["outcome", "tags", "covariance", "total"]].tolist() == pytest.approx(
            [outcome, tags, covariance, total]
        )
        assert table["tag_share"] == pytest.approx(1 - outcome / total)

    def test_they_are_unbiased_for_the_advantages_of_a_group(self):
        """Over all 4^3 outcomes of three draws: the mean total equals the mean squared advantage of a group of 4."""
        cells = {(True, True): 0.3, (True, False): 0.1, (False, True): 0.4, (False, False): 0.2}

        def mean_over(size, measure):
            return sum(
                np.prod([cells[cell] for cell in drawn]) * measure(drawn)
                for drawn in itertools.product(cells, repeat=size)
            )

        def squared(drawn):
            rewards = np.array([right + 0.2 * (tag - 1) for right, tag in drawn])
            return np.mean((rewards - rewards.mean()) ** 2)

        def estimated(drawn):
            x, y = np.array(drawn, dtype=float).T
            return 0.75 * np.var(x + 0.2 * y, ddof=1)

        assert mean_over(3, estimated) == pytest.approx(mean_over(4, squared))
        drawn = [(True, True), (False, True), (False, False)]
        table = reward_parts(make_draws({"p": drawn, "q": drawn}), 0.2, 4, R).set_index("part")["estimate"]
        assert table["total"] == pytest.approx(estimated(drawn))

    def test_outcomes_are_the_signal_of_the_counts(self):
        table = reward_parts(make_draws(MARKS), 0.2, 4, R).set_index("part")["estimate"]
        assert table["outcome"] == pytest.approx(expected_signal([5, 3], [3, 0], 4).mean())

    def test_without_a_weight_tags_are_nothing(self):
        table = reward_parts(make_draws(MARKS), 0.0, 4, R).set_index("part")["estimate"]
        assert table[["tags", "covariance", "tag_share"]].tolist() == [0.0, 0.0, 0.0]

    def test_arms_are_kept_apart(self):
        draws = pd.concat(
            [
                make_draws(MARKS),
                make_draws({"p0": [(True, True)] * 4, "p1": [(True, True)] * 2}, "think"),
            ]
        )
        table = reward_parts(draws, 0.2, 4, R).set_index(["arm", "part"])["estimate"]
        assert table["think", "total"] == 0.0
        assert table["panel", "total"] > 0.0

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="'q' of arm 'panel' has one"):
            reward_parts(make_draws(MARKS | {"q": [(True, True)]}), 0.2, 4, R)
        with pytest.raises(ValueError, match="'tag_valid'"):
            reward_parts(make_draws(MARKS).drop(columns="tag_valid"), 0.2, 4, R)
        with pytest.raises(ValueError, match="group_size must be 2"):
            reward_parts(make_draws(MARKS), 0.2, 1, R)


class TestVisits:
    POOL = pd.DataFrame({"problem_id": list("abcdefg"), "source": ["x"] * 4 + ["y"] * 2 + ["z"]})

    @pytest.mark.parametrize("n_visits", [1, 7, 50, 100])
    def test_round_robin_against_a_walk(self, n_visits):
        pools = {s: list(rows["problem_id"]) for s, rows in self.POOL.groupby("source")}
        seen = dict.fromkeys(self.POOL["problem_id"], 0)
        for visit in range(n_visits):
            row = pools[sorted(pools)[visit % 3]]
            seen[row[(visit // 3) % len(row)]] += 1
        visits = round_robin_visits(self.POOL, n_visits)
        assert visits.set_index("problem_id")["n_visits"].to_dict() == seen

    def test_the_audit_counts_and_flags(self):
        table = audit_visits(round_robin_visits(self.POOL, 90), most=14).set_index("source")
        assert table.index.tolist() == ["x", "y", "z", "all"]
        assert table["visits"].tolist() == [30, 30, 30, 90]
        assert table["most_visits"].tolist() == [8, 15, 30, 30]
        assert table["n_over"].tolist() == [0, 2, 1, 3]
        assert table["visits_over"].tolist() == [0, 30, 30, 60]
        assert table.loc["all", "visits_per_problem"] == pytest.approx(90 / 7)

    def test_20_visits_are_not_above_20(self):
        visits = pd.DataFrame({"source": "x", "n_visits": [20, 21]})
        assert audit_visits(visits)["n_over"].tolist() == [1, 1]

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="got 0 problems"):
            round_robin_visits(self.POOL.iloc[:0], 5)
        with pytest.raises(ValueError, match="no problem"):
            audit_visits(pd.DataFrame({"source": [], "n_visits": []}))
        with pytest.raises(ValueError, match="'n_visits'"):
            audit_visits(self.POOL)
