"""Measures of variety against closed forms, enumeration by hand and other definitions of the same thing."""

import gzip
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from panelbook.measure.diversity import embedding_variance_trace, mean_pairwise_distance
from panelbook.measure.uncertainty import Resampling
from panelbook.measure.variety import (
    MEASURES,
    Draws,
    compare_measures,
    compression_ratio,
    distinct_ngrams,
    entropy,
    list_pairs,
    measure_variety,
    partition_draws,
    self_bleu,
    vendi_score,
)

RESAMPLING = Resampling(seed=3, n_resamples=400)
ORDERS = (0.5, 1.0, 2.0, 7.0, np.inf)


def vectors(seed: int, n: int = 6, d: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + 0.7


class TestVendi:
    @pytest.mark.parametrize("q", ORDERS)
    @pytest.mark.parametrize("n", [2, 5])
    def test_equal_draws_are_one_and_orthogonal_draws_are_n(self, q, n):
        assert vendi_score(np.tile([0.3, 2.0], (n, 1)), q) == pytest.approx(1.0)
        assert vendi_score(np.diag(np.arange(1.0, n + 1)), q) == pytest.approx(n)

    @pytest.mark.parametrize("q", ORDERS)
    def test_groups_of_equal_draws_are_the_hill_number_of_their_sizes(self, q):
        share = np.array([4, 2, 1]) / 7
        hill = {
            1.0: np.exp(stats.entropy(share)),
            np.inf: 1 / share.max(),
        }.get(q) or (share**q).sum() ** (1 / (1 - q))
        assert vendi_score(np.repeat(np.eye(3), [4, 2, 1], axis=0), q) == pytest.approx(hill)

    @pytest.mark.parametrize("seed", range(4))
    def test_order_two_is_one_over_the_mean_squared_similarity(self, seed):
        x = vectors(seed)
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.product(x, x)]
        assert vendi_score(x, 2.0) == pytest.approx(1 / np.mean(np.square(cosines)))

    @given(seed=st.integers(0, 500), n=st.integers(2, 7))
    def test_falls_with_q_and_stays_in_range(self, seed, n):
        scores = [vendi_score(vectors(seed, n), q) for q in ORDERS]
        assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))
        assert scores[-1] >= 1 - 1e-9
        assert scores[0] <= n + 1e-9

    def test_does_not_depend_on_the_order_of_draws_or_their_lengths(self):
        x = vectors(1)
        assert vendi_score(x[::-1] * 3) == pytest.approx(vendi_score(x))

    @pytest.mark.parametrize("q", [0.0, -1.0, float("nan")])
    def test_an_order_that_is_none_is_refused(self, q):
        with pytest.raises(ValueError, match="order q must be above 0"):
            vendi_score(np.eye(2), q)

    @pytest.mark.parametrize("bad", [[[0, 0], [1, 0]], [[np.nan, 1], [1, 0]], [], [1.0, 2.0]])
    def test_a_draw_without_a_direction_is_refused(self, bad):
        with pytest.raises(ValueError, match="row with a direction"):
            vendi_score(bad)


class TestPartition:
    def test_by_hand(self):
        angles = np.radians([0, 20, 40, 90, 5])
        x = np.column_stack([np.cos(angles), np.sin(angles)])
        # cos 20 = .940, cos 40 = .766: the third is too far from the first, though near the second.
        assert partition_draws(x, 0.07).tolist() == [0, 0, 1, 2, 0]
        assert partition_draws(x, 0.3).tolist() == [0, 0, 0, 1, 0]

    @given(seed=st.integers(0, 200), threshold=st.floats(0, 1))
    def test_every_class_lies_within_the_threshold_of_its_first_and_openers_do_not(self, seed, threshold):
        x = vectors(seed)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        classes = partition_draws(x, threshold)
        openers = [int(np.flatnonzero(classes == c)[0]) for c in range(classes.max() + 1)]
        assert openers == sorted(openers)
        for i, c in enumerate(classes):
            assert 1 - x[i] @ x[openers[c]] <= threshold + 1e-9
        for a, b in itertools.combinations(openers, 2):
            assert 1 - x[a] @ x[b] > threshold

    def test_a_negative_threshold_is_refused(self):
        with pytest.raises(ValueError, match=r"threshold is -0\.1"):
            partition_draws(np.eye(2), -0.1)


class TestEntropy:
    def test_by_hand_and_against_scipy(self):
        assert entropy(["a", "a", "b", "b"]) == pytest.approx(math.log(2))
        assert entropy(["x"] * 3) == 0.0
        labels = list("aabbbbcd")
        assert entropy(labels) == pytest.approx(stats.entropy([2, 4, 1, 1]))

    @given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9))
    def test_at_most_the_logarithm_of_classes_and_of_draws(self, labels):
        assert entropy(labels) <= math.log(len(set(labels))) + 1e-12 <= math.log(len(labels)) + 2e-12

    def test_no_answer_is_an_answer_of_its_own(self):
        assert entropy([None, "4"]) == pytest.approx(math.log(2))


