"""The published figures, recomputed from the published rows.

Each test compares with the figure as the study prints it, to its own rounding. Where the rows give another
number than the one printed, the test says so in its name and holds the recomputed one.
"""

import json

import pytest

from panelbook.measure.bands import compare_bands, joint_bands
from panelbook.measure.climb import climb_gain, heldout_trajectory, training_change, training_ratio
from panelbook.measure.diversity import compare_spread, spread_table
from panelbook.measure.matching import decompose_mixed
from panelbook.measure.passk import gap_closure, is_monotone, pass_at_k_curve, pass_at_k_gap, solved_overlap
from panelbook.measure.signal import audit_visits, compare_signal, round_robin_visits
from panelbook.measure.tokens import bucket_totals, compare_cost, wilcoxon_p_from_statistic
from panelbook.measure.uncertainty import Resampling
from panelbook.rollouts import adapters
from panelbook.rollouts.schema import select_counts

pytestmark = pytest.mark.published

R = Resampling(seed=20260424, n_resamples=200)
ARMS = ("panel", "thinking")


@pytest.fixture(scope="module")
def counts(published_folder):
    return adapters.read_counts(published_folder)


@pytest.fixture(scope="module")
def spread(published_folder):
    return adapters.read_spread(published_folder)


@pytest.fixture(scope="module")
def buckets(published_folder):
    return adapters.read_token_buckets(published_folder)


@pytest.fixture(scope="module")
def training(published_folder):
    return adapters.read_training(published_folder)


@pytest.fixture(scope="module")
def olympiad_heldout(published_folder):
    heldout = adapters.read_heldout(published_folder)
    return heldout[heldout["benchmark"] == "olympiad"]


def two_arms(table, benchmark):
    return select_counts(table, study="published", benchmark=benchmark, arms=ARMS)


def compare(spread, benchmark, window=2000):
    rows = two_arms(spread[spread["window_chars"] == window], benchmark)
    return compare_spread(rows, *ARMS, R, 999)


def gap(counts, benchmark, k_to):
    return pass_at_k_gap(two_arms(counts, benchmark), *ARMS, list(range(1, k_to + 1)), R).set_index("k")


class TestSpread:
    def test_math500_traces_lie_78_3_percent_further_apart_printed_as_78_2(self, spread):
        change = compare(spread, "math500_s50").relative_difference
        assert change.value == pytest.approx(0.783, abs=0.0005)
        assert change.value != pytest.approx(0.782, abs=0.0005)
        assert change.low > 0

    def test_aime_traces_lie_75_5_percent_further_apart_printed_as_75_6(self, spread):
        change = compare(spread, "aime").relative_difference
        assert change.value == pytest.approx(0.755, abs=0.0005)
        assert change.value != pytest.approx(0.756, abs=0.0005)

    @pytest.mark.parametrize(("benchmark", "t", "df"), [("math500_s50", 5.91, 49), ("aime", 4.72, 19)])
    def test_paired_t(self, spread, benchmark, t, df):
        comparison = compare(spread, benchmark)
        assert comparison.t == pytest.approx(t, abs=0.005)
        assert comparison.df == df

    @pytest.mark.parametrize(("benchmark", "p"), [("math500_s50", 3.4e-9), ("aime", 2.4e-6)])
    def test_the_printed_p_is_that_of_the_normal_distribution(self, spread, benchmark, p):
        assert compare(spread, benchmark).p_normal == pytest.approx(p, rel=0.05 / 2.4)

    @pytest.mark.parametrize(
        ("benchmark", "p", "bound"), [("math500_s50", 3.2e-7, 1e-8), ("aime", 1.5e-4, 1e-5)]
    )
    def test_students_p_is_above_the_bound_that_is_printed(self, spread, benchmark, p, bound):
        found = compare(spread, benchmark).p_student
        assert found == pytest.approx(p, rel=0.05)
        assert found > bound

    def test_the_longer_window_gives_the_same_number_because_it_gives_the_same_embeddings(self, spread):
        short, long = compare(spread, "math500_s50"), compare(spread, "math500_s50", 8000)
        assert long.relative_difference.value == pytest.approx(short.relative_difference.value, abs=1e-6)
        wide = two_arms(spread, "math500_s50").pivot(
            index=["arm", "problem_id"], columns="window_chars", values="mean_distance"
        )
        assert wide[8000].to_numpy() == pytest.approx(wide[2000].to_numpy(), abs=1e-7)

    def test_means_of_every_arm_are_those_of_the_published_summary(self, spread, published_folder):
        for report, (benchmark, names) in adapters.SPREAD_REPORTS.items():
            path = published_folder / "reports" / report / "summary.json"
            summary = json.loads(path.read_text(encoding="utf-8"))
            rows = spread[
                (spread["benchmark"] == benchmark)
                & (spread["window_chars"] == summary["config"]["trace_head_chars"])
            ]
            means = spread_table(rows, R).set_index("arm")["mean_distance"]
            for label, stated in summary["by_variant"].items():
                assert means[names[label]] == pytest.approx(stated["mean_pairwise_dist_mean"]), (
                    report,
                    label,
                )


