"""One draw: its name, its seed, its text and its grade.

A draw is named by arm, checkpoint, problem and sample number, and seeded by that name and the seed of the
run, nothing else. On an engine that draws the same tokens for the same seed whatever the batch, it does not
matter when, with which others or how often a draw is asked for.

What is *not* handled: asking the engine (`ask`), and keeping draws (`store`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from panelbook.engine.base import SampledSequence, StopReason, Tokenizer
from panelbook.rollouts.store import Record
from panelbook.study.arms import ARMS, Parsed, reward
from panelbook.study.grading import Grader
from panelbook.study.problems import Problem
from panelbook.study.vocabulary import ArmName, Status
from panelbook.text import mend


@dataclass(frozen=True)
class DrawParams:
    """Whose draws these are, and how they are made.

    Parameters
    ----------
    study, profile
        Copied to every draw.
    run_id
        Stands for whatever else a draw depends on: weights, problems, prompts, engine. Draws of one run are
        made once and kept; where one of those changes it is another run, see `derive_run_id`.
    arm, checkpoint, step
        The scaffold; the weights that are drawn from, by name and by number of training steps.
    seed
        Of the run; the seed of each draw is derived from it.
    max_tokens
        Limit on the length of a completion, in tokens.
    temperature
        1.0 draws from the model's own distribution.
    tag_coef
        Weight of the tags in the reward, see `panelbook.study.arms.reward`.
    """

    study: str
    profile: str
    run_id: str
    arm: ArmName
    checkpoint: str
    step: int
    seed: int
    max_tokens: int
    temperature: float = 1.0
    tag_coef: float = 0.2

    def __post_init__(self) -> None:
        if self.step < 0 or self.max_tokens < 1 or self.temperature < 0:
            raise ValueError(
                "step and temperature must be 0 or more and max_tokens 1 or more; got "
                f"step={self.step}, temperature={self.temperature}, max_tokens={self.max_tokens}."
            )


@dataclass(frozen=True)
class Draw:
    """One draw to be made."""

    problem: Problem
    sample_id: int
    seed: int


@dataclass(frozen=True)
class Answer:
    """One draw as the engine made it; `completion` has its stop string back."""

    draw: Draw
    prompt: list[int]
    tokens: list[int]
    logprobs: list[float] | None
    stop_reason: StopReason
    completion: str


def derive_seed(run_seed: int, problem_id: str, arm: str, checkpoint: str, sample_id: int) -> int:
    """Return the seed of one draw: the first 31 bits of a SHA-256, which every engine accepts.

    Two draws of one problem share a seed with probability 5e-10; draws of different problems may share one
    without harm.

    Examples
    --------
    >>> derive_seed(1, "addition-29-34", "panel", "base", 0)
    1401453515
    """
    name = json.dumps([run_seed, problem_id, arm, checkpoint, sample_id])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1


def derive_run_id(**parts: object) -> str:
    """Name a run by what it depends on: twelve digits of a SHA-256 of `parts`, whatever their order.

    Parameters
    ----------
    parts
        In JSON's types, such as digests of the weights and of the problems.

    Examples
    --------
    >>> derive_run_id(model="abacus", seed=1)
    '6b03b8e35c62'
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def name_draw(draw: Draw, params: DrawParams) -> tuple[object, ...]:
    """Return the key of a draw, as `store.draw_key` reads it off a record."""
    return (params.run_id, params.arm, params.checkpoint, draw.problem.problem_id, draw.sample_id)


def read_answer(
    draw: Draw, drawn: SampledSequence, prompt: list[int], arm_name: ArmName, tokenizer: Tokenizer
) -> Answer:
    """Turn tokens into text that a file can hold."""
    tokens = list(drawn.tokens)
    text = mend(tokenizer.decode(tokens)).removesuffix(getattr(tokenizer, "eos_token", None) or "")
    logprobs = None if drawn.logprobs is None else list(drawn.logprobs)
    completion = ARMS[arm_name].close(text, drawn.stop_reason)
    return Answer(draw, prompt, tokens, logprobs, drawn.stop_reason, completion)


def grade_answers(answers: Sequence[Answer], params: DrawParams, grader: Grader) -> list[Record]:
    """Parse and grade answers; return one row of the rollouts table each."""
    parsed = [ARMS[params.arm].parse(answer.completion) for answer in answers]
    problems = [answer.draw.problem for answer in answers]
    jobs = [
        (said.answer, asked.gold, asked.answer_type) for said, asked in zip(parsed, problems, strict=True)
    ]
    grades = grader.grade_many(jobs)
    return [
        make_record(answer, params, said, grade.predicted, grade.status)
        for answer, said, grade in zip(answers, parsed, grades, strict=True)
    ]


def make_record(
    answer: Answer, params: DrawParams, said: Parsed, predicted: str | None, status: Status | None
) -> Record:
    """Return one row of the rollouts table; without a status, where no gold answer is known, it has no reward."""
    problem = answer.draw.problem
    return {
        "study": params.study,
        "profile": params.profile,
        "run_id": params.run_id,
        "benchmark": problem.benchmark,
        "problem_id": problem.problem_id,
        "source": problem.source,
        "arm": params.arm,
        "checkpoint": params.checkpoint,
        "step": params.step,
        "sample_id": answer.draw.sample_id,
        "prompt_tokens": len(answer.prompt),
        "completion": answer.completion,
        "completion_tokens": len(answer.tokens),
        "stop_reason": answer.stop_reason,
        "predicted": predicted,
        "status": status,
        "tag_valid": said.tag_valid,
        "reward": None if status is None else reward(status == "correct", said.tag_valid, params.tag_coef),
        "seed": answer.draw.seed,
        "temperature": params.temperature,
        "max_tokens": params.max_tokens,
    }
