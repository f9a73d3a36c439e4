r"""Advantages: how much more, or less, likely each draw of a group is made.

A policy-gradient step moves along :math:`\frac{1}{G} \sum_i A_i \nabla \log \pi(y_i)`. The advantages
:math:`A_i` decide whose gradient that is on average: the expected reward's (`mean_advantages`), or the chance
that at least one of k draws is correct (`pass_at_k_advantages`).

Notation: G draws in a group, c of them correct, k of pass@k.

Both come out :math:`(G-1)/G` times as long as the gradient they stand for, and at k = 1 they are the same
numbers, so that a learning rate means the same for either.

Not handled: division by the group's standard deviation, and objectives that weigh problems (annealing k).

References
----------
Shao, Z. et al. (2024). DeepSeekMath. arXiv:2402.03300 (group-relative advantages).
Walder, C. and Karkhanis, D. (2025). Pass@K policy optimization: solving harder reinforcement learning
problems. NeurIPS, arXiv:2505.15201.
Tang, Y., Zheng, K., Synnaeve, G. and Munos, R. (2025). Optimizing language models for inference time
objectives using reinforcement learning. ICML, arXiv:2503.19595.
"""

import math
from collections.abc import Sequence


def mean_advantages(rewards: Sequence[float]) -> list[float]:
    r"""Reward minus the group's mean, one per draw.

    The mean includes the draw itself, so :math:`A_i = \frac{G-1}{G} (r_i - \bar r_{-i})` with the mean of the
    *other* draws as a baseline. That baseline does not depend on draw i, which leaves the expectation at
    :math:`\frac{G-1}{G} \nabla E[r]` (Shao et al. 2024, without their division by the standard deviation).

    Parameters
    ----------
    rewards
        Of the G draws of one group.

    Examples
    --------
    >>> mean_advantages([1.0, 0.0, 0.0, 1.0])
    [0.5, -0.5, -0.5, 0.5]
    """
    mean = math.fsum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def pass_at_k_advantages(correct: Sequence[bool], k: int) -> list[float]:
    r"""Advantages whose expected gradient is that of pass@k.

    Parameters
    ----------
    correct
        Which of the G draws are correct.
    k
        From 1 to G - 1.

    Raises
    ------
    ValueError
        If k is out of range.

    Notes
    -----
    Let :math:`f(S) = 1` if a draw of S is correct. For k draws S, :math:`\nabla\,\text{pass@}k =
    E[f(S) \sum_{i \in S} \nabla \log \pi(y_i)]`. Averaged over the :math:`\binom{G}{k}` subsets of a group, the
    weight of draw i is :math:`\frac{k}{G} h_i`, where :math:`h_i` is the mean of f over the subsets that hold i
    (Walder and Karkhanis 2025). The mean :math:`b_i` of f over the k-subsets of the *other* draws does not
    depend on draw i, so it can be taken off without moving the expectation: their leave-one-out baseline, for
    which one draw must be left over, :math:`k < G`. Counting subsets,

    .. math::

        h_i = 1, \quad b_i = 1 - \binom{G-c}{k} \Big/ \binom{G-1}{k} \qquad \text{for a correct draw,}

        h_i = 1 - \binom{G-1-c}{k-1} \Big/ \binom{G-1}{k-1}, \quad
        b_i = 1 - \binom{G-1-c}{k} \Big/ \binom{G-1}{k} \qquad \text{for a wrong one,}

    and :math:`A_i = \frac{G-1}{G} k (h_i - b_i)`. They add up to 0. With more than G - k correct draws every
    subset holds one, and nothing is left to learn: the objective spends its signal on hard problems.

    Examples
    --------
    >>> pass_at_k_advantages([True, False, False, True], k=1)
    [0.5, -0.5, -0.5, 0.5]
    >>> pass_at_k_advantages([True, False, False, False], k=2)  # the others alone pass never
    [1.5, -0.5, -0.5, -0.5]
    >>> pass_at_k_advantages([True, True, True, False], k=2)  # the others alone pass always
    [0.0, 0.0, 0.0, 0.0]
    """
    size, n_wrong = len(correct), sum(not each for each in correct)
    if not 1 <= k < size:
        raise ValueError(
            f"k of a pass@k objective must lie between 1 and group_size - 1 = {size - 1}, since one draw is left "
            f"out for the baseline; got {k}. Lower k or draw larger groups."
        )
    scale = k * (size - 1) / size
    all_subsets, with_one = math.comb(size - 1, k), math.comb(size - 1, k - 1)
    if_correct = math.comb(n_wrong, k) / all_subsets
    if_wrong = (
        math.comb(n_wrong - 1, k) / all_subsets - math.comb(n_wrong - 1, k - 1) / with_one if n_wrong else 0.0
    )
    return [scale * (if_correct if each else if_wrong) for each in correct]
