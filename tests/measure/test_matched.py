"""Matched comparisons, against numbers worked out by hand and against plain loops."""

import numpy as np
import pandas as pd
import pytest

from panelbook.measure.matched import (
    by_seed,
    climb_curve,
    common_tokens,
    compare_at_step,
    compare_at_tokens,
    compare_gains,
    end_entropies,
    paired_gain,
    seed_gap,
)
from panelbook.measure.passk import pass_at_k
from panelbook.measure.uncertainty import Resampling

RESAMPLING = Resampling(seed=1, n_resamples=400)


def run(arm: str, seed: int, tokens: dict[int, int], right: dict[int, list[int]], n: int = 4) -> pd.DataFrame:
    """One training run: tokens by step, and correct draws of n by step and problem."""
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "train_seed": seed,
                "step": step,
                "tokens_total": tokens[step],
                "problem_id": f"p{place}",
                "n": n,
                "c": c,
            }
            for step, counts in right.items()
            for place, c in enumerate(counts)
        ]
    )


@pytest.fixture
def heldout() -> pd.DataFrame:
    return pd.concat(
        [
            run("panel", 1, {0: 0, 10: 100}, {0: [0, 2, 4], 10: [2, 4, 4]}),
            run("panel", 2, {0: 0, 10: 200}, {0: [0, 2, 4], 10: [0, 4, 4]}),
            run("think", 1, {0: 0, 10: 400}, {0: [1, 2, 3], 10: [2, 3, 3]}),
            run("think", 2, {0: 0, 10: 300}, {0: [1, 2, 3], 10: [2, 3, 4]}),
        ],
        ignore_index=True,
    )


