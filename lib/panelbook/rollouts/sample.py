"""The sampling loop: problems, an arm and an engine in; graded draws in a shard out.

The loop has no state worth saving. It lists the draws it was asked for, strikes out those that the shards
hold, and asks the engine for the rest; each is in its shard before the next bunch is graded. A killed run
loses the draws in flight, a resumed one repeats none, and both give the same table as an undisturbed one,
because a draw depends on its name alone (`draw`).
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from panelbook.engine.base import SamplingClient
from panelbook.rollouts.ask import ONE_CALL, BudgetReached, CallParams, RenderPrompt, SampleError, ask
from panelbook.rollouts.draw import Draw, DrawParams, derive_seed, grade_answers, name_draw
from panelbook.rollouts.store import Record, Shard, Torn, draw_key, read_draws
from panelbook.study.arms import reward
from panelbook.study.grading import Grader
from panelbook.study.problems import Problem


@dataclass(frozen=True)
class Progress:
    """How far sampling has come.

    Parameters
    ----------
    n_done, n_total
        Draws.
    n_reused
        Of those done, how many were there before.
    n_tokens
        Completion tokens of the new draws.
    elapsed_s
        Seconds since the loop started.
    """

    n_done: int
    n_total: int
    n_reused: int
    n_tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """New completion tokens per second; NaN before the first."""
        return self.n_tokens / self.elapsed_s if self.n_tokens else float("nan")

    @property
    def left_s(self) -> float:
        """Seconds left at the rate so far; NaN before the first new draw."""
        n_new = self.n_done - self.n_reused
        return self.elapsed_s / n_new * (self.n_total - self.n_done) if n_new else float("nan")


@dataclass(frozen=True)
class Sampled:
    """The draws that were asked for, how many were there before, and lines that a kill had cut off."""

    records: list[Record]
    n_reused: int
    torn: list[Torn]


def sample_rollouts(
    client: SamplingClient,
    problems: Sequence[Problem],
    n_samples: int,
    params: DrawParams,
    folder: Path,
    grader: Grader,
    *,
    calls: CallParams = ONE_CALL,
    render: RenderPrompt | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Sampled:
    """Make the draws that the shards in `folder` do not hold yet; return all that were asked for.

    Parameters
    ----------
    client
        Weights to draw from.
    problems
        What is asked, each problem once.
    n_samples
        Draws per problem.
    params
        Whose draws these are, and how they are made.
    folder
        Where the shards lie. It must outlive a failed run, or there is nothing to resume from.
    grader
        Marks the answers.
    calls
        Batches, concurrency and patience.
    render
        Prompt of a problem; the arm's own by default.
    on_progress
        Called at the start and after every bunch of finished draws.

    Raises
    ------
    BudgetReached
        If the budget of `calls` does not pay for the next draw.
    SampleError
        If the engine keeps failing, or a draw in the shards was made with another seed, temperature, limit
        or weight of tags. What is finished stays in the shards.
    StoreError
        If a shard is broken or is being written by another process, or the disk is full.
    ValueError
        If a problem occurs twice.
    """
    wanted = list_draws(problems, n_samples, params)
    started = time.monotonic()
    with Shard(folder / f"{name_shard(params)}.jsonl") as shard:
        kept, torn = read_draws(folder)
        found = _find(wanted, kept, params, folder)
        missing = [draw for draw in wanted if draw not in found]
        n_reused, n_tokens = len(found), 0
        on_progress(Progress(n_reused, len(wanted), n_reused, n_tokens, time.monotonic() - started))
        spent = sum(record["completion_tokens"] for record in found.values())
        while missing:
            now, missing = _afford(missing, spent + n_tokens, params, calls)
            with closing(ask(client, now, params, calls, render)) as bunches:
                for answers in bunches:
                    for answer, record in zip(answers, grade_answers(answers, params, grader), strict=True):
                        shard.append(record)
                        found[answer.draw] = record
                        n_tokens += len(answer.tokens)
                    elapsed_s = time.monotonic() - started
                    on_progress(Progress(len(found), len(wanted), n_reused, n_tokens, elapsed_s))
    return Sampled([found[draw] for draw in wanted], n_reused, [*([shard.torn] if shard.torn else []), *torn])


def _afford(
    missing: list[Draw], spent: int, params: DrawParams, calls: CallParams
) -> tuple[list[Draw], list[Draw]]:
    """Divide draws into those that the budget pays for even at their limit, and the rest."""
    if not calls.budget_tokens:
        return missing, []
    n = max(0, calls.budget_tokens - spent) // params.max_tokens
    if n == 0:
        raise BudgetReached(spent, calls.budget_tokens, params.max_tokens, "the next draw")
    return missing[:n], missing[n:]


def list_draws(problems: Sequence[Problem], n_samples: int, params: DrawParams) -> list[Draw]:
    """List every draw of a run, problem by problem, so that equal prompts meet in a batch.

    Raises
    ------
    ValueError
        If a problem occurs twice.
    """
    seen: set[str] = set()
    for problem in problems:
        if problem.problem_id in seen:
            raise ValueError(f"problem {problem.problem_id!r} is asked twice; pass each problem once.")
        seen.add(problem.problem_id)
    return [
        Draw(
            problem,
            sample_id,
            derive_seed(params.seed, problem.problem_id, params.arm, params.checkpoint, sample_id),
        )
        for problem in problems
        for sample_id in range(n_samples)
    ]


def name_shard(params: DrawParams) -> str:
    """Name the shard of an arm and checkpoint: arms that are sampled side by side do not share one."""
    return re.sub(r"[^\w.-]+", "_", f"{params.arm}-{params.checkpoint}")


def _find(
    wanted: Iterable[Draw], kept: Iterable[Record], params: DrawParams, folder: Path
) -> dict[Draw, Record]:
    """Match the draws that are wanted with those that are there."""
    known = {draw_key(record): record for record in kept}
    found = {draw: known[key] for draw in wanted if (key := name_draw(draw, params)) in known}
    for draw, record in found.items():
        asked = {
            "seed": draw.seed,
            "temperature": params.temperature,
            "max_tokens": params.max_tokens,
            "reward": reward(record["status"] == "correct", record["tag_valid"], params.tag_coef),
        }
        for column, value in asked.items():
            if record[column] != value:
                raise SampleError(
                    f"{folder}: sample {draw.sample_id} of problem {draw.problem.problem_id!r}, arm "
                    f"{params.arm!r}, is kept with {column}={record[column]}; this run asks for {value}. "
                    "Draws of two settings do not mix: use another folder, or remove this one."
                )
    return found