class TestWords:
    def test_distinct_by_hand(self):
        assert distinct_ngrams(["a b a b"], 2) == pytest.approx(2 / 3)
        assert distinct_ngrams(["a b", "a b", "c"], 1) == pytest.approx(3 / 5)
        assert distinct_ngrams(["a", "a"], 2) == 1.0
        with pytest.raises(ValueError, match="n=0"):
            distinct_ngrams(["a"], 0)

    def test_self_bleu_of_equal_texts_is_one_and_of_strangers_zero(self):
        assert self_bleu(["one and two make three"] * 3) == pytest.approx(1.0)
        assert self_bleu(["a b c d", "e f g h"]) == 0.0
        assert self_bleu(["x", "x"]) == pytest.approx(1.0)

    def test_self_bleu_by_hand(self):
        # "a b c" against "a b d e": words 2/3, pairs 1/2, triples none: half of one. Brevity exp(1 - 4/3).
        first = math.exp(1 - 4 / 3) * (2 / 3 * 1 / 2 * 0.5) ** (1 / 3)
        # The other way: words 2/4, pairs 1/3, triples half of 2, fours half of 1. No brevity penalty.
        second = (2 / 4 * 1 / 3 * 0.5 / 2 * 0.5) ** (1 / 4)
        assert self_bleu(["a b c", "a b d e"]) == pytest.approx((first + second) / 2)

    def test_self_bleu_clips_repeated_words_and_takes_the_best_reference(self):
        # "a a a" has one "a" in either reference, so one of three words counts; order 1 only.
        scores = [1 / 3, 1.0 * 0, 1.0]
        texts = ["a a a", "b c d", "a b c"]
        # third: a from the first, b and c from the second; second: b and c of three, its d is nobody's.
        scores[1] = 2 / 3
        assert self_bleu(texts, order=1) == pytest.approx(np.mean(scores))

    def test_self_bleu_takes_the_nearest_reference_for_brevity(self):
        # The nearer reference has two words, not six: exp(1 - 2 / 1).
        value = self_bleu(["a", "a b", "a b c d e f"], order=1)
        expected = [math.exp(-1), 1.0, 2 / 6]
        assert value == pytest.approx(np.mean(expected))

    def test_compression_is_that_of_gzip_but_for_its_frame(self):
        texts = ["7 + 3 = 10 , 40 + 10 = 50"] * 8 + ["something else"]
        joined = "\n".join(texts).encode()
        # gzip's frame is 18 bytes, zlib's 6.
        assert compression_ratio(texts) == pytest.approx(len(joined) / (len(gzip.compress(joined, 9)) - 12))
        assert compression_ratio(texts) > compression_ratio(
            [f"{i * 7919 % 1000} and {i * i}" for i in range(9)]
        )


class TestMeasures:
    DRAWS = Draws(["a b c", "a b d", "a b c", "e f g"], vectors(2, 4), ["4", "4", None, "5"])

    def test_each_is_what_its_definition_says(self):
        found = measure_variety(self.DRAWS)
        x = self.DRAWS.vectors_N_D
        assert list(found) == list(MEASURES)
        assert found["mean_distance"] == mean_pairwise_distance(x)
        assert found["vendi_2"] == vendi_score(x, 2)
        assert found["vendi_inf"] == vendi_score(x, np.inf)
        assert found["n_classes"] == len(set(partition_draws(x).tolist()))
        assert found["class_entropy"] == entropy(partition_draws(x).tolist())
        assert found["distinct_2"] == pytest.approx(5 / 8)
        assert found["n_answers"] == 3
        assert found["answer_entropy"] == pytest.approx(stats.entropy([2, 1, 1]))

    def test_distance_and_variance_trace_are_one_measure(self):
        x = vectors(5, 7)
        assert mean_pairwise_distance(x) == pytest.approx(7 / 6 * embedding_variance_trace(x))

    def test_all_agree_on_which_of_two_extremes_is_varied(self):
        same = Draws(["seven and three is ten"] * 4, np.tile([1.0, 2.0], (4, 1)), ["10"] * 4)
        words = ["seven plus three", "count up slowly", "guess at once", "no idea whatever here"]
        varied = Draws(words, np.eye(4), list("1234"))
        for name, measure in MEASURES.items():
            gain = measure.direction * (measure.function(varied) - measure.function(same))
            assert gain > 0, name

    def test_those_said_to_grow_with_n_do_and_the_others_do_not(self):
        rng = np.random.default_rng(8)
        means = {2: [], 8: []}
        for n, rows in means.items():
            for _ in range(150):
                kinds = rng.integers(0, 4, n)
                x = np.eye(4)[kinds] + 0.3 * rng.normal(size=(n, 4))
                texts = [f"w{k} v{k} common end" for k in kinds]
                rows.append(list(measure_variety(Draws(texts, x, [str(k) for k in kinds])).values()))
        small, large = (np.mean(rows, axis=0) for rows in means.values())
        for (name, measure), a, b in zip(MEASURES.items(), small, large, strict=True):
            assert (abs(a - b) > 0.05) == measure.grows_with_n, name

    def test_equal_draws_are_at_no_distance_at_all(self):
        x = np.tile(np.random.default_rng(0).normal(size=384).astype(np.float32), (4, 1))
        assert mean_pairwise_distance(x * 1.1) < 1e-12
        found = measure_variety(Draws(["a b c"] * 4, x, ["1"] * 4))
        assert found["mean_distance"] == 0.0
        assert (list_pairs(x, [1] * 4, [1] * 4)["distance"] == 0.0).all()

    @pytest.mark.parametrize(
        ("texts", "n_vectors", "n_answers", "message"),
        [
            (["a"], 1, 1, "two draws or more; got 1"),
            (["a", "b"], 3, 2, "2 texts, 3 vectors and 2 answers"),
            (["a", "b"], 2, 1, "2 vectors and 1 answers"),
            (["a", " "], 2, 2, "draw 1 has no text"),
        ],
    )
    def test_incomplete_draws_are_refused(self, texts, n_vectors, n_answers, message):
        with pytest.raises(ValueError, match=message):
            Draws(texts, np.ones((n_vectors, 2)), [None] * n_answers)


