"""The 41 claims: their verdicts, and every number behind them recomputed from the raw files by other means.

Nothing here goes through the adapters or the measures: JSON, numpy and scipy only.
"""

import json
from collections import Counter
from math import comb
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from panelbook.measure.claims import AGGREGATES, CONTRADICTED, HOLDS, NOT_RECOMPUTABLE
from panelbook.measure.uncertainty import Resampling
from panelbook.project import Project
from panelbook.publish import ledger
from panelbook.rollouts.adapters import read_published

pytestmark = pytest.mark.published

PARAMS = Project.find().params
VERDICTS = {
    HOLDS: "D1 D2 D3 D7 K1 K2 K7 K8 K9 T6 V1 V2 V5",
    AGGREGATES: "T1 T2 T3 T4 T5 H1",
    CONTRADICTED: "D4 D6 D8 K3 K4 K5 K6 T7 T8 V3 V4 V6 V7 H2 H3 H4 H5 P1 P2 P4",
    NOT_RECOMPUTABLE: "D5 P3",
}
REPORTS = {
    ("math500_s50", "panel"): "eval_math500_vibecheck/math_final_panel",
    ("math500_s50", "thinking"): "eval_math500_vibecheck/thinking_native",
    ("math500_l5", "panel"): "eval_math500_vibecheck/panel_l5_full",
    ("math500_l5", "thinking"): "eval_math500_vibecheck/thinking_l5_full",
    ("aime", "panel"): "eval_aime_vibecheck/aime_panel_postmath_n16",
    ("aime", "thinking"): "eval_aime_vibecheck/aime_thinking_n16",
}


@pytest.fixture(scope="module")
def tried(published_folder):
    claims = ledger.read_claims(PARAMS / "claims.yml")
    trials = ledger.try_claims(claims, read_published(published_folder), Resampling(20260424, 1000))
    return {trial.claim.id: trial for trial in trials}


@pytest.fixture(scope="module")
def value(tried):
    return lambda claim, name: tried[claim].evidence[name].value


@pytest.fixture(scope="module")
def raw(published_folder):
    return Raw(published_folder)


