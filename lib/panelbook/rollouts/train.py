"""The RL loop: draw groups, grade them, push up what did better than its group; keep everything.

One step: the policy as it is draws G times for each of a few problems; rewards minus their group's mean are
the advantages of the ``importance_sampling`` loss; one Adam step follows. Both arms, every stage and every
engine go through this loop with the same parameters. Two options depart from that: another objective
(`advantages`), and *dynamic sampling* (Yu et al. 2025), which goes on to further problems until enough groups
of the step have something to teach. All draws are kept and paid for, also those of groups that teach nothing.

What a run leaves is written down step by step (`logbook`), and a killed run goes back to its last checkpoint.
Nothing random is carried along (problems are shuffled and draws are seeded by hash, and the metrics tell how far
the visits got), so what follows there is what would have followed.

What is *not* handled: held-out evaluation, which draws from the saved checkpoints (`sample`).

References
----------
Yu, Q. et al. (2025). DAPO: an open-source LLM reinforcement learning system at scale. arXiv:2503.14476.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import tinker

from panelbook.engine.base import SamplingClient, TrainingClient, build_policy_datum
from panelbook.rollouts.ask import ONE_CALL, BudgetReached, CallParams, RenderPrompt, SampleError, ask
from panelbook.rollouts.batch import Group, Sampling, Visit, estimate_kl, measure_batch, visit_problems
from panelbook.rollouts.draw import Answer, Draw, DrawParams, derive_seed, grade_answers
from panelbook.rollouts.logbook import (
    Checkpoint,
    Logbook,
    name_checkpoint,
    read_checkpoints,
    read_metrics,
    read_training_draws,
)
from panelbook.rollouts.store import Record
from panelbook.study.grading import Grader
from panelbook.study.problems import Problem


@dataclass(frozen=True)
class TrainParams:
    """How a policy is trained.

    Parameters
    ----------
    n_steps
        Updates in all. A finished run may be continued by asking for more.
    groups_per_step, group_size
        Problems per step, and draws per problem.
    learning_rate
        Of Adam.
    sampling
        How often sources are visited, see `batch.visit_problems`.
    drop_constant_groups
        Leave groups of equal rewards out of the update. Their gradient is 0 anyway, so this saves time and
        changes nothing, except that a step without any other group is skipped instead of coasting on
        Adam's momentum.
    checkpoint_every
        Steps between checkpoints. The start and the end are always kept.
    kl_draws
        Draws per step on which the divergence from the reference is estimated; 0 for none.
    objective_k
        The k of the pass@k that is trained for, less than `group_size`; 1 is the mean reward.
    max_extra_groups
        Dynamic sampling: the most groups a step draws beyond `groups_per_step`, to have as many as that with
        something to teach; 0 takes the first ones as they are.
    """

    n_steps: int
    groups_per_step: int
    group_size: int
    learning_rate: float
    sampling: Sampling = "round_robin"
    drop_constant_groups: bool = False
    checkpoint_every: int = 10
    kl_draws: int = 0
    objective_k: int = 1
    max_extra_groups: int = 0

    def __post_init__(self) -> None:
        if min(self.n_steps, self.groups_per_step, self.checkpoint_every) < 1 or self.group_size < 2:
            raise ValueError(
                "n_steps, groups_per_step and checkpoint_every must be 1 or more, group_size 2 or more (one "
                f"draw has no advantage over itself); got {self}."
            )
        if self.learning_rate <= 0 or self.kl_draws < 0:
            raise ValueError(f"learning_rate must be above 0 and kl_draws 0 or more; got {self}.")
        if not 1 <= self.objective_k < self.group_size or self.max_extra_groups < 0:
            raise ValueError(
                "objective_k must lie between 1 and group_size - 1, max_extra_groups be 0 or more; got "
                f"objective_k={self.objective_k}, group_size={self.group_size} and "
                f"max_extra_groups={self.max_extra_groups}."
            )

    @property
    def departures(self) -> dict[str, int]:
        """The two options where they are not the default: without them a run is what it was before they were."""
        options = {f.name: f.default for f in fields(self) if f.name in ("objective_k", "max_extra_groups")}
        return {name: getattr(self, name) for name, usual in options.items() if getattr(self, name) != usual}


@dataclass(frozen=True)
class Trained:
    """What a run leaves.

    Parameters
    ----------
    metrics
        One row per step, columns of `batch.measure_batch` and `step`, `tokens_total`, `kl`.
    checkpoints
        In order of steps, the start included.
    visits
        One row per problem of the pool: `problem_id`, `source`, `n_visits`.
    records
        Every rollout seen in training.
    """

    metrics: pd.DataFrame
    checkpoints: list[Checkpoint]
    visits: pd.DataFrame
    records: list[Record]


def train(
    client: TrainingClient,
    problems: Sequence[Problem],
    params: TrainParams,
    draws: DrawParams,
    folder: Path,
    grader: Grader,
    *,
    reference: SamplingClient | None = None,
    calls: CallParams = ONE_CALL,
    render: RenderPrompt | None = None,
    on_step: Callable[[Record], None] = lambda metrics: None,
) -> Trained:
    """Train a policy, or go on from the last checkpoint in `folder`.

    Parameters
    ----------
    client
        The policy at its start, on every call: a fresh adapter, or the state handed on by an earlier stage.
    problems
        The pool, each problem once.
    params
        How it is trained.
    draws
        How it draws; `checkpoint` and `step` are filled in.
    folder
        Where the run is kept, and no other run. It must outlive a failed run, or there is nothing to go on
        from.
    grader
        Marks the answers.
    reference
        Weights from which `kl` is measured; needed if `params.kl_draws` is not 0.
    calls, render
        As in `sample_rollouts`.
    on_step
        Called with the metrics of every finished step.

    Raises
    ------
    TrainError
        If the folder holds a run with other parameters or problems, or one that went further already.
    BudgetReached
        If the budget of `calls` does not pay for the next update; a checkpoint has been taken then.
    SampleError, StoreError
        As in `sample_rollouts`.
    ValueError
        If `kl_draws` is set without a reference, or a pool is empty.
    """
    if params.kl_draws and reference is None:
        raise ValueError(f"kl_draws={params.kl_draws} needs a reference to measure from; got None.")
    visits = plan_visits(problems, params, draws.seed)
    with Logbook(folder, draws.arm, _describe(problems, params, draws)) as logbook:
        start = logbook.resume(client, params.n_steps)
        _skip(visits, _count_groups(folder, start))
        for step in range(start, params.n_steps):
            _check_budget(logbook, client, step, params, draws, calls)
            here = replace(draws, checkpoint=name_checkpoint(step), step=step)
            policy = client.save_weights_and_get_sampling_client()
            groups = _draw_step(policy, visits, params, here, grader, calls, render)
            kl = _measure_kl(groups, reference, params.kl_draws) if reference and params.kl_draws else None
            _update(client, groups, params)
            records = [record for group in groups for record in group.records]
            on_step(logbook.keep(step, records, {**measure_batch(groups), "kl": kl}))
            if (step + 1) % params.checkpoint_every == 0 or step + 1 == params.n_steps:
                logbook.save(client, step + 1)
    made = islice(plan_visits(problems, params, draws.seed), _count_groups(folder, params.n_steps))
    return Trained(
        read_metrics(folder),
        read_checkpoints(folder),
        _count_visits(problems, made),
        read_training_draws(folder),
    )


def _check_budget(
    logbook: Logbook,
    client: TrainingClient,
    step: int,
    params: TrainParams,
    draws: DrawParams,
    calls: CallParams,
) -> None:
    """Stop before an update that the budget may not pay for, with a checkpoint to go on from."""
    most = (params.groups_per_step + params.max_extra_groups) * params.group_size * draws.max_tokens
    if not calls.budget_tokens or logbook.tokens_total + most <= calls.budget_tokens:
        return
    if logbook.saved_step != step:
        logbook.save(client, step)
    raise BudgetReached(logbook.tokens_total, calls.budget_tokens, most, f"update {step + 1}")


def plan_visits(problems: Sequence[Problem], params: TrainParams, seed: int) -> Iterator[Visit]:
    """Return the visits in their order, without end: every step takes as many as it needs.

    Raises
    ------
    ValueError
        If there is no problem, or one occurs twice.
    """
    twice = [name for name, n in Counter(problem.problem_id for problem in problems).items() if n > 1]
    if twice:
        raise ValueError(f"problem {twice[0]!r} is in the pool twice; pass each problem once.")
    return visit_problems(problems, params.sampling, seed)


def _draw_step(
    policy: SamplingClient,
    visits: Iterator[Visit],
    params: TrainParams,
    draws: DrawParams,
    grader: Grader,
    calls: CallParams,
    render: RenderPrompt | None,
) -> list[Group]:
    """Draw the groups of one step, and with dynamic sampling further ones in place of those that teach nothing."""
    groups: list[Group] = []
    n_more, n_left = params.groups_per_step, params.max_extra_groups
    while n_more:
        here = list(islice(visits, n_more))
        groups += _draw_groups(policy, here, params.group_size, draws, grader, calls, render)
        n_short = params.groups_per_step - sum(group.teaches(params.objective_k) for group in groups)
        n_more = min(n_short, n_left)
        n_left -= n_more
    return groups


def _draw_groups(
    policy: SamplingClient,
    visits: Sequence[Visit],
    group_size: int,
    params: DrawParams,
    grader: Grader,
    calls: CallParams,
    render: RenderPrompt | None,
) -> list[Group]:
    """Draw and grade one batch. Sample numbers go on from one visit of a problem to the next."""
    wanted = [
        [
            Draw(
                visit.problem,
                i,
                derive_seed(params.seed, visit.problem.problem_id, params.arm, params.checkpoint, i),
            )
            for i in range(visit.number * group_size, (visit.number + 1) * group_size)
        ]
        for visit in visits
    ]
    done: dict[Draw, tuple[Answer, Record]] = {}
    for answers in ask(policy, [draw for group in wanted for draw in group], params, calls, render):
        for answer, record in zip(answers, grade_answers(answers, params, grader), strict=True):
            done[answer.draw] = answer, record
    return [
        Group(visit, [done[draw][0] for draw in group], [done[draw][1] for draw in group])
        for visit, group in zip(visits, wanted, strict=True)
    ]


def _update(client: TrainingClient, groups: Sequence[Group], params: TrainParams) -> None:
    """Take one step uphill, if there is anything to learn."""
    data = [
        build_policy_datum(answer.prompt, answer.tokens, _logprobs(answer), advantage)
        for group in groups
        if not params.drop_constant_groups or group.teaches(params.objective_k)
        for answer, advantage in zip(group.answers, group.advantages_for(params.objective_k), strict=True)
        if answer.tokens
    ]
    if data:
        gradient = client.forward_backward(data, "importance_sampling")
        step = client.optim_step(tinker.AdamParams(learning_rate=params.learning_rate))
        gradient.result()
        step.result()


def _measure_kl(groups: Sequence[Group], reference: SamplingClient, n_draws: int) -> float:
    """Estimate the divergence from the reference on a few draws, taken from as many groups as possible."""
    answers = [answer for nth in zip(*(group.answers for group in groups), strict=True) for answer in nth][
        :n_draws
    ]
    prompts = [tinker.ModelInput.from_ints([*answer.prompt, *answer.tokens]) for answer in answers]
    ours = [logprob for answer in answers for logprob in _logprobs(answer)]
    theirs = [
        logprob
        for answer, row in zip(answers, reference.compute_logprobs_many(prompts), strict=True)
        for logprob in row[len(answer.prompt) :]
        if logprob is not None
    ]
    return estimate_kl(ours, theirs)


def _logprobs(answer: Answer) -> list[float]:
    if answer.logprobs is None:
        raise SampleError(
            f"the engine gave no log-probabilities for problem {answer.draw.problem.problem_id!r}; "
            "training needs them. Use an engine that returns them with every draw."
        )
    return answer.logprobs


def _describe(problems: Sequence[Problem], params: TrainParams, draws: DrawParams) -> dict[str, Any]:
    """Return what must not change within a run. How long it is and how often it is saved may."""
    pool = json.dumps(sorted([p.problem_id, p.source, p.question, p.gold] for p in problems))
    settings = {**asdict(draws), **asdict(params)}
    free = ("checkpoint", "step", "n_steps", "checkpoint_every", "kl_draws")
    for name in (*free, "objective_k", "max_extra_groups"):
        del settings[name]
    return {**settings, **params.departures, "problems_sha256": hashlib.sha256(pool.encode()).hexdigest()}


def _count_groups(folder: Path, n_steps: int) -> int:
    """Return how many groups the first steps of a run have drawn; their number differs with dynamic sampling."""
    if not n_steps:
        return 0
    return int(read_metrics(folder)["n_groups"].iloc[:n_steps].sum())


def _skip(visits: Iterator[Visit], n_made: int) -> None:
    """Move on to the first visit that is not made yet."""
    next(islice(visits, n_made, n_made), None)


def _count_visits(problems: Sequence[Problem], visits: Iterable[Visit]) -> pd.DataFrame:
    """Return how often each problem of the pool is visited, those never visited included."""
    numbers = Counter(visit.problem.problem_id for visit in visits)
    rows = [(p.problem_id, p.source, numbers[p.problem_id]) for p in problems]
    table = pd.DataFrame(rows, columns=["problem_id", "source", "n_visits"])
    return table.sort_values("problem_id", ignore_index=True)