class TestPassAtK:
    @pytest.mark.parametrize(
        ("name", "index", "benchmark"),
        [
            ("pass_at_k_aime", None, "aime"),
            ("pass_at_k_crossover", 0, "math500_s50"),
            ("pass_at_k_crossover", 1, "math500_l5"),
        ],
    )
    def test_every_k_of_every_slice_agrees_with_the_published_table(
        self, counts, published_folder, name, index, benchmark
    ):
        path = published_folder / "reports" / name / "results.json"
        stated = json.loads(path.read_text(encoding="utf-8"))
        rows = (stated if index is None else stated[index])["rows"]
        table = gap(counts, benchmark, max(row["k"] for row in rows))
        assert len(table) == len(rows)
        for row in rows:
            mine = table.loc[row["k"]]
            assert mine["n_problems"] == row["n_paired"]
            assert mine["first"] == pytest.approx(row["panel_pass_at_k"])
            assert mine["second"] == pytest.approx(row["thinking_pass_at_k"])
            assert mine["gap"] == pytest.approx(row["delta_mean"])
            assert mine["se"] == pytest.approx(row["delta_se"])
            assert mine["t"] == pytest.approx(row["t"])

    @pytest.mark.parametrize(("benchmark", "k_to", "points"), [("aime", 16, 15.6), ("math500_s50", 4, 6.5)])
    def test_the_gap_closes(self, counts, benchmark, k_to, points):
        closure = gap_closure(two_arms(counts, benchmark), *ARMS, 1, k_to, R)
        assert 100 * closure.value == pytest.approx(points, abs=0.05)

    def test_the_gap_closes_by_14_6_points_on_level_5_printed_as_14_7(self, counts):
        closure = gap_closure(two_arms(counts, "math500_l5"), *ARMS, 1, 4, R)
        assert 100 * closure.value == pytest.approx(14.6, abs=0.05)
        assert 100 * closure.value != pytest.approx(14.7, abs=0.05)
        ends = (100 * gap(counts, "math500_l5", 4)["gap"]).round(1)
        assert ends[4] - ends[1] == pytest.approx(14.7)  # the printed one subtracts rounded gaps

    @pytest.mark.parametrize(("benchmark", "k_to"), [("aime", 16), ("math500_s50", 4), ("math500_l5", 4)])
    def test_the_gap_closes_at_every_step(self, counts, benchmark, k_to):
        assert is_monotone(gap(counts, benchmark, k_to)["gap"])

    def test_aime_pass_at_16_of_thinking_is_0_90_printed_as_0_75(self, counts):
        assert gap(counts, "aime", 16).loc[16, "second"] == pytest.approx(0.90)

    def test_level_5_hit_rate_of_thinking_is_0_91_printed_as_0_75(self, counts):
        assert gap(counts, "math500_l5", 1).loc[1, "second"] == pytest.approx(0.909, abs=0.0005)

    def test_level_5_pass_at_4_is_0_78_and_0_96_printed_as_0_90_and_1_00_which_are_those_of_stratified_50(
        self, counts
    ):
        level_5, stratified = gap(counts, "math500_l5", 4).loc[4], gap(counts, "math500_s50", 4).loc[4]
        assert (level_5["first"], level_5["second"]) == pytest.approx((0.777, 0.955), abs=0.0005)
        assert (stratified["first"], stratified["second"]) == pytest.approx((0.90, 1.00))

    def test_aime_problems_the_panel_solves_are_among_those_that_thinking_solves(self, counts):
        overlap = solved_overlap(two_arms(counts, "aime"), *ARMS, R).set_index("outcome")["count"]
        assert overlap.to_dict() == {"both": 11, "first_only": 0, "second_only": 7, "neither": 2}

    def test_per_sample_accuracy(self, counts):
        aime = gap(counts, "aime", 1).loc[1]
        assert (aime["first"], aime["second"]) == pytest.approx((0.23, 0.73), abs=0.005 + 1e-9)
        assert gap(counts, "math500_l5", 1).loc[1, "first"] == pytest.approx(0.58, abs=0.005)

    def test_level_5_problems_saved_and_failed(self, counts, published_folder):
        overlap = solved_overlap(two_arms(counts, "math500_l5"), *ARMS, R).set_index("outcome")
        found = overlap["count"]
        assert (found["first_only"], found["first_only"] + found["neither"]) == (3, 6)
        assert found["second_only"] == 20
        path = published_folder / "reports" / "hard_problem_analysis" / "summary.json"
        stated = json.loads(path.read_text(encoding="utf-8"))
        assert set(overlap.loc["first_only", "problem_ids"]) == set(stated["panel_saves"]["saved_uids"])
        assert set(overlap.loc["second_only", "problem_ids"]) == set(
            stated["panel_fail_thinking_succeed"]["uids"]
        )

    def test_the_saved_problems_were_tried_twice_as_often_by_the_panel(self, counts):
        draws = two_arms(counts, "math500_l5").groupby("arm")["n"].unique()
        assert (draws["panel"].tolist(), draws["thinking"].tolist()) == ([8], [4])

    def test_the_curve_and_the_gap_tell_the_same(self, counts):
        curve = pass_at_k_curve(two_arms(counts, "aime"), [1, 16], R).set_index(["arm", "k"])["estimate"]
        table = gap(counts, "aime", 16)
        for k in (1, 16):
            assert curve["panel", k] - curve["thinking", k] == pytest.approx(table.loc[k, "gap"])


