"""Demonstrations: worked solutions that show a model both scaffolds at once.

A small model that has never seen `<mutipersonaDebate>` does not begin to use it because a prompt asks for it, and
a policy that never keeps to its scaffold has nothing to be rewarded for. So a warm-up shows it both frames, under
one rule: *the two arms are shown the same sentences*. A demonstration is a word problem of SVAMP (Patel et al. 2021)
solved aloud: what is asked, now and then a wrong operation and its withdrawal, the right one, a check, the answer. The
monologue has one sentence a line; in the panel the lines are turns, with a label in front of each. What differs is
the frame, the tags and the labels, nothing else.

Questions are SVAMP's, numbers and operation are those of the dataset's equation, the sentences around them are
written by rule. So what a model takes from them is a manner of arguing, not a proof that arguing helps.

Not handled: problems of more than one operation, which are left out.

References
----------
Patel, A., Bhattamishra, S. and Goyal, N. (2021). Are NLP models really able to solve simple math word problems?
NAACL 2021.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from panelbook.study.arms import ARMS
from panelbook.study.problems import Problem, load, read_table

FramedArm = Literal["panel", "think"]
"""Arms whose frame has reasoning tags of its own."""

DOUBT_RATE = 1 / 3
"""Share of demonstrations in which a wrong operation is proposed first."""

_EQUATION = re.compile(r"\( (\d+)\.0 ([-+*/]) (\d+)\.0 \)")
_VERBS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
_INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}
_TURNS = ("Solver", "Skeptic")
_CHECK, _LAST = "Checker", "Moderator"


@dataclass(frozen=True)
class Demonstration:
    """One worked solution, not yet in a frame.

    Parameters
    ----------
    problem
        What it solves.
    steps
        Sentences in their order, the check and the conclusion last.
    """

    problem: Problem
    steps: tuple[str, ...]

    def render(self, arm: FramedArm) -> str:
        """Return the completion that an arm is shown.

        Examples
        --------
        >>> problem = Problem("q", "svamp", "svamp", "Ann has 2 figs and gets 3. How many now?", "5", "gsm8k")
        >>> shown = Demonstration(problem, ("We add: 2 + 3 = 5.", "Let me check: 5 - 3 = 2.", "So the answer is 5."))
        >>> print(shown.render("panel"))
        <mutipersonaDebate>
        Solver: We add: 2 + 3 = 5.
        Checker: Let me check: 5 - 3 = 2.
        Moderator: So the answer is 5.
        </mutipersonaDebate> <answer>5</answer>
        """
        frame = ARMS[arm]
        lines = list(self.steps)
        if arm == "panel":
            turns = [_TURNS[i % len(_TURNS)] for i in range(len(lines) - 2)]
            lines = [f"{who}: {line}" for who, line in zip([*turns, _CHECK, _LAST], lines, strict=True)]
        said = "\n".join(lines)
        return f"{frame.open_tag}\n{said}\n{frame.close_tag} <answer>{self.problem.gold}</answer>"


def load_demonstrations(n: int, seed: int, *, without: Iterable[str] = ()) -> list[Demonstration]:
    """Solve `n` problems of SVAMP aloud, in shuffled order.

    Parameters
    ----------
    n
        How many.
    seed
        Shuffles, and decides where a wrong operation comes first.
    without
        Ids of problems that are asked elsewhere and must not be shown.

    Raises
    ------
    ValueError
        If there are fewer than `n`.
    DatasetMissingError
        If SVAMP is not to be had.
    """
    rng = random.Random(seed)
    hidden = set(without)
    solved = []
    for problem, row in zip(_in_file_order(load("svamp")), read_table("svamp/test"), strict=True):
        steps = solve_aloud(rng, row)
        if steps and problem.problem_id not in hidden:
            solved.append(Demonstration(problem, steps))
    if len(solved) < n:
        raise ValueError(f"SVAMP has {len(solved)} problems of one operation to show; {n} are asked for.")
    rng.shuffle(solved)
    return solved[:n]


def solve_aloud(rng: random.Random, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the solution of one row of SVAMP; empty where it takes more than one operation.

    Examples
    --------
    >>> row = {"Question": "How many are left?", "Equation": "( 8.0 - 5.0 )", "Answer": 3.0}
    >>> solve_aloud(random.Random(1), row)[1:]
    ('I would add: 8 + 5 = 13.', 'No, that does not answer the question.', 'We subtract: 8 - 5 = 3.', \
'Let me check: 3 + 5 = 8.', 'So the answer is 3.')
    """
    match = _EQUATION.fullmatch(row["Equation"].replace("\\/", "/").strip())
    if match is None:
        return ()
    left, sign, right = int(match[1]), match[2], int(match[3])
    result = _compute(left, sign, right)
    if result is None or float(result) != float(row["Answer"]):
        return ()
    steps = [f"We are asked: {row['Question'].strip()}"]
    wrong = [
        other for other in _VERBS if other != sign and _compute(left, other, right) not in (None, result)
    ]
    if wrong and rng.random() < DOUBT_RATE:
        other = rng.choice(wrong)
        steps.append(f"I would {_VERBS[other]}: {left} {other} {right} = {_compute(left, other, right)}.")
        steps.append("No, that does not answer the question.")
    steps.append(f"We {_VERBS[sign]}: {left} {sign} {right} = {result}.")
    steps.append(f"Let me check: {result} {_INVERSE[sign]} {right} = {left}.")
    steps.append(f"So the answer is {result}.")
    return tuple(steps)


def _compute(left: int, sign: str, right: int) -> int | None:
    """Return the result where it is a whole number and not negative."""
    if sign == "/" and not right:
        return None
    value = {
        "+": lambda: Fraction(left + right),
        "-": lambda: Fraction(left - right),
        "*": lambda: Fraction(left * right),
        "/": lambda: Fraction(left, right),
    }[sign]()
    return int(value) if value.denominator == 1 and value >= 0 else None


def _in_file_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sort by the row that an id names."""
    return sorted(problems, key=lambda problem: int(problem.problem_id.rpartition("__")[2]))