class Raw:
    """The files as they lie there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def json(self, name):
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def lines(self, name):
        return [
            json.loads(line) for line in (self.folder / name).read_text(encoding="utf-8").splitlines() if line
        ]

    def summary(self, benchmark, arm):
        return self.json(f"reports/{REPORTS[benchmark, arm]}/summary.json")

    def rates(self, benchmark, arm):
        """(n, c) of every problem, in the order of the file."""
        return [(p["n_samples"], p["n_correct"]) for p in self.summary(benchmark, arm)["per_problem"]]

    def pass_at(self, benchmark, arm, k):
        return np.mean([1 - comb(n - c, k) / comb(n, k) for n, c in self.rates(benchmark, arm)])

    def gap(self, benchmark, k):
        return self.pass_at(benchmark, "panel", k) - self.pass_at(benchmark, "thinking", k)

    def spread(self, report, label, key="mean_pairwise_dist"):
        return {
            r["uid"]: r[key] for r in self.lines(f"reports/{report}/per_problem.jsonl") if r["label"] == label
        }

    def paired_spread(self, report, first, second, key="mean_pairwise_dist"):
        mine, theirs = self.spread(report, first, key), self.spread(report, second, key)
        shared = sorted(mine.keys() & theirs.keys())
        return np.array([mine[u] for u in shared]), np.array([theirs[u] for u in shared])

    def band(self, arm):
        return {r["uid"]: r for r in self.lines(f"reports/variance_band/{arm}_g8/per_problem.jsonl")}


class TestLedger:
    def test_there_are_41_claims_and_each_has_its_verdict(self, tried):
        found = {trial.claim.id: trial.verdict for trial in tried.values()}
        expected = {name: verdict for verdict, names in VERDICTS.items() for name in names.split()}
        assert len(found) == 41
        assert found == expected

    def test_every_claim_names_files_that_are_pinned(self, tried, published_folder):
        for trial in tried.values():
            for name in trial.claim.files:
                assert (published_folder / name).is_file(), f"{trial.claim.id}: {name}"

    def test_every_number_has_an_interval_or_a_reason(self, tried):
        for trial in tried.values():
            for name, record in trial.records.items():
                assert (record["low"] is not None) or record["reason"], f"{trial.claim.id}: {name}"

    def test_reasons_are_filled_in(self, tried):
        assert all("{" not in trial.why and len(trial.why) > 15 for trial in tried.values())

    def test_the_record_holds(self, published_folder):
        # With the resamples that the record was made with; the values themselves do not depend on them.
        claims = ledger.read_claims(PARAMS / "claims.yml")
        trials = ledger.try_claims(claims, read_published(published_folder), Resampling(20260424))
        assert ledger.find_drift(trials, PARAMS / "claims.lock.json") == []


class TestDiversity:
    REPORTS = (
        ("D1", "diversity_analysis", "panel_postmath", "thinking"),
        ("D2", "diversity_analysis_aime", "panel_aime", "thinking_aime"),
    )

    @pytest.mark.parametrize(("claim", "report", "first", "second"), REPORTS)
    def test_d1_d2_relative_difference(self, value, raw, claim, report, first, second):
        mine, theirs = raw.paired_spread(report, first, second)
        assert value(claim, "relative_difference") == pytest.approx(mine.mean() / theirs.mean() - 1)

    @pytest.mark.parametrize(("name", "row"), [("math500_s50", 0), ("aime", 1)])
    def test_d3_d4_t_and_both_tails(self, value, raw, name, row):
        mine, theirs = raw.paired_spread(*self.REPORTS[row][1:])
        test = stats.ttest_rel(mine, theirs)
        assert value("D3", f"{name}_t") == pytest.approx(test.statistic)
        assert value("D4", f"{name}_p_student") == pytest.approx(test.pvalue)
        assert value("D4", f"{name}_p_normal") == pytest.approx(2 * stats.norm.sf(test.statistic))

    def test_d5_the_two_windows_hold_one_measurement(self, value, raw):
        changes = []
        for label in ("panel_postmath", "thinking"):
            short, long = (
                raw.spread(name, label) for name in ("diversity_analysis", "diversity_analysis_longhead")
            )
            changes += [abs(short[u] - long[u]) for u in short.keys() & long.keys()]
        assert len(changes) == 100
        assert value("D5", "largest_change") == pytest.approx(max(changes))
        assert max(changes) < 1e-6

    def test_d6_spread_per_token_and_per_embedded_character(self, value, raw):
        for name, row in (("math500_s50", 0), ("aime", 1)):
            mine, theirs = raw.paired_spread(*self.REPORTS[row][1:])
            mine_tokens, their_tokens = raw.paired_spread(*self.REPORTS[row][1:], "len_mean")
            per_token = (mine.mean() / mine_tokens.mean()) / (theirs.mean() / their_tokens.mean())
            assert value("D6", f"{name}_ratio_per_token") == pytest.approx(per_token)
            assert value("D6", f"{name}_ratio_embedded") == pytest.approx(mine.mean() / theirs.mean())

    def test_d7_clusters(self, value, raw):
        for claim, report, label in (
            ("math500_s50_panel", "diversity_analysis", "panel_postmath"),
            ("math500_s50_thinking", "diversity_analysis", "thinking"),
            ("aime_panel", "diversity_analysis_aime", "panel_aime"),
            ("aime_thinking", "diversity_analysis_aime", "thinking_aime"),
        ):
            found = list(raw.spread(report, label, "distinct_strategies").values())
            assert value("D7", claim) == pytest.approx(np.mean(found))

    def test_d8_the_bare_prompt_spreads_wider_and_is_less_often_right(self, value, raw):
        mine, bare = raw.paired_spread("diversity_analysis", "panel_postmath", "no_panel_postmath")
        before = raw.paired_spread("diversity_analysis", "panel_postmath", "panel_premath")
        assert value("D8", "minus_no_panel") == pytest.approx(np.mean(mine - bare))
        assert value("D8", "minus_before") == pytest.approx(np.mean(before[0] - before[1]))
        rate = raw.json("reports/eval_math500_vibecheck/math_final_no_panel/summary.json")["avg_hit_rate"]
        panel = raw.summary("math500_s50", "panel")["avg_hit_rate"]
        assert value("D8", "accuracy_minus_no_panel") == pytest.approx(panel - rate)


class TestPassAtK:
    @pytest.mark.parametrize(
        ("claim", "name", "benchmark", "k"),
        [
            ("K1", "closure", "aime", 16),
            ("K2", "math500_s50_closure", "math500_s50", 4),
            ("K2", "math500_l5_closure", "math500_l5", 4),
        ],
    )
    def test_k1_k2_closure(self, value, raw, claim, name, benchmark, k):
        assert value(claim, name) == pytest.approx(raw.gap(benchmark, k) - raw.gap(benchmark, 1))

    def test_k1_at_every_step(self, value, raw):
        gaps = [raw.gap("aime", k) for k in range(1, 17)]
        assert value("K1", "monotone") == (np.diff(gaps) >= 0).all() == 1

    @pytest.mark.parametrize("benchmark", ["math500_s50", "math500_l5", "aime"])
    def test_k3_a_thinned_copy_closes_more(self, tried, raw, benchmark):
        # Chance to fail on k draws of a copy that keeps each right draw with probability s, by the multinomial sum.
        rates = raw.rates(benchmark, "thinking")
        kept = raw.pass_at(benchmark, "panel", 1) / raw.pass_at(benchmark, "thinking", 1)
        k = min(n for arm in ("panel", "thinking") for n, _ in raw.rates(benchmark, arm))
        fails = [
            sum(comb(c, j) * comb(n - c, k - j) / comb(n, k) * (1 - kept) ** j for j in range(k + 1))
            for n, c in rates
        ]
        copy = (1 - np.mean(fails)) - raw.pass_at(benchmark, "thinking", k) - raw.gap(benchmark, 1)
        observed = raw.gap(benchmark, k) - raw.gap(benchmark, 1)
        excess = tried["K3"].evidence[f"{benchmark}_minus_thinned"]
        assert excess.value == pytest.approx(observed - copy, abs=0.01)  # its mean is simulated
        assert excess.high < 0

    @pytest.mark.parametrize(
        ("claim", "name", "benchmark", "arm", "k"),
        [
            ("K4", "thinking_16", "aime", "thinking", 16),
            ("K5", "thinking_1", "math500_l5", "thinking", 1),
            ("K6", "panel_4", "math500_l5", "panel", 4),
            ("K6", "thinking_4", "math500_l5", "thinking", 4),
            ("K8", "aime_panel_1", "aime", "panel", 1),
            ("K8", "aime_thinking_1", "aime", "thinking", 1),
            ("K8", "math500_l5_panel_1", "math500_l5", "panel", 1),
        ],
    )
    def test_k4_k5_k6_k8_pass_at_k(self, value, raw, claim, name, benchmark, arm, k):
        assert value(claim, name) == pytest.approx(raw.pass_at(benchmark, arm, k))

    def test_k6_the_printed_figures_are_those_of_all_levels(self, raw):
        assert (raw.pass_at("math500_s50", "panel", 4), raw.pass_at("math500_s50", "thinking", 4)) == (
            0.9,
            1.0,
        )

    @pytest.mark.parametrize(("claim", "benchmark"), [("K7", "aime"), ("K9", "math500_l5")])
    def test_k7_k9_solved_sets(self, tried, value, raw, claim, benchmark):
        solved = {}
        for arm in ("panel", "thinking"):
            problems = raw.summary(benchmark, arm)["per_problem"]
            key = (
                (lambda p: (p["year"], p["problem_idx"]))
                if benchmark == "aime"
                else (lambda p: p["unique_id"])
            )
            solved[arm] = {key(p) for p in problems if p["n_correct"]}
        n = len(problems)
        panel, thinking = solved["panel"], solved["thinking"]
        expected = {
            "panel": len(panel),
            "thinking": len(thinking),
            "union": len(panel | thinking),
            "panel_only": len(panel - thinking),
            "thinking_only": len(thinking - panel),
            "thinking_never": n - len(thinking),
        }
        for name in set(expected) & set(tried[claim].evidence):
            assert value(claim, name) == expected[name], name


class TestTokens:
    def buckets(self, raw, name):
        return raw.json("reports/token_efficiency/summary.json")[name]

    def test_t1_to_t5_sums(self, value, raw):
        for name, key in (("math", "math500_l5"), ("aime", "aime")):
            report = self.buckets(raw, name)
            both, every = report["buckets"]["both_correct"], report["buckets"]["all_paired"]
            assert value("T1", f"{key}_n_both") == both["n"]
            assert value("T2", f"{key}_median_ratio") == both["ratio_median"]
            assert value("T3", f"{key}_share_longer") == every["thinking_longer_in"] / every["n"]
            w, n = (report["wilcoxon_both_correct"][part] for part in ("statistic", "n_nonzero"))
            z = (w - n * (n + 1) / 4) / np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
            assert value("T4", f"{key}_wilcoxon_p") == pytest.approx(2 * stats.norm.cdf(z))
        report = self.buckets(raw, "math")
        spent = {
            arm: every["n"] * every[f"{arm}_tokens_mean"]
            for every in [report["buckets"]["all_paired"]]
            for arm in ("panel", "think")
        }
        assert value("T5", "math500_l5_panel_cost") == pytest.approx(
            spent["panel"] / report["panel_correct_count"]
        )
        assert value("T5", "math500_l5_thinking_cost") == pytest.approx(
            spent["think"] / report["thinking_correct_count"]
        )

    def test_t6_cost_from_rows(self, value, raw):
        costs = {}
        for arm, label in (("panel", "panel_aime"), ("thinking", "thinking_aime")):
            rows = [
                r
                for r in raw.lines("reports/diversity_analysis_aime/per_problem.jsonl")
                if r["label"] == label
            ]
            costs[arm] = sum(r["n_samples"] * r["len_mean"] for r in rows) / sum(r["n_correct"] for r in rows)
            assert value("T6", arm) == pytest.approx(costs[arm])
        assert value("T6", "ratio") == pytest.approx(costs["thinking"] / costs["panel"])

    def test_t7_limits(self, value, raw):
        for benchmark in ("math500_s50", "math500_l5", "aime"):
            limits = [raw.summary(benchmark, arm)["max_tokens"] for arm in ("thinking", "panel")]
            assert value("T7", benchmark) == limits[0] / limits[1] > 1

    def test_t8_equal_tokens(self, tried, raw):
        for benchmark, report, labels in (
            ("math500_s50", "diversity_analysis", ("panel_postmath", "thinking")),
            ("aime", "diversity_analysis_aime", ("panel_aime", "thinking_aime")),
        ):
            mine, theirs = (np.mean(list(raw.spread(report, label, "len_mean").values())) for label in labels)
            n = raw.rates(benchmark, "panel")[0][0]
            k = min(int(theirs // mine), n)
            difference = tried["T8"].evidence[f"{benchmark}_difference"]
            assert tried["T8"].evidence[f"{benchmark}_k"].value == k
            assert difference.value == pytest.approx(
                raw.pass_at(benchmark, "panel", k) - raw.pass_at(benchmark, "thinking", 1)
            )
            assert difference.low < 0


class TestBands:
    def test_v1_v5_sizes_and_cells(self, tried, value, raw):
        mine, theirs = raw.band("panel"), raw.band("thinking")
        cells = Counter((mine[u]["band"], theirs[u]["band"]) for u in mine)
        for name in tried["V5"].evidence:
            assert value("V5", name) == cells[tuple(name.split("__"))], name
        sizes = [sum(r["band"] == "variance_band" for r in arm.values()) for arm in (mine, theirs)]
        assert [value("V1", "n_panel"), value("V1", "n_thinking")] == sizes == [382, 209]
        assert value("V1", "ratio") == pytest.approx(sizes[0] / sizes[1])

    def test_v2_by_source(self, tried, raw):
        mine, theirs = raw.band("panel"), raw.band("thinking")
        for source in ("aime", "amc", "hmmt", "olympiadbench"):
            inside = [
                np.mean([r["band"] == "variance_band" for r in arm.values() if r["source"] == source])
                for arm in (mine, theirs)
            ]
            assert tried["V2"].evidence[f"in_{source}"].value == pytest.approx(inside[0] - inside[1])
        assert tried["V2"].evidence["in_aime"].high < 0 < tried["V2"].evidence["in_olympiadbench"].low

    def test_v3_weights(self, value, raw):
        filtered = raw.json("reports/variance_band/panel_g8/summary.json")["checkpoint"]
        assert value("V3", "same_weights") == (filtered == raw.summary("aime", "panel")["sampler_path"]) == 0

    def test_v4_v6_shared_problems(self, value, raw):
        pool = {r["uid"] for r in raw.lines("data/olympiad_pool/all.jsonl")}
        band = raw.band("thinking")
        changes = []
        for p in raw.summary("aime", "thinking")["per_problem"]:
            uid = f"aime_{p['year']}__{p['problem_idx']}"
            assert uid in pool
            changes.append(band[uid]["n_correct"] / 8 - p["n_correct"] / p["n_samples"])
        assert value("V4", "difference") == pytest.approx(np.mean(changes))
        assert value("V4", "limit_ratio") == 8192 / raw.summary("aime", "thinking")["max_tokens"]
        assert value("V6", "n_in_pool") == len(changes) == 20
        evaluated = {
            f"aime_{p['year']}__{p['problem_idx']}" for p in raw.summary("aime", "panel")["per_problem"]
        }
        for arm in ("panel", "thinking"):
            train = {r["uid"] for r in raw.lines(f"data/olympiad_pool/{arm}_train.jsonl")}
            assert value("V6", f"n_in_{arm}_train") == len(train & evaluated)

    def test_v7_tags(self, value, raw):
        tags = np.array([0.0, 1.0] * 4)
        rewards = 0.0 + 0.2 * (tags - 1)  # all wrong, half of the tags valid
        assert value("V7", "tag_variance") == pytest.approx(rewards.var())
        batches = raw.lines("reports/olympiad_panel_only/train_per_batch.jsonl")
        assert value("V7", "share_batches") == np.mean([0 < b["tag_valid"] < 1 for b in batches])


class TestClimb:
    def test_h1_h2_gains(self, tried, value, raw):
        ticks = {t["batch"]: t for t in raw.lines("reports/olympiad_panel_only/heldout_trajectory.jsonl")}
        assert value("H1", "gain") == pytest.approx(ticks[90]["heldout_mean"] - ticks[0]["heldout_mean"])
        shares = raw.json("data/olympiad_pool/split_summary.json")["panel_train"]
        departures = []
        for source, n in shares["by_source"].items():
            gain = ticks[90]["by_source"][source] - ticks[0]["by_source"][source]
            assert value("H2", f"{source}_gain") == pytest.approx(gain)
            assert value("H2", f"{source}_share") == pytest.approx(n / shares["n"])
            departures.append(abs(n / shares["n"] - 1 / 4))
        assert value("H2", "largest_departure") == pytest.approx(max(departures))

    def test_h3_h4_training(self, value, raw):
        batches = raw.lines("reports/olympiad_panel_only/train_per_batch.jsonl")
        for column in ("reward", "correct"):
            ends = [np.mean([b[column] for b in part]) for part in (batches[:10], batches[-10:])]
            assert [value("H3", f"{column}_{end}") for end in ("start", "end")] == pytest.approx(ends)
        entropy = [b["entropy"] for b in batches]
        assert value("H3", "entropy_fall_ends") == pytest.approx(1 - entropy[-1] / entropy[0])
        ratio = np.mean(entropy[-10:]) / np.mean(entropy[:10])
        assert value("H3", "entropy_fall_windows") == pytest.approx(1 - ratio)
        assert value("H4", "entropy_ratio") == pytest.approx(ratio)
        spread = [
            r["ac_len_cv_within_group"]
            for r in raw.lines("reports/olympiad_panel_only/diversity_proxy.jsonl")
        ]
        assert [value("H4", f"length_cv_{end}") for end in ("start", "end")] == [spread[0], spread[-1]]

    def test_h5_thinking_on_the_heldout(self, value, raw):
        members = {r["uid"] for r in raw.lines("data/olympiad_pool/heldout_eval.jsonl")}
        rows = [r for r in raw.band("thinking").values() if r["uid"] in members]
        assert len(rows) == 100
        assert value("H5", "thinking") == pytest.approx(np.mean([r["n_correct"] / 8 for r in rows]))


class TestProvenance:
    def test_p1_steps_and_start(self, value, raw):
        log = raw.json("data/multipersona_gsm8k/manifest.json")
        assert value("P1", "last_step") == 128
        assert "batch=128" in log["project_status"]["headline_result"]["checkpoint"]
        assert value("P1", "gsm8k_start") == log["rl_run"]["baseline_step0"]["correct"] == 38 / 128

    def test_p2_adapter_by_listing_its_matrices(self, value):
        hidden, rank = 2048, 32
        attention = [(hidden, 4096), (hidden, 512), (hidden, 512), (4096, hidden)]
        expert = [(hidden, 768), (hidden, 768), (768, hidden)]
        weights = 48 * sum(rank * (m + n) for m, n in attention + 128 * expert)
        assert value("P2", "gigabytes") == pytest.approx(2 * weights / 1e9)
        assert value("P2", "share") == pytest.approx(weights / 30.5e9)

    def test_p4_gallery_model(self, value, raw):
        model = raw.json("reports/case_study/transcripts.json")["metadata"]["thinking_backbone"]
        assert value("P4", "as_stated") == ("2507" in model) == 0