class TestTokens:
    def bucket(self, buckets, benchmark, name):
        rows = buckets[(buckets["benchmark"] == benchmark) & (buckets["bucket"] == name)]
        assert len(rows) == 1
        return rows.iloc[0]

    def test_paired_draws_where_both_are_right(self, buckets):
        pairs = [self.bucket(buckets, name, "both")["n_pairs"] for name in ("math500_l5", "aime")]
        assert (pairs, sum(pairs)) == ([306, 68], 374)

    @pytest.mark.parametrize(("benchmark", "ratio"), [("math500_l5", 6.91), ("aime", 5.89)])
    def test_median_ratio_where_both_are_right(self, buckets, benchmark, ratio):
        assert self.bucket(buckets, benchmark, "both")["ratio_median"] == pytest.approx(ratio, abs=0.005)

    @pytest.mark.parametrize(("benchmark", "share"), [("math500_l5", 0.996), ("aime", 0.997)])
    def test_share_of_paired_draws_where_thinking_is_longer(self, buckets, benchmark, share):
        every = self.bucket(buckets, benchmark, "all_paired")
        assert every["n_second_longer"] / every["n_pairs"] == pytest.approx(share, abs=0.0005)

    @pytest.mark.parametrize(("benchmark", "p"), [("math500_l5", 6e-52), ("aime", 8e-13)])
    def test_wilcoxon_p_follows_from_its_statistic(self, buckets, benchmark, p):
        both = self.bucket(buckets, benchmark, "both")
        found = wilcoxon_p_from_statistic(both["wilcoxon_w"], int(both["wilcoxon_n"]))
        assert found == pytest.approx(p, rel=0.5 / 6)
        assert found == pytest.approx(both["wilcoxon_p"], rel=1e-3)

    @pytest.mark.parametrize(
        ("benchmark", "panel", "thinking", "ratio"),
        [("math500_l5", 1652, 8376, 5.07), ("aime", 6257, 15491, 2.48)],
    )
    def test_tokens_per_correct_from_the_sums(self, buckets, benchmark, panel, thinking, ratio):
        rows = buckets[(buckets["benchmark"] == benchmark) & (buckets["bucket"] != "all_paired")]
        cost = bucket_totals(rows)
        assert (cost.first.value, cost.second.value) == pytest.approx((panel, thinking), abs=0.5)
        assert cost.ratio.value == pytest.approx(ratio, abs=0.005)

    def test_tokens_per_correct_on_aime_from_the_rows_agree_with_those_from_the_sums(self, counts, buckets):
        from_rows = compare_cost(two_arms(counts, "aime"), *ARMS, R)
        assert (from_rows.first.value, from_rows.second.value) == pytest.approx((6257, 15491), abs=0.5)
        assert from_rows.ratio.value == pytest.approx(2.48, abs=0.005)
        assert from_rows.ratio.low > 1
        sums = bucket_totals(buckets[(buckets["benchmark"] == "aime") & (buckets["bucket"] != "all_paired")])
        assert from_rows.ratio.value == pytest.approx(sums.ratio.value)

    def test_token_limits_differ_between_the_arms_although_they_are_said_to_be_equal(self, counts):
        limits = counts.groupby(["benchmark", "arm"])["max_tokens"].max()
        assert limits["math500_s50", "thinking"] == 4 * limits["math500_s50", "panel"]
        assert limits["math500_l5", "thinking"] == 4 * limits["math500_l5", "panel"]
        assert limits["aime", "thinking"] == 2 * limits["aime", "panel"]
        assert limits["olympiad", "thinking"] == limits["olympiad", "panel"]