class TestCompare:
    def table(self, first, second, n=(4, 4)):
        base = dict.fromkeys(MEASURES, 1.0)
        return pd.DataFrame(
            [
                {"arm": arm, "problem_id": f"p{i}", "n": size, **base, **row}
                for arm, rows, size in (("a", first, n[0]), ("b", second, n[1]))
                for i, row in enumerate(rows)
            ]
        )

    def test_by_hand_with_the_sign_turned_where_less_is_more_varied(self):
        found = compare_measures(
            self.table(
                [{"mean_distance": 0.3, "self_bleu": 0.2}, {"mean_distance": 0.1, "self_bleu": 0.4}],
                [{"mean_distance": 0.1, "self_bleu": 0.5}, {"mean_distance": 0.1, "self_bleu": 0.5}],
            ),
            "a",
            "b",
            RESAMPLING,
        ).set_index("measure")
        assert found.loc["mean_distance", "effect"] == pytest.approx(1.0)
        assert found.loc["mean_distance", "wider"] == pytest.approx(0.75)  # one larger, one tie
        assert found.loc["self_bleu", "effect"] == pytest.approx(0.4)
        assert found.loc["self_bleu", "wider"] == 1.0
        assert found.loc["self_bleu", ["n_problems", "n_draws"]].tolist() == [2, 16]

    def test_a_clear_difference_has_an_interval_above_zero_and_a_draw_has_none(self):
        rng = np.random.default_rng(0)
        rows = [{"mean_distance": d} for d in rng.uniform(0.2, 0.3, 20)]
        other = [{"mean_distance": d} for d in rng.uniform(0.1, 0.15, 20)]
        found = compare_measures(self.table(rows, other), "a", "b", RESAMPLING).set_index("measure")
        assert found.loc["mean_distance", "effect_low"] > 0.5
        assert found.loc["vendi_1", "effect"] == 0.0
        assert np.isnan(found.loc["vendi_1", "effect_low"])
        assert "agree" in found.loc["vendi_1", "effect_reason"]

    def test_a_second_arm_without_any_variety_leaves_the_effect_undefined(self):
        found = compare_measures(
            self.table([{"class_entropy": 0.5}] * 3, [{"class_entropy": 0.0}] * 3), "a", "b", RESAMPLING
        ).set_index("measure")
        assert np.isnan(found.loc["class_entropy", "effect"])
        assert found.loc["class_entropy", "effect_reason"]
        assert found.loc["class_entropy", "wider"] == 1.0

    def test_unequal_numbers_of_draws_and_missing_values_are_refused(self):
        with pytest.raises(ValueError, match=r"'p0' has 4 draws of a and 2 of b.*Take equally many"):
            compare_measures(self.table([{}], [{}], n=(4, 2)), "a", "b", RESAMPLING)
        with pytest.raises(ValueError, match="'vendi_1' must be a finite number"):
            compare_measures(self.table([{"vendi_1": np.nan}], [{}]), "a", "b", RESAMPLING)
        with pytest.raises(ValueError, match="no column 'self_bleu'"):
            compare_measures(self.table([{}], [{}]).drop(columns="self_bleu"), "a", "b", RESAMPLING)


class TestPairs:
    def test_every_pair_once_with_a_mean_that_is_the_mean_distance(self):
        x = vectors(4, 5)
        pairs = list_pairs(x, [1, 0, 1, 1, 0], [10, 20, 30, 40, 50])
        assert [tuple(p) for p in pairs[["i", "j"]].to_numpy()] == list(itertools.combinations(range(5), 2))
        assert pairs["distance"].mean() == pytest.approx(mean_pairwise_distance(x))
        assert pairs["n_correct"].tolist() == [1, 2, 2, 1, 1, 1, 0, 2, 1, 1]
        assert pairs["length"].tolist()[:2] == [15, 20]

    def test_a_grade_too_few_is_refused(self):
        with pytest.raises(ValueError, match="2 vectors, 1 grades and 2 lengths"):
            list_pairs(np.eye(2), [True], [1, 2])
