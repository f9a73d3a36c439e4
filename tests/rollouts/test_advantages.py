"""Advantages: their expected gradient is that of the objective, exactly, by listing every outcome of a group."""

import doctest
import itertools
import math
from fractions import Fraction

import pytest

from panelbook.rollouts import advantages
from panelbook.rollouts.advantages import mean_advantages, pass_at_k_advantages


def expected_gradient(weigh, p, size):
    """Mean of (1/G) sum A_i d log pi(y_i) / d theta over all 2^G outcomes of a policy with p = sigmoid(theta).

    For such a policy d log pi(y) / d theta = y - p.
    """
    total = 0.0
    for outcome in itertools.product((False, True), repeat=size):
        chance = math.prod(p if right else 1 - p for right in outcome)
        terms = zip(weigh(list(outcome)), outcome, strict=True)
        total += chance * sum(advantage * (right - p) for advantage, right in terms) / size
    return total


def pass_at_k_slope(p, k):
    """d/dtheta of 1 - (1 - p)^k."""
    return k * (1 - p) ** (k - 1) * p * (1 - p)


def by_subsets(correct, k):
    """The definition: k (h_i - b_i) (G-1) / G with both means taken over listed subsets, in exact fractions."""
    size = len(correct)
    result = []
    for i in range(size):
        others = [j for j in range(size) if j != i]
        with_i = [any(correct[j] for j in (*rest, i)) for rest in itertools.combinations(others, k - 1)]
        without = [any(correct[j] for j in rest) for rest in itertools.combinations(others, k)]
        gap = Fraction(sum(with_i), len(with_i)) - Fraction(sum(without), len(without))
        result.append(float(gap * k * (size - 1) / size))
    return result


def test_examples_in_docstrings():
    result = doctest.testmod(advantages)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("size", [2, 3, 6])
def test_the_mean_baseline_climbs_the_expected_reward(p, size):
    slope = expected_gradient(lambda outcome: mean_advantages([float(right) for right in outcome]), p, size)
    assert slope == pytest.approx((size - 1) / size * p * (1 - p), rel=1e-12)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("size", "k"), [(2, 1), (3, 2), (6, 1), (6, 2), (6, 4), (6, 5)])
def test_pass_at_k_advantages_climb_pass_at_k(p, size, k):
    slope = expected_gradient(lambda outcome: pass_at_k_advantages(outcome, k), p, size)
    assert slope == pytest.approx((size - 1) / size * pass_at_k_slope(p, k), rel=1e-12)


def test_a_policy_of_three_answers_two_of_them_right():
    """Softmax over three answers: the gradient is exact in every direction, not only along one logit."""
    logits, right, size, k = [0.2, -0.5, 0.7], [True, False, True], 4, 3
    chances = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
    gradient = [0.0] * 3
    for drawn in itertools.product(range(3), repeat=size):
        chance = math.prod(chances[y] for y in drawn)
        weights = pass_at_k_advantages([right[y] for y in drawn], k)
        for j in range(3):
            terms = (a * ((y == j) - chances[j]) for a, y in zip(weights, drawn, strict=True))
            gradient[j] += chance * sum(terms) / size
    wrong = chances[1]
    slopes = [-k * wrong ** (k - 1) * wrong * ((j == 1) - chances[j]) for j in range(3)]
    assert gradient == pytest.approx([(size - 1) / size * slope for slope in slopes], rel=1e-10)


@pytest.mark.parametrize("size", [2, 5, 7])
def test_closed_forms_are_means_over_subsets(size):
    for n_right in range(size + 1):
        correct = [True] * n_right + [False] * (size - n_right)
        for k in range(1, size):
            assert pass_at_k_advantages(correct, k) == pytest.approx(by_subsets(correct, k), abs=1e-14)


@pytest.mark.parametrize("n_right", range(9))
def test_at_k_1_both_are_the_same_numbers(n_right):
    correct = [True] * n_right + [False] * (8 - n_right)
    assert pass_at_k_advantages(correct, 1) == pytest.approx(
        mean_advantages([float(right) for right in correct])
    )


@pytest.mark.parametrize("k", range(1, 8))
def test_they_add_up_to_nothing_and_push_right_draws_up(k):
    for n_right in range(9):
        correct = [True] * n_right + [False] * (8 - n_right)
        weights = pass_at_k_advantages(correct, k)
        assert sum(weights) == pytest.approx(0.0, abs=1e-13)
        assert all(a >= 0 if right else a <= 0 for a, right in zip(weights, correct, strict=True))
        mixed_enough = 0 < n_right <= 8 - k  # else every subset holds a right draw, or none does
        assert any(weights) == mixed_enough


@pytest.mark.parametrize("k", [0, 4, 5])
def test_one_draw_must_be_left_for_the_baseline(k):
    with pytest.raises(ValueError, match=f"between 1 and group_size - 1 = 3.*got {k}"):
        pass_at_k_advantages([True, False, False, True], k)