class TestBands:
    def test_sizes_shares_and_ratio_of_the_variance_band(self, counts):
        table = compare_bands(two_arms(counts, "olympiad"), *ARMS, R).set_index("band")
        band = table.loc["variance_band"]
        assert (round(877 * band["first_share"]), round(877 * band["second_share"])) == (382, 209)
        assert (band["first_share"], band["second_share"]) == pytest.approx((0.436, 0.238), abs=0.0005)
        assert band["ratio"] == pytest.approx(1.83, abs=0.005)

    def test_the_joint_table_cell_by_cell(self, counts):
        joint = joint_bands(two_arms(counts, "olympiad"), *ARMS)
        order = ["all_zero", "variance_band", "all_one"]
        assert joint.loc[order, order].to_numpy().tolist() == [[232, 137, 108], [30, 72, 280], [0, 0, 18]]

    def test_the_band_is_not_that_of_the_policy_whose_pass_at_k_was_measured(self, counts):
        panel = counts[counts["arm"] == "panel"].groupby("benchmark")["checkpoint"].unique()
        assert set(panel["olympiad"]).isdisjoint(panel["aime"])
        assert set(panel["aime"]) == set(panel["math500_s50"])


class TestTraining:
    def test_heldout_accuracy_rises_from_14_to_29_percent(self, olympiad_heldout):
        overall = heldout_trajectory(olympiad_heldout)
        overall = overall[overall["source"] == "all"].set_index("step")["share"]
        assert (overall[0], overall[90]) == pytest.approx((0.14, 0.29))
        gain = climb_gain(olympiad_heldout, 0, 90, R)
        assert 100 * gain.value == pytest.approx(15)
        assert gain.low > 0

    def test_every_tick_is_the_published_one(self, olympiad_heldout, published_folder):
        path = published_folder / "reports" / "olympiad_panel_only" / "summary.json"
        stated = json.loads(path.read_text(encoding="utf-8"))["heldout_trajectory"]
        trajectory = heldout_trajectory(olympiad_heldout).set_index(["step", "source"])["share"]
        assert len(stated) == 10
        for tick in stated:
            assert trajectory[tick["batch"], "all"] == pytest.approx(tick["heldout_mean"])
            for source, share in tick["by_source"].items():
                assert trajectory[tick["batch"], source] == pytest.approx(share)

    def test_what_is_printed_as_reward_is_the_share_correct(self, training):
        first, last = training.head(10), training.tail(10)
        assert (first["correct"].mean(), last["correct"].mean()) == pytest.approx((0.23, 0.576), abs=0.0005)
        assert (first["reward"].mean(), last["reward"].mean()) == pytest.approx((0.215, 0.565), abs=0.0005)
        assert training_change(training, "correct", 10, 10, R).value == pytest.approx(
            0.576 - 0.230, abs=0.001
        )

    def test_entropy_falls_by_73_to_78_percent(self, training):
        assert 1 - training_ratio(training, "entropy", 10, 10, R).value == pytest.approx(0.73, abs=0.005)
        entropy = training.set_index("step")["entropy"]
        assert 1 - entropy[99] / entropy[0] == pytest.approx(0.78, abs=0.005)

    def test_tokens_grow_from_586_to_1103_between_the_first_and_the_last_batch(self, training):
        tokens = training.set_index("step")["mean_tokens"]
        assert (tokens[0], tokens[99]) == pytest.approx((586, 1103), abs=0.5)

    def test_length_spread_within_groups_goes_from_0_36_to_0_66(self, training):
        tracked = training.set_index("step")["length_cv"].dropna()
        assert (tracked.iloc[0], tracked.iloc[-1]) == pytest.approx((0.36, 0.66), abs=0.005)


def test_the_wider_band_is_not_a_matter_of_strength(counts):
    """Thinking's mean success lies nearer one half, so strength alone would give it the wider band."""
    olympiad = two_arms(counts, "olympiad")
    parts = decompose_mixed(olympiad, *ARMS, 8, R).set_index("part")
    assert parts.loc["difference", "estimate"] == pytest.approx((382 - 209) / 877)
    assert parts.loc["strength", "high"] < 0 < parts.loc["dispersion", "low"]
    signal = compare_signal(olympiad, *ARMS, 8, R).set_index("quantity")
    assert signal.loc["ratio", "low"] > 1 > signal.loc["strength_factor", "high"]


def test_half_of_the_training_visits_fall_on_eight_problems(published_folder, training):
    pool = adapters.read_pool(published_folder)
    visits = round_robin_visits(pool[pool["panel_train"]], 8 * len(training))
    total = audit_visits(visits).set_index("source").loc["all"]
    assert (total["problems"], total["n_over"], total["visits_over"] / total["visits"]) == (354, 8, 0.5)
