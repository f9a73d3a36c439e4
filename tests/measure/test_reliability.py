"""Reliability: every summary against enumeration of all subsets, votes against a count by hand."""

import doctest
from itertools import combinations
from math import ceil, comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from panelbook.measure import reliability
from panelbook.measure.passk import pass_at_k_curve, pass_at_k_gap, pass_at_k_matrix
from panelbook.measure.reliability import (
    EXACT_K,
    SUMMARIES,
    add_votes,
    compare_summaries,
    g_pass_at_k_matrix,
    ladder,
    majority_at_k_matrix,
    mg_pass_at_k_matrix,
    pass_area_matrix,
    pass_power_k_matrix,
    score_problems,
    summarise,
)
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts import adapters
from panelbook.rollouts.schema import select_counts

R = Resampling(seed=20260424, n_resamples=400)
ARMS = ("panel", "think")


def make_counts(n_problems=15, n=8, seed=0):
    rng = np.random.default_rng(seed)
    arms = [
        pd.DataFrame(
            {
                "arm": arm,
                "problem_id": [f"p{i:03d}" for i in range(n_problems)],
                "n": n,
                "c": rng.binomial(n, rng.beta(a, b, n_problems)),
            }
        )
        for arm, a, b in zip(ARMS, (0.5, 0.9), (0.8, 0.4), strict=True)
    ]
    return pd.concat(arms, ignore_index=True)


def make_rollouts(counts, seed=0, n_wrong=3):
    rng = np.random.default_rng(seed)
    rows = []
    for row in counts.itertuples():
        for i in range(row.n):
            right = i < row.c
            said = None if rng.random() < 0.15 else f"w{rng.integers(n_wrong)}"
            status = "correct" if right else "wrong" if said else "no_answer"
            rows.append((row.arm, row.problem_id, "right" if right else said, status))
    return pd.DataFrame(rows, columns=["arm", "problem_id", "predicted", "status"])


def enumerate_subsets(n, c, k):
    """Right draws of every k-subset of n draws of which the first c are right."""
    return np.array([sum(i < c for i in subset) for subset in combinations(range(n), k)])


def enumerate_majority(ballots, k):
    """Chance that the right answer ('r') has most votes, by listing all subsets; None does not vote."""
    wins = []
    for subset in combinations(ballots, k):
        votes = {answer: subset.count(answer) for answer in set(subset) if answer is not None}
        top = [answer for answer in votes if votes[answer] == max(votes.values())]
        wins.append(("r" in top) / max(len(top), 1))
    return np.mean(wins)


counts_and_k = st.integers(1, 8).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


