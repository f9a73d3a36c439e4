r"""One batch of group-relative RL, on paper: which problems it visits, what it teaches, what it measures.

A *group* is G draws of one problem by one policy. A draw's advantage is its reward minus the mean of its
group, :math:`A_{ij} = r_{ij} - \bar r_i`, without division by the standard deviation (as in the published
study), or what stands for another objective (`advantages`). So a group whose rewards are all equal has nothing
to teach; how many there are is measured twice, by outcome and by total reward, because a group that is all
wrong still teaches tags as long as they vary.

Pure: the engine and the files are `train`'s.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from panelbook.rollouts.advantages import mean_advantages, pass_at_k_advantages
from panelbook.rollouts.draw import Answer
from panelbook.rollouts.store import Record
from panelbook.study.problems import Problem

Sampling = Literal["round_robin", "proportional"]

GOOD_REWARD = 0.5
"""Where every reward of a group is equal, from here on the group is all good (the published cut)."""


@dataclass(frozen=True)
class Visit:
    """One group's place in a run: the `number`-th visit (from 0) to a problem."""

    problem: Problem
    number: int


@dataclass(frozen=True)
class Group:
    """The draws of one visit with their graded rows, in order of `sample_id`."""

    visit: Visit
    answers: list[Answer]
    records: list[Record]

    @property
    def advantages(self) -> list[float]:
        """Reward minus the group's mean, one per draw."""
        return mean_advantages([record["reward"] for record in self.records])

    def advantages_for(self, objective_k: int) -> list[float]:
        """Advantages of a pass@k objective: of pass@k for the outcome, of the mean for the rest of the reward.

        At k = 1 they are `advantages`.
        """
        if objective_k == 1:
            return self.advantages
        correct = [record["status"] == "correct" for record in self.records]
        rest = [record["reward"] - right for record, right in zip(self.records, correct, strict=True)]
        pairs = zip(pass_at_k_advantages(correct, objective_k), mean_advantages(rest), strict=True)
        return [outcome + tags for outcome, tags in pairs]

    def teaches(self, objective_k: int) -> bool:
        """Whether an update towards the objective learns anything from this group."""
        return not self.is_constant and any(self.advantages_for(objective_k))

    @property
    def is_constant(self) -> bool:
        """Whether all rewards are equal, so that all advantages are 0."""
        return len({record["reward"] for record in self.records}) == 1


def visit_problems(problems: Sequence[Problem], sampling: Sampling, seed: int) -> Iterator[Visit]:
    """Yield visits without end.

    Parameters
    ----------
    problems
        The pool. The order does not matter.
    sampling
        ``round_robin``: one problem of each source in turn, so sources are visited equally often however
        many problems they have. ``proportional``: all problems in one shuffled row, so sources are visited
        as often as they have problems.
    seed
        Shuffles. Each pass over a pool is shuffled anew, by hash: no random state is carried along.

    Raises
    ------
    ValueError
        If there is no problem.

    Examples
    --------
    >>> from types import SimpleNamespace as P
    >>> pool = [P(problem_id=f"{s}{i}", source=s) for s, n in (("a", 3), ("b", 1)) for i in range(n)]
    >>> visits = visit_problems(pool, "round_robin", seed=1)
    >>> [(v.problem.source, v.number) for v, _ in zip(visits, range(6))]
    [('a', 0), ('b', 0), ('a', 0), ('b', 1), ('a', 0), ('b', 2)]
    """
    if not problems:
        raise ValueError("there is no problem to train on.")
    pools: dict[str, list[Problem]] = {}
    for problem in problems:
        pools.setdefault(problem.source if sampling == "round_robin" else "", []).append(problem)
    rows = [_cycle(pools[source], seed) for source in sorted(pools)]
    numbers: Counter[str] = Counter()
    while True:
        for row in rows:
            problem = next(row)
            yield Visit(problem, numbers[problem.problem_id])
            numbers[problem.problem_id] += 1


def measure_batch(groups: Sequence[Group]) -> Record:
    """Return the metrics of one batch.

    Returns
    -------
    Means over draws: `reward`, `correct`, `tag_valid`, `truncated` (ended at the token limit), `mean_tokens`.
    Sum over draws: `tokens`. Mean over sampled tokens: `entropy`, the mean negative log-probability of the
    sampled tokens, in nats, which at temperature 1 is an unbiased estimate of the policy's entropy per
    token. Shares of groups: `outcome_all_bad`, `outcome_mixed`, `outcome_all_good` by the number of correct
    draws, and `reward_...` by total reward: mixed where rewards differ, else good from 0.5 on.
    """
    records = [record for group in groups for record in group.records]
    logprobs = [logprob for group in groups for answer in group.answers for logprob in answer.logprobs or ()]
    tokens = sum(record["completion_tokens"] for record in records)
    return {
        "n_groups": len(groups),
        "n_constant": sum(group.is_constant for group in groups),
        "n_draws": len(records),
        "reward": _mean([record["reward"] for record in records]),
        "correct": _mean([record["status"] == "correct" for record in records]),
        "tag_valid": _mean([record["tag_valid"] for record in records]),
        "truncated": _mean([record["stop_reason"] == "length" for record in records]),
        "entropy": -_mean(logprobs),
        "tokens": tokens,
        "mean_tokens": tokens / len(records),
        **_share("outcome", groups, _judge_outcome),
        **_share("reward", groups, _judge_reward),
    }


def estimate_kl(logprobs: Sequence[float], reference_logprobs: Sequence[float]) -> float:
    r"""Estimate the divergence of a policy from its reference, per token, in nats.

    The estimator is *k3* (Schulman 2020, "Approximating KL divergence"): with
    :math:`\rho = \log p_\text{ref}(t) - \log p(t)` at tokens t drawn from the policy,

    .. math:: \widehat{KL}(p \| p_\text{ref}) = \overline{e^{\rho} - 1 - \rho},

    unbiased, and never negative, unlike the plain mean of :math:`-\rho`.

    Parameters
    ----------
    logprobs, reference_logprobs
        Of the same tokens, sampled at temperature 1.

    Examples
    --------
    >>> estimate_kl([-1.0, -1.0], [-1.0, -1.0])
    0.0
    """
    gaps = [theirs - ours for ours, theirs in zip(logprobs, reference_logprobs, strict=True)]
    return _mean([math.expm1(gap) - gap for gap in gaps])


def _cycle(pool: Sequence[Problem], seed: int) -> Iterator[Problem]:
    """Yield every problem once per pass, each pass in an order of its own."""
    for epoch in count():
        yield from sorted(pool, key=lambda problem: _shuffle_key(seed, epoch, problem.problem_id))


def _shuffle_key(seed: int, epoch: int, problem_id: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, epoch, problem_id]).encode()).digest()


def _judge_outcome(group: Group) -> str:
    n_correct = sum(record["status"] == "correct" for record in group.records)
    return {0: "all_bad", len(group.records): "all_good"}.get(n_correct, "mixed")


def _judge_reward(group: Group) -> str:
    if not group.is_constant:
        return "mixed"
    return "all_good" if group.records[0]["reward"] >= GOOD_REWARD else "all_bad"


def _share(prefix: str, groups: Sequence[Group], judge: Callable[[Group], str]) -> dict[str, float]:
    verdicts = Counter(judge(group) for group in groups)
    return {
        f"{prefix}_{verdict}": verdicts[verdict] / len(groups) for verdict in ("all_bad", "mixed", "all_good")
    }


def _mean(values: Sequence[float]) -> float:
    """Mean without rounding on the way; NaN of nothing."""
    return math.fsum(values) / len(values) if values else float("nan")