def test_curve_averages_seeds_then_problems(heldout: pd.DataFrame) -> None:
    curve = climb_curve(heldout, 1, RESAMPLING).set_index(["arm", "step"])
    assert curve.loc[("panel", 0), "estimate"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert curve.loc[("panel", 10), "estimate"] == pytest.approx((0.25 + 1 + 1) / 3)
    assert curve.loc[("panel", 10), "tokens_total"] == 150
    assert curve.loc[("panel", 10), "n_draws"] == 24
    assert (curve["low"] <= curve["estimate"]).all()
    assert (curve["estimate"] <= curve["high"]).all()


def test_pass_at_k_is_that_of_each_run(heldout: pd.DataFrame) -> None:
    curve = climb_curve(heldout, 2, RESAMPLING).set_index(["arm", "step"])
    expected = np.mean([(pass_at_k(4, a, 2) + pass_at_k(4, b, 2)) / 2 for a, b in ((2, 2), (3, 3), (3, 4))])
    assert curve.loc[("think", 10), "estimate"] == pytest.approx(expected)


def test_gain_and_differences_by_hand(heldout: pd.DataFrame) -> None:
    assert paired_gain(heldout, "panel", 0, 10, 1, RESAMPLING).value == pytest.approx(0.75 / 3)
    assert paired_gain(heldout, "think", 0, 10, 1, RESAMPLING).value == pytest.approx(
        (0.25 + 0.25 + 0.125) / 3
    )
    assert compare_at_step(heldout, "panel", "think", 10, 1, RESAMPLING).value == pytest.approx(
        (2.25 - (0.5 + 0.75 + 0.875)) / 3
    )
    assert compare_gains(heldout, "panel", "think", 0, 10, 1, RESAMPLING).value == pytest.approx(
        (0.75 - 0.625) / 3
    )


def test_a_gain_shared_by_all_problems_has_a_narrower_interval_than_its_ends() -> None:
    """Pairing pays: between-problem differences cancel."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, 6, 60)
    table = run("panel", 1, {0: 0, 5: 50}, {0: start.tolist(), 5: (start + 2).tolist()}, n=8)
    gain = paired_gain(table, "panel", 0, 5, 1, RESAMPLING)
    assert gain.value == pytest.approx(0.25)
    curve = climb_curve(table, 1, RESAMPLING)
    assert gain.high - gain.low < (curve["high"] - curve["low"]).min()


def test_equal_tokens_interpolates_every_run(heldout: pd.DataFrame) -> None:
    assert common_tokens(heldout) == 100
    at = compare_at_tokens(heldout, "panel", "think", 100, 1, RESAMPLING).value
    panel = np.mean([[0.5, 1, 1], [0, 0.5 + 0.5 * 0.5, 1]], axis=0)
    think = np.mean(
        [
            [0.25 + 0.25 * 0.25, 0.5 + 0.25 * 0.25, 0.75],
            [0.25 + 0.25 / 3, 0.5 + 0.25 / 3, 0.75 + 0.25 / 3],
        ],
        axis=0,
    )
    assert at == pytest.approx(np.mean(panel - think))


def test_equal_tokens_at_nothing_and_at_a_checkpoint_are_those_checkpoints(heldout: pd.DataFrame) -> None:
    at_start = compare_at_step(heldout, "panel", "think", 0, 1, RESAMPLING).value
    assert compare_at_tokens(heldout, "panel", "think", 0, 1, RESAMPLING).value == pytest.approx(at_start)
    even = heldout.assign(tokens_total=heldout["step"] * 10)
    at_end = compare_at_step(heldout, "panel", "think", 10, 1, RESAMPLING).value
    assert compare_at_tokens(even, "panel", "think", 100, 1, RESAMPLING).value == pytest.approx(at_end)


def test_by_seed_lists_every_run(heldout: pd.DataFrame) -> None:
    table = by_seed(heldout, 1)
    assert table.loc[10, ("panel", 2)] == pytest.approx(2 / 3)
    assert table.shape == (2, 4)


def test_order_of_rows_does_not_matter(heldout: pd.DataFrame) -> None:
    shuffled = heldout.sample(frac=1, random_state=3)
    assert compare_at_tokens(shuffled, "panel", "think", 90, 1, RESAMPLING) == compare_at_tokens(
        heldout, "panel", "think", 90, 1, RESAMPLING
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.iloc[1:], "arm 'panel', seed 1, step 0 was evaluated on 2 rows of 2 problems"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "each once"),
        (lambda table: table.drop(columns="tokens_total"), "has no column 'tokens_total'"),
    ],
)
def test_incomplete_tables_are_refused(heldout: pd.DataFrame, spoil, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        climb_curve(spoil(heldout), 1, RESAMPLING)


def test_steps_and_tokens_out_of_reach_are_named(heldout: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"step 7; there are \[0, 10\]"):
        paired_gain(heldout, "panel", 0, 7, 1, RESAMPLING)
    with pytest.raises(ValueError, match="seed 1 has spent 100 tokens, fewer than tokens=150"):
        compare_at_tokens(heldout, "panel", "think", 150, 1, RESAMPLING)
    with pytest.raises(ValueError, match="k=5"):
        climb_curve(heldout, 5, RESAMPLING)


def test_the_gap_of_seeds_is_the_larger_of_the_arms(heldout: pd.DataFrame) -> None:
    accuracy = {
        arm: [
            sum(row.c / row.n for row in rows.itertuples()) / len(rows)
            for _, rows in heldout[(heldout["arm"] == arm) & (heldout["step"] == 10)].groupby("train_seed")
        ]
        for arm in ("panel", "think")
    }
    by_hand = {arm: max(values) - min(values) for arm, values in accuracy.items()}
    assert by_hand == pytest.approx({"panel": 2 / 12, "think": 1 / 12})
    assert seed_gap(heldout, 10, 1) == pytest.approx(2 / 12)
    assert seed_gap(heldout, 0, 1) == 0  # the same weights
    assert seed_gap(heldout[heldout["train_seed"] == 1], 10, 1) == 0
    with pytest.raises(ValueError, match=r"no run was evaluated at step=5; there are \[0, 10\]"):
        seed_gap(heldout, 5, 1)


def test_entropy_of_the_ends_is_averaged_over_seeds_whatever_the_order_of_rows() -> None:
    runs = {
        ("panel", 1): [0.9, 0.5, 0.3],
        ("panel", 2): [0.7, 0.6, 0.5],
        ("think", 1): [0.4, 0.2],
    }
    metrics = pd.DataFrame(
        [
            {"arm": arm, "train_seed": seed, "step": step, "entropy": value}
            for (arm, seed), values in runs.items()
            for step, value in enumerate(values, 1)
        ]
    )
    for shuffled in (metrics, metrics.sample(frac=1, random_state=0)):
        found = end_entropies(shuffled)
        assert found.loc["panel"].to_dict() == pytest.approx({"first": 0.8, "last": 0.4})
        assert found.loc["think"].to_dict() == pytest.approx({"first": 0.4, "last": 0.2})
    with pytest.raises(ValueError, match="entropy"):
        end_entropies(metrics.drop(columns="entropy"))