class TestFormulas:
    def test_examples_in_docstrings(self):
        result = doctest.testmod(reliability)
        assert result.attempted > 0
        assert result.failed == 0

    @given(counts_and_k)
    def test_pass_power_k_is_the_share_of_subsets_that_are_all_right(self, drawn):
        n, c, k = drawn
        assert pass_power_k_matrix([n], [c], [k])[0, 0] == pytest.approx(
            np.mean(enumerate_subsets(n, c, k) == k)
        )

    @given(counts_and_k)
    def test_pass_power_k_is_the_quotient_of_binomials(self, drawn):
        n, c, k = drawn
        assert pass_power_k_matrix([n], [c], [k])[0, 0] == pytest.approx(comb(c, k) / comb(n, k))

    @given(counts_and_k, st.sampled_from([0.25, 0.5, 0.6, 0.75, 1.0]))
    def test_g_pass_is_the_share_of_subsets_with_enough_right_draws(self, drawn, tau):
        n, c, k = drawn
        expected = np.mean(enumerate_subsets(n, c, k) >= ceil(tau * k))
        assert g_pass_at_k_matrix([n], [c], [k], tau)[0, 0] == pytest.approx(expected)

    def test_g_pass_asks_for_no_draw_more_where_the_product_is_whole(self):
        # 0.1 * 30 = 3.0000000000000004 in floating point
        assert g_pass_at_k_matrix([30], [3], [30], 0.1)[0, 0] == 1.0
        assert g_pass_at_k_matrix([30], [2], [30], 0.1)[0, 0] == 0.0

    @given(counts_and_k)
    def test_g_pass_runs_from_pass_at_k_to_pass_power_k(self, drawn):
        n, c, k = drawn
        at = [g_pass_at_k_matrix([n], [c], [k], tau)[0, 0] for tau in (1e-6, 0.3, 0.5, 0.8, 1.0)]
        assert at[0] == pytest.approx(pass_at_k_matrix([n], [c], [k])[0, 0])
        assert at[-1] == pytest.approx(pass_power_k_matrix([n], [c], [k])[0, 0])
        assert np.all(np.diff(at) <= 1e-12)

    @given(counts_and_k)
    @settings(max_examples=25)
    def test_mg_pass_is_twice_the_integral_over_tau(self, drawn):
        n, c, k = drawn
        integral, _ = integrate.quad(
            lambda tau: g_pass_at_k_matrix([n], [c], [k], tau)[0, 0],
            0.5,
            1.0,
            points=sorted({0.5, 1.0, *(i / k for i in range(k) if i / k > 0.5)}),
        )
        assert mg_pass_at_k_matrix([n], [c], [k])[0, 0] == pytest.approx(2 * integral, abs=1e-6)

    @given(counts_and_k.filter(lambda drawn: drawn[2] % 2 == 0))
    def test_mg_pass_at_even_k_is_the_sum_of_the_paper(self, drawn):
        n, c, k = drawn
        printed = 2 / k * sum(stats.hypergeom(n, c, k).sf(i - 1) for i in range(k // 2 + 1, k + 1))
        assert mg_pass_at_k_matrix([n], [c], [k])[0, 0] == pytest.approx(printed)

    def test_area_is_the_mean_over_log_uniform_k(self):
        n, c, k_max = 8, 2, 8
        log_k = np.linspace(0, 3, 200_001)
        curve = pass_at_k_matrix([n], [c], range(1, k_max + 1))[0]
        expected = np.interp(log_k, np.log2(np.arange(1, k_max + 1)), curve).mean()
        assert pass_area_matrix([n], [c], [k_max])[0, 0] == pytest.approx(expected, abs=1e-5)

    def test_area_up_to_one_draw_is_the_success_rate(self):
        assert pass_area_matrix([8, 1], [2, 1], [1])[:, 0] == pytest.approx([0.25, 1.0])

    @given(counts_and_k)
    def test_area_lies_between_the_ends_of_the_curve(self, drawn):
        n, c, k = drawn
        area = pass_area_matrix([n], [c], [k])[0, 0]
        low, high = pass_at_k_matrix([n], [c], [1, k])[0]
        assert low - 1e-12 <= area <= high + 1e-12

    @pytest.mark.parametrize("c", [0, 5])
    def test_an_arm_that_is_never_or_always_right_has_the_same_value_everywhere(self, c):
        rows = pd.DataFrame(
            {"problem_id": ["p"], "n": [5], "c": [c], "blank": [0], "wrong": [(5 - c,) * (c < 5)]}
        )
        for name, scores in score_problems(rows, [1, 2, 5], 0.5).items():
            assert scores.tolist() == [[c / 5] * 3], name

    @pytest.mark.parametrize(
        ("name", "truth"),
        [
            ("pass_power_k", lambda q, k: q**k),
            ("g_pass_at_k", lambda q, k: stats.binom(k, q).sf(ceil(0.5 * k) - 1)),
            ("mg_pass_at_k", lambda q, k: stats.binom(k, q).expect(lambda x: np.maximum(2 * x / k - 1, 0))),
        ],
    )
    def test_is_unbiased(self, name, truth):
        # Averaged over all outcomes of n draws at success rate q, it is the value for k fresh draws.
        n, k, q = 7, 3, 0.35
        c = np.arange(n + 1)
        rows = pd.DataFrame({"problem_id": c, "n": n, "c": c})
        assert stats.binom.pmf(c, n, q) @ score_problems(rows, [k], 0.5)[name][:, 0] == pytest.approx(
            truth(q, k)
        )

    @pytest.mark.parametrize("function", [pass_power_k_matrix, mg_pass_at_k_matrix, pass_area_matrix])
    def test_refuses_k_beyond_the_draws_naming_the_problem(self, function):
        with pytest.raises(ValueError, match=r"problem 'aime-07' has n=8, k=16\. Lower k, or draw more"):
            function([16, 8], [1, 1], [1, 16], ["aime-06", "aime-07"])
        with pytest.raises(ValueError, match="k must be 1 or more"):
            function([8], [1], [0, 4])

    @pytest.mark.parametrize("tau", [0.0, -0.5, 1.01, float("nan")])
    def test_refuses_a_share_that_is_none(self, tau):
        with pytest.raises(ValueError, match=r"tau .* must lie in \(0, 1\]"):
            g_pass_at_k_matrix([4], [2], [2], tau)

    def test_refuses_impossible_counts_in_words_about_right_draws(self):
        with pytest.raises(ValueError, match="n=4, c=5"):
            pass_power_k_matrix([4], [5], [1])

    @pytest.mark.parametrize(
        ("k_max", "ks"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
    )
    def test_ladder(self, k_max, ks):
        assert ladder(k_max) == ks


ballot = st.lists(st.sampled_from(["r", "a", "b", "c", None]), min_size=1, max_size=7)


class TestMajority:
    @given(ballot.flatmap(lambda drawn: st.tuples(st.just(drawn), st.integers(1, len(drawn)))))
    def test_equals_enumeration_of_all_subsets(self, drawn):
        ballots, k = drawn
        wrong = [ballots.count(answer) for answer in "abc" if answer in ballots]
        value = majority_at_k_matrix([ballots.count("r")], [ballots.count(None)], [wrong], [k])[0, 0]
        assert value == pytest.approx(enumerate_majority(ballots, k))

    def test_problems_of_different_shape_side_by_side(self):
        ballots = ["rrab", "rrraab", "aaaa", "rrrr", "rabc", "aabbrr"]
        table = majority_at_k_matrix(
            [b.count("r") for b in ballots],
            [0] * len(ballots),
            [[b.count(x) for x in "abc" if x in b] for b in ballots],
            [1, 3, 4],
        )
        expected = [[enumerate_majority(list(b), k) for k in (1, 3, 4)] for b in ballots]
        assert table == pytest.approx(np.array(expected))

    def test_one_vote_is_the_success_rate_and_so_are_two(self):
        # Two draws that differ tie, and a tie between two counts half.
        table = majority_at_k_matrix([3, 0, 5], [0, 0, 0], [[2, 1], [6], [1]], [1, 2])
        assert table[:, 0] == pytest.approx([0.5, 0.0, 5 / 6])
        assert table[:, 1] == pytest.approx(table[:, 0])

    def test_all_draws_that_vote_decide_at_k_equal_n(self):
        table = majority_at_k_matrix([2, 2, 2, 0], [5, 0, 0, 3], [[1], [2], [2, 2], []], [3])
        full = [
            majority_at_k_matrix([r], [b], [w], [r + b + sum(w)])[0, 0]
            for r, b, w in ((2, 5, [1]), (2, 0, [2]), (2, 0, [2, 2]), (0, 3, []))
        ]
        assert full == pytest.approx([1.0, 0.5, 1 / 3, 0.0])
        assert table[3, 0] == 0.0

    def test_a_blank_is_no_vote(self):
        # One right draw and three blanks: right whenever it is among the k.
        assert majority_at_k_matrix([1], [3], [[]], [1, 2, 4])[0] == pytest.approx([0.25, 0.5, 1.0])

    def test_sampled_subsets_agree_with_counted_ones(self):
        rng = np.random.default_rng(5)
        right, blank = rng.integers(0, 20, 40), rng.integers(0, 5, 40)
        wrong = [rng.integers(1, 8, rng.integers(2, 6)).tolist() for _ in range(40)]
        right = np.maximum(right, EXACT_K - blank - [sum(w) for w in wrong])  # enough draws for every k
        ballots = [
            (int(r), int(b), *sorted(w, reverse=True)) for r, b, w in zip(right, blank, wrong, strict=True)
        ]
        ks = np.array([3, 8, 20])
        counted = reliability._count_majorities(ballots, ks)
        sampled = reliability._sample_majorities(ballots, ks, np.random.default_rng(1))
        z = (sampled - counted).mean(axis=0) / (0.5 / np.sqrt(40 * reliability.N_SUBSETS))
        assert np.all(np.abs(z) < 4)
        assert np.corrcoef(sampled.ravel(), counted.ravel())[0, 1] > 0.98
        assert 0.05 < counted.mean() < 0.95

    def test_beyond_the_exact_range_the_last_k_is_still_exact_and_the_seed_decides(self):
        arguments = ([30, 20], [5, 0], [[20, 6], [20, 20, 1]])
        table = majority_at_k_matrix(*arguments, [4, 61], seed=3)
        assert table[0, 1] == 1.0
        assert table[1, 1] == pytest.approx(1 / 3)
        assert table[:, 0] == pytest.approx(majority_at_k_matrix(*arguments, [4])[:, 0])
        again = [majority_at_k_matrix(*arguments, [40], seed=s).tolist() for s in (3, 3, 4)]
        assert again[0] == again[1] != again[2]

    def test_does_not_depend_on_the_order_of_problems_or_answers(self):
        one = majority_at_k_matrix([20, 30], [0, 1], [[10, 15], [9, 9]], [2, 40], seed=1)
        two = majority_at_k_matrix([30, 20], [1, 0], [[9, 9], [15, 10]], [2, 40], seed=1)
        assert one.tolist() == two[::-1].tolist()

    def test_refuses_what_are_no_votes(self):
        with pytest.raises(ValueError, match=r"each wrong answer at least 1; got blank=0 and wrong=\[2, 0\]"):
            majority_at_k_matrix([1], [0], [[0, 2]], [1])
        with pytest.raises(ValueError, match="blank at least 0"):
            majority_at_k_matrix([3], [-1], [[2]], [1])
        with pytest.raises(ValueError, match="problem in row 0 has n=3, k=4"):
            majority_at_k_matrix([1], [0], [[2]], [4])


class TestAddVotes:
    def test_counts_votes_blanks_and_ties_by_hand(self):
        counts = pd.DataFrame(
            {"arm": "panel", "problem_id": ["a", "b"], "n": [6, 2], "c": [2, 0]}, index=[7, 9]
        )
        draws = [("a", "1/2", "correct"), ("a", "0.5", "correct"), ("a", "7", "wrong"), ("a", "8", "wrong")]
        draws += [
            ("a", "7", "timeout"),
            ("a", "rubbish", "unparsable"),
            ("b", None, "no_answer"),
            ("b", " ", "wrong"),
        ]
        rollouts = pd.DataFrame(draws, columns=["problem_id", "predicted", "status"]).assign(arm="panel")
        voted = add_votes(counts, rollouts.sample(frac=1, random_state=0))
        assert voted["wrong"].tolist() == [(2, 1, 1), ()]
        assert voted["blank"].tolist() == [0, 2]
        assert voted.index.tolist() == [7, 9]

    def test_keeps_to_the_rows_that_were_counted(self):
        counts = make_counts(4).assign(checkpoint="base", benchmark="arithmetic")
        rollouts = make_rollouts(counts).assign(checkpoint="base", benchmark="arithmetic")
        elsewhere = pd.concat(
            [rollouts, rollouts.assign(checkpoint="step 9"), rollouts.assign(benchmark="other")]
        )
        pd.testing.assert_frame_equal(add_votes(counts, elsewhere), add_votes(counts, rollouts))

    def test_votes_add_up_to_the_draws(self):
        counts = make_counts(30)
        voted = add_votes(counts, make_rollouts(counts))
        assert (voted["c"] + voted["blank"] + voted["wrong"].map(sum)).tolist() == voted["n"].tolist()
        assert voted["blank"].sum() > 0

    def test_refuses_rollouts_of_other_draws(self):
        counts = make_counts(4)
        rollouts = make_rollouts(counts)
        with pytest.raises(ValueError, match=r"problem 'p000' of arm 'panel' has n=8 in counts and 16"):
            add_votes(counts, pd.concat([rollouts, rollouts]))
        with pytest.raises(ValueError, match=r"of arm 'think' has n=8 in counts and 0"):
            add_votes(counts, rollouts[rollouts["arm"] == "panel"])
        with pytest.raises(ValueError, match="has c="):
            add_votes(counts, rollouts.assign(status="wrong"))

    @pytest.mark.parametrize("column", ["arm", "problem_id", "predicted", "status"])
    def test_names_a_missing_column(self, column):
        counts = make_counts(2)
        with pytest.raises(ValueError, match=f"rollouts table has no column '{column}'"):
            add_votes(counts, make_rollouts(counts).drop(columns=column))


class TestTables:
    def test_one_row_for_each_arm_summary_and_k(self):
        table = summarise(make_counts(), [1, 4], 0.5, R)
        assert len(table) == 2 * (len(SUMMARIES) - 1) * 2
        assert table["summary"].unique().tolist() == list(SUMMARIES)[:-1]
        assert (table["low"] <= table["estimate"]).all()
        assert (table["estimate"] <= table["high"]).all()

    def test_agrees_with_the_module_of_pass_at_k(self):
        counts, ks = make_counts(), [1, 2, 8]
        mine = summarise(counts, ks, 0.5, R).query("summary == 'pass_at_k'").reset_index(drop=True)
        assert mine["estimate"].tolist() == pytest.approx(pass_at_k_curve(counts, ks, R)["estimate"].tolist())
        gap = (
            compare_summaries(counts, *ARMS, ks, 0.5, R)
            .query("summary == 'pass_at_k'")
            .reset_index(drop=True)
        )
        theirs = pass_at_k_gap(counts, *ARMS, ks, R)
        for column in ("first", "second", "difference", "low", "high"):
            assert gap[column].to_numpy() == pytest.approx(
                theirs["gap" if column == "difference" else column].to_numpy()
            )

    def test_interval_of_the_mean_success_agrees_with_students(self):
        counts = make_counts(60, seed=3)
        row = compare_summaries(counts, *ARMS, [1], 0.5, Resampling(seed=1)).set_index("summary").loc["avg"]
        wide = counts.assign(rate=counts["c"] / counts["n"]).pivot(
            index="problem_id", columns="arm", values="rate"
        )
        difference = wide["panel"] - wide["think"]
        expected = stats.t(59, difference.mean(), stats.sem(difference)).interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx(expected, abs=0.02)

    def test_all_summaries_agree_at_one_draw(self):
        counts = make_counts()
        table = compare_summaries(add_votes(counts, make_rollouts(counts)), *ARMS, [1], 0.5, R)
        assert len(table) == len(SUMMARIES)
        assert table["difference"].to_numpy() == pytest.approx(
            np.full(len(table), table["difference"].iloc[0])
        )

    def test_swapping_the_arms_turns_the_sign(self):
        counts = make_counts()
        one, two = (compare_summaries(counts, *arms, [2, 8], 0.5, R) for arms in (ARMS, ARMS[::-1]))
        assert one["difference"].to_numpy() == pytest.approx(-two["difference"].to_numpy())
        assert one["first"].tolist() == two["second"].tolist()

    def test_the_ranking_can_depend_on_the_summary(self):
        # Half the problems always right, against every problem right half of the time.
        steady = pd.DataFrame({"arm": "panel", "problem_id": range(20), "n": 8, "c": [8, 0] * 10})
        even = pd.DataFrame({"arm": "think", "problem_id": range(20), "n": 8, "c": 4})
        table = compare_summaries(pd.concat([steady, even]), *ARMS, [4], 0.5, R).set_index("summary")
        assert table.loc["avg", "difference"] == 0
        assert table.loc["pass_at_k", "high"] < 0 < table.loc["pass_power_k", "low"]

    def test_counts_of_different_length_and_unpaired_problems(self):
        counts = make_counts(12, n=8)
        counts.loc[counts["arm"] == "think", "n"] = 16
        counts = counts.drop(index=0)
        table = compare_summaries(counts, *ARMS, [1, 8], 0.5, R)
        assert set(table["n_unpaired"]) == {1}
        assert set(table["n_problems"]) == {11}
        with pytest.raises(ValueError, match=r"n=8, k=16"):
            compare_summaries(counts, *ARMS, [16], 0.5, R)

    def test_refuses_a_table_without_rows_or_numbers(self):
        counts = make_counts(4)
        with pytest.raises(ValueError, match="arm 'nobody' has no rows"):
            compare_summaries(counts, "panel", "nobody", [1], 0.5, R)
        with pytest.raises(ValueError, match="counts must be whole numbers"):
            summarise(counts.assign(c=np.nan), [1], 0.5, R)
        with pytest.raises(ValueError, match="no column 'c'"):
            summarise(counts.drop(columns="c"), [1], 0.5, R)


@pytest.mark.published
class TestPublished:
    def test_the_aime_gap_is_wider_where_all_draws_must_be_right_than_where_one_must(self, published_folder):
        counts = select_counts(
            adapters.read_counts(published_folder),
            study="published",
            benchmark="aime",
            arms=["panel", "thinking"],
        )
        table = compare_summaries(counts, "panel", "thinking", [16], 0.5, R).set_index("summary")
        assert table.loc["avg", "difference"] == pytest.approx((72 - 234) / 320)
        always = counts[counts["c"] == counts["n"]]["arm"].value_counts()
        assert table.loc["pass_power_k", "first"] == pytest.approx(always.get("panel", 0) / 20)
        assert table.loc["pass_power_k", "second"] == pytest.approx(always.get("thinking", 0) / 20)
        assert (table["high"] < 0).all()

    @pytest.mark.parametrize(
        ("benchmark", "upper", "lower"), [("math500_s50", 6.5, -11.5), ("math500_l5", 14.6, -15.3)]
    )
    def test_the_gap_that_closes_where_one_right_draw_is_enough_opens_where_all_must_be_right(
        self, published_folder, benchmark, upper, lower
    ):
        counts = select_counts(
            adapters.read_counts(published_folder),
            study="published",
            benchmark=benchmark,
            arms=["panel", "thinking"],
        )
        gaps = compare_summaries(counts, "panel", "thinking", [1, 4], 0.5, R).set_index(["summary", "k"])
        for summary, points in (("pass_at_k", upper), ("pass_power_k", lower)):
            move = gaps.loc[(summary, 4), "difference"] - gaps.loc[(summary, 1), "difference"]
            assert 100 * move == pytest.approx(points, abs=0.05)
