r"""Small arithmetic in words and digits: what the miniature model is asked, and how it was shown to answer.

Seven families of exercises, each at three levels of operand size, with an integer answer. A worked solution
is a list of *attempts*. An attempt follows one of the family's strategies step by step on a `Scratchpad`,
where each step comes out wrong with probability `SLIP_RATE` and the error is carried on. A second attempt,
by another strategy, may follow; if the two disagree a third is made; the last word is the answer. So some
worked solutions end wrong, and a model trained on them has something left to learn.

Both scaffolds are rendered from the *same* solution. The panel gives each attempt to the next voice; the
monologue checks itself. By construction, then, the documents of both arms agree in exercises, in
strategies and their rates, in slips, in the number of attempts and in every word between the labels. They
differ in the tags, in the labels (``Ada :``, ``Ben :``, ``Cy :`` against nothing, ``Wait , check :``,
``Once more :``) and in the one word of the prompt that names who answers. With one check they are equally
long; with a third attempt the monologue has one token more. Nothing else about the arms is by construction:
accuracy, spread and what reinforcement learning does to them are for the model to show.

The miniature's prompt (`miniature_prompt`) is *not* the published one (`panelbook.study.arms`): a vocabulary
of fifty words cannot spell a paragraph of instructions.

A fifth of all exercises, chosen by a hash, is reserved: worked solutions never use them, pools consist of
nothing else.

Not handled: negative numbers, fractions, division other than remainders.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from panelbook.study.problems import Problem
from panelbook.study.vocabulary import ArmName

Operands = tuple[int, ...]
Level = Literal[1, 2, 3]
LEVELS: tuple[Level, ...] = (1, 2, 3)
# How often worked solutions are of level 1, 2, 3: the easy is practised most, and the hard is left to fail.
PRACTICE = (4, 2, 1)

# Probability that one step of a worked solution comes out wrong.
SLIP_RATE = 0.02
# By how much a slip is off: a miscount, or a forgotten carry.
SLIPS = (-10, -2, -1, 1, 2, 10)
# Probability that the first attempt is waved through instead of checked by another strategy.
NOD_RATE = 0.4
# One exercise in this many is kept for pools and never shown worked out.
RESERVED_ONE_IN = 5


class Scratchpad:
    """Does one step of arithmetic after another and writes it down; now and then a step comes out wrong.

    A slip is carried on: later steps work with the wrong value, as they would on paper.

    Parameters
    ----------
    rng
        Decides which steps slip.
    slip_rate
        Probability of a slip per written step.
    """

    def __init__(self, rng: random.Random, slip_rate: float) -> None:
        self._rng = rng
        self._slip_rate = slip_rate
        self.steps: list[str] = []
        self.below_zero = False

    def add(self, left: int, right: int) -> int:
        """Write ``left + right``; adding zero is not worth writing."""
        return left + right if 0 in (left, right) else self._write(left, "+", right, left + right)

    def take(self, left: int, right: int) -> int:
        """Write ``left - right``; taking zero is not worth writing."""
        return left if right == 0 else self._write(left, "-", right, left - right)

    def times(self, left: int, right: int) -> int:
        """Write ``left * right``; multiplying by zero or one is not worth writing."""
        trivial = min(left, right) <= 1
        return left * right if trivial else self._write(left, "*", right, left * right)

    def _write(self, left: int, sign: str, right: int, exact: int) -> int:
        slip = self._rng.choice(SLIPS) if self._rng.random() < self._slip_rate else 0
        value = exact + slip
        self.steps.append(f"{left} {sign} {right} = {value}")
        self.below_zero |= value < 0
        return value


Strategy = Callable[[Scratchpad, Operands], int]


@dataclass(frozen=True)
class Family:
    """One kind of exercise.

    Parameters
    ----------
    name
        Appears as `source` in every table.
    draw
        Draws operands at a level.
    question
        Renders operands as the text of the question, words and signs separated by blanks.
    answer
        The integer that is right.
    strategies
        Ways to get there, in no order. Without slips each returns `answer`.
    same
        Maps operands to what identifies the exercise; operands that may be swapped are sorted, so that
        ``3 + 4`` and ``4 + 3`` are one exercise and never fall on both sides of a split.
    """

    name: str
    draw: Callable[[random.Random, Level], Operands]
    question: Callable[[Operands], str]
    answer: Callable[[Operands], int]
    strategies: tuple[Strategy, ...]
    same: Callable[[Operands], Operands]


@dataclass(frozen=True)
class Exercise:
    """One question with its answer.

    Examples
    --------
    >>> exercise = Exercise("addition", 2, (34, 29))
    >>> exercise.question, exercise.answer, exercise.exercise_id
    ('34 + 29 = ?', 63, 'addition-29-34')
    """

    family: str
    level: Level
    operands: Operands

    @property
    def question(self) -> str:
        """Text of the question."""
        return FAMILIES[self.family].question(self.operands)

    @property
    def answer(self) -> int:
        """The right answer."""
        return FAMILIES[self.family].answer(self.operands)

    @property
    def exercise_id(self) -> str:
        """Stable id, the same whichever way round operands that may be swapped stand."""
        return "-".join([self.family, *map(str, FAMILIES[self.family].same(self.operands))])

    @property
    def is_reserved(self) -> bool:
        """Whether the exercise belongs to pools (True) or to worked solutions (False)."""
        digest = hashlib.sha256(self.exercise_id.encode()).digest()
        return int.from_bytes(digest[:4], "big") % RESERVED_ONE_IN == 0


@dataclass(frozen=True)
class Attempt:
    """One strategy carried through: its name, the steps as written, and where they led."""

    strategy: str
    steps: tuple[str, ...]
    result: int


@dataclass(frozen=True)
class Solution:
    """One to three attempts at an exercise; `nodded` says that the first was accepted without a second."""

    exercise: Exercise
    attempts: tuple[Attempt, ...]
    nodded: bool

    @property
    def answer(self) -> int:
        """Result of the last attempt: the deciding one where two disagreed."""
        return self.attempts[-1].result


# --- drawing ----------------------------------------------------------------------------------------


def draw_exercise(rng: random.Random, family: str, level: Level) -> Exercise:
    """Draw one exercise of a family at a level, reserved or not."""
    return Exercise(family, level, FAMILIES[family].draw(rng, level))


def draw_problems(n_per_level: int, seed: int) -> list[Problem]:
    """Draw a pool as the benchmark ``arithmetic``: `draw_pool` in the schema that all benchmarks share.

    Examples
    --------
    >>> problem = draw_problems(n_per_level=1, seed=0)[0]
    >>> problem.benchmark, problem.source, problem.answer_type
    ('arithmetic', 'addition', 'int')
    """
    return [
        Problem(
            problem_id=exercise.exercise_id,
            benchmark="arithmetic",
            source=exercise.family,
            question=exercise.question,
            gold=str(exercise.answer),
            answer_type="int",
            level=str(exercise.level),
        )
        for exercise in draw_pool(n_per_level, seed)
    ]


def draw_pool(n_per_level: int, seed: int) -> list[Exercise]:
    """Draw distinct reserved exercises, equally many of every family and level.

    Parameters
    ----------
    n_per_level
        Exercises per family and level; the pool holds 21 times as many.
    seed
        The same seed gives the same pool, and a larger pool contains every smaller one.

    Returns
    -------
    list of Exercise
        Sorted by `exercise_id`.

    Raises
    ------
    ValueError
        If a family has too few reserved exercises at a level.
    """
    pool = [
        exercise
        for family in FAMILIES
        for level in LEVELS
        for exercise in _draw_reserved(family, level, n_per_level, seed)
    ]
    return sorted(pool, key=lambda exercise: exercise.exercise_id)


def draw_solution(rng: random.Random, exercise: Exercise, slip_rate: float = SLIP_RATE) -> Solution:
    """Work an exercise out, with the slips that a hurried worker makes.

    Strategies are taken in random order, each at most once while others are left.
    """
    strategies = FAMILIES[exercise.family].strategies
    order = rng.sample(strategies, len(strategies))
    first = _attempt(rng, exercise, order[0], slip_rate)
    if rng.random() < NOD_RATE:
        return Solution(exercise, (first,), nodded=True)
    second = _attempt(rng, exercise, order[1 % len(order)], slip_rate)
    if second.result == first.result:
        return Solution(exercise, (first, second), nodded=False)
    third = _attempt(rng, exercise, order[2 % len(order)], slip_rate)
    return Solution(exercise, (first, second, third), nodded=False)


def stream_documents(seed: int, slip_rate: float = SLIP_RATE) -> Iterator[tuple[str, str]]:
    """Yield (prompt, completion) for pretraining without end: each solution as panel, then as think.

    Families are equally frequent, levels as in `PRACTICE`; reserved exercises are passed over.
    """
    rng = random.Random(seed)
    while True:
        exercise = draw_exercise(rng, rng.choice(tuple(FAMILIES)), *rng.choices(LEVELS, PRACTICE))
        if exercise.is_reserved:
            continue
        solution = draw_solution(rng, exercise, slip_rate)
        for arm in MINIATURE_ARMS:
            yield miniature_prompt(arm, exercise.question), render_completion(arm, solution)


def _draw_reserved(family: str, level: Level, n: int, seed: int) -> list[Exercise]:
    """Draw until n distinct reserved exercises are found; a generator of its own keeps pools nested."""
    rng = random.Random(f"{seed}/{family}/{level}")
    found: dict[str, Exercise] = {}
    for _ in range(2000 * n):
        if len(found) == n:
            break
        exercise = draw_exercise(rng, family, level)
        if exercise.is_reserved:
            found.setdefault(exercise.exercise_id, exercise)
    if len(found) < n:
        raise ValueError(
            f"family {family!r} at level {level} has too few reserved exercises: found {len(found)}, "
            f"n_per_level={n}. Ask for at most {len(found)}."
        )
    return list(found.values())


def _attempt(rng: random.Random, exercise: Exercise, strategy: Strategy, slip_rate: float) -> Attempt:
    """Carry one strategy through; one that a slip led below zero is torn up and begun again."""
    while True:
        pad = Scratchpad(rng, slip_rate)
        result = strategy(pad, exercise.operands)
        if not pad.below_zero:
            return Attempt(strategy.__name__.lstrip("_"), tuple(pad.steps), result)


# --- rendering --------------------------------------------------------------------------------------

MINIATURE_ARMS: tuple[ArmName, ...] = ("panel", "think")
_ANSWERER: Mapping[str, str] = MappingProxyType({"panel": "Panel", "think": "Assistant"})
_TAG: Mapping[str, str] = MappingProxyType({"panel": "mutipersonaDebate", "think": "think"})
_LABELS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {"panel": ("Ada : ", "Ben : ", "Cy : "), "think": ("", "Wait , check : ", "Once more : ")}
)
_NOD = "right"


def miniature_prompt(arm_name: str, question: str) -> str:
    """Return the miniature's prompt, which stands in for the published one.

    The question comes before the word that tells the arms apart, so both arms read it alike.

    Raises
    ------
    ValueError
        If the miniature does not know the arm.

    Examples
    --------
    >>> miniature_prompt("panel", "34 + 29 = ?")
    'User : 34 + 29 = ? Panel :'
    """
    if arm_name not in _ANSWERER:
        raise ValueError(
            f"the miniature knows the arms {', '.join(MINIATURE_ARMS)}; got arm_name={arm_name!r}. "
            "Choose one of these, or a profile with a larger model."
        )
    return f"User : {question} {_ANSWERER[arm_name]} :"


def render_completion(arm_name: str, solution: Solution) -> str:
    """Return a solution in the words of one arm, from the opening tag to ``</answer>``.

    Examples
    --------
    >>> attempts = (Attempt("jump", ("34 + 20 = 54", "54 + 9 = 63"), 63),)
    >>> render_completion("think", Solution(Exercise("addition", 2, (34, 29)), attempts, nodded=True))
    '<think> 34 + 20 = 54 , 54 + 9 = 63 . Wait , check : right . </think> <answer> 63 </answer>'
    """
    said = [" , ".join(attempt.steps) for attempt in solution.attempts] + [_NOD] * solution.nodded
    turns = [f"{label}{text} ." for label, text in zip(_LABELS[arm_name], said, strict=False)]
    tag = _TAG[arm_name]
    return f"<{tag}> {' '.join(turns)} </{tag}> <answer> {solution.answer} </answer>"


def strip_labels(arm_name: str, text: str) -> str:
    """Return a text of one arm without the labels of its turns: what both arms were taught alike.

    Examples
    --------
    >>> strip_labels("think", "34 + 20 = 54 . Wait , check : right .")
    '34 + 20 = 54 . right .'
    """
    for label in _LABELS[arm_name]:
        text = text.replace(label, "")
    return text


def read_first_result(completion: str) -> str | None:
    """Return the result of a completion's first attempt: the last number of its first turn; None if it has none.

    Wrong where a slip made a step come out as zero and adding that zero was not worth writing: fewer than one
    worked solution in a thousand.

    Examples
    --------
    >>> read_first_result("<think> 34 + 20 = 54 , 54 + 9 = 62 . Wait , check : 34 + 30 = 64 , 64 - 1 = 63 . </think>")
    '62'
    """
    turn = completion.partition(">")[2].partition(" . ")[0]
    numbers = re.findall(r"\d+", turn)
    return numbers[-1] if numbers else None


# --- strategies -------------------------------------------------------------------------------------


def _ten_above(number: int) -> int:
    """Return the next multiple of ten, the number itself included."""
    return -(-number // 10) * 10


def _jump(pad: Scratchpad, operands: Operands) -> int:
    """34 + 29: 34 + 20, then + 9."""
    a, b = operands
    return pad.add(pad.add(a, b - b % 10), b % 10)


def _overshoot(pad: Scratchpad, operands: Operands) -> int:
    """34 + 29: 34 + 30, then - 1."""
    a, b = operands
    return pad.take(pad.add(a, _ten_above(b)), _ten_above(b) - b)


def _split(pad: Scratchpad, operands: Operands) -> int:
    """34 + 29: 30 + 20 and 4 + 9."""
    a, b = operands
    return pad.add(pad.add(a - a % 10, b - b % 10), pad.add(a % 10, b % 10))


def _jump_back(pad: Scratchpad, operands: Operands) -> int:
    """63 - 29: 63 - 20, then - 9."""
    a, b = operands
    return pad.take(pad.take(a, b - b % 10), b % 10)


def _undershoot(pad: Scratchpad, operands: Operands) -> int:
    """63 - 29: 63 - 30, then + 1; straight down where the next ten leaves nothing."""
    a, b = operands
    if _ten_above(b) >= a:
        return pad.take(a, b)
    return pad.add(pad.take(a, _ten_above(b)), _ten_above(b) - b)


def _shift(pad: Scratchpad, operands: Operands) -> int:
    """63 - 29: 60 - 26, both less 3; straight down where that is more than b."""
    a, b = operands
    if b <= a % 10:
        return pad.take(a, b)
    return pad.take(pad.take(a, a % 10), pad.take(b, a % 10))


def _left_to_right(pad: Scratchpad, operands: Operands) -> int:
    a, b, c = operands
    return pad.add(pad.add(a, b), c)


def _ends_first(pad: Scratchpad, operands: Operands) -> int:
    a, b, c = operands
    return pad.add(pad.add(a, c), b)


def _right_to_left(pad: Scratchpad, operands: Operands) -> int:
    a, b, c = operands
    return pad.add(pad.add(b, c), a)


def _tens_first(pad: Scratchpad, operands: Operands) -> int:
    """34 * 7: 30 * 7 and 4 * 7."""
    a, b = operands
    return pad.add(pad.times(a - a % 10, b), pad.times(a % 10, b))


def _units_first(pad: Scratchpad, operands: Operands) -> int:
    """34 * 7: 4 * 7 and 30 * 7."""
    a, b = operands
    return pad.add(pad.times(a % 10, b), pad.times(a - a % 10, b))


def _ten_too_many(pad: Scratchpad, operands: Operands) -> int:
    """34 * 7: 40 * 7 less 6 * 7."""
    a, b = operands
    return pad.take(pad.times(_ten_above(a), b), pad.times(_ten_above(a) - a, b))


def _quotient(pad: Scratchpad, operands: Operands) -> int:
    """85 mod 7: 7 * 12, and what is left."""
    a, b = operands
    return pad.take(a, pad.times(b, a // b))


def _in_chunks(pad: Scratchpad, operands: Operands) -> int:
    """85 mod 7: less 70, less 14."""
    a, b = operands
    tens = a // (10 * b) * 10 * b
    rest = pad.take(a, tens)
    return pad.take(rest, (a - tens) // b * b)


def _one_too_many(pad: Scratchpad, operands: Operands) -> int:
    """85 mod 7: 7 * 13 is 6 too much."""
    a, b = operands
    return pad.take(b, pad.take(pad.times(b, a // b + 1), a))


def _bags_at_once(pad: Scratchpad, operands: Operands) -> int:
    """3 bags of 15 to 12: 3 * 15, then the 12."""
    sells, a, b, c = operands
    bags = pad.times(b, c)
    return pad.take(bags, a) if sells else pad.add(a, bags)


def _bag_by_bag(pad: Scratchpad, operands: Operands) -> int:
    """3 bags of 15 to 12: 15 + 15, + 15, then the 12."""
    sells, a, b, c = operands
    bags = c
    for _ in range(b - 1):
        bags = pad.add(bags, c)
    return pad.take(bags, a) if sells else pad.add(a, bags)


def _last_bag_apart(pad: Scratchpad, operands: Operands) -> int:
    """3 bags of 15 to 12: 2 * 15, then the 12, then the last 15."""
    sells, a, b, c = operands
    bags = pad.times(b - 1, c)
    if sells:
        return pad.take(pad.add(bags, c), a)
    return pad.add(pad.add(a, bags), c)


def _left_product_first(pad: Scratchpad, operands: Operands) -> int:
    minus, a, b, c, d = operands
    left, right = pad.times(a, b), pad.times(c, d)
    return pad.take(left, right) if minus else pad.add(left, right)


def _right_product_first(pad: Scratchpad, operands: Operands) -> int:
    minus, a, b, c, d = operands
    right, left = pad.times(c, d), pad.times(a, b)
    return pad.take(left, right) if minus else pad.add(left, right)


# --- families ---------------------------------------------------------------------------------------


def _draw_addition(rng: random.Random, level: Level) -> Operands:
    low, high, low_b, high_b = {1: (2, 49, 2, 9), 2: (11, 99, 11, 99), 3: (101, 499, 101, 499)}[level]
    return rng.randint(low, high), rng.randint(low_b, high_b)


def _draw_subtraction(rng: random.Random, level: Level) -> Operands:
    a, b = _draw_addition(rng, level)
    return max(a, b), min(a, b)


def _draw_three_terms(rng: random.Random, level: Level) -> Operands:
    low, high = {1: (2, 12), 2: (13, 40), 3: (61, 199)}[level]
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _draw_product(rng: random.Random, level: Level) -> Operands:
    low, high, low_b, high_b = {1: (2, 49, 2, 5), 2: (12, 59, 6, 9), 3: (21, 99, 21, 99)}[level]
    return rng.randint(low, high), rng.randint(low_b, high_b)


def _draw_remainder(rng: random.Random, level: Level) -> Operands:
    low, high, low_b, high_b = {1: (6, 59, 2, 5), 2: (21, 99, 6, 9), 3: (201, 499, 21, 49)}[level]
    return rng.randint(low, high), rng.randint(low_b, high_b)


def _draw_story(rng: random.Random, level: Level) -> Operands:
    """(sells, a, b, c): a figs to begin with or to sell, b bags of c."""
    low, high = {1: (2, 9), 2: (10, 29), 3: (61, 149)}[level]
    b, c = rng.randint(2, 4), rng.randint(low, high)
    sells = rng.randint(0, 1)
    return sells, rng.randint(low, b * c - 1 if sells else high), b, c


def _draw_mixed(rng: random.Random, level: Level) -> Operands:
    """(minus, a, b, c, d): the larger product comes first."""
    low, high, low_b, high_b = {1: (2, 6, 2, 6), 2: (7, 9, 2, 9), 3: (21, 69, 3, 9)}[level]
    pairs = [(rng.randint(low, high), rng.randint(low_b, high_b)) for _ in range(2)]
    (c, d), (a, b) = sorted(pairs, key=lambda pair: pair[0] * pair[1])
    return rng.randint(0, 1), a, b, c, d


def _as_given(operands: Operands) -> Operands:
    return operands


def _sorted(operands: Operands) -> Operands:
    return tuple(sorted(operands))


def _sorted_products(operands: Operands) -> Operands:
    """Factors may be swapped, and so may the summands where the products are equal."""
    minus, a, b, c, d = operands
    left, right = sorted([sorted([a, b]), sorted([c, d])], key=lambda pair: (-pair[0] * pair[1], pair))
    return (minus, *left, *right)


def _ask_story(operands: Operands) -> str:
    sells, a, b, c = operands
    if sells:
        return f"Mia packs {b} bags of {c} figs and sells {a} . How many figs ?"
    return f"Mia has {a} figs and buys {b} bags of {c} . How many figs ?"


def _ask_mixed(operands: Operands) -> str:
    minus, a, b, c, d = operands
    return f"{a} * {b} {'-' if minus else '+'} {c} * {d} = ?"


def _answer_story(operands: Operands) -> int:
    sells, a, b, c = operands
    return b * c - a if sells else a + b * c


def _answer_mixed(operands: Operands) -> int:
    minus, a, b, c, d = operands
    return a * b - c * d if minus else a * b + c * d


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                "addition",
                draw=_draw_addition,
                question=lambda o: f"{o[0]} + {o[1]} = ?",
                answer=sum,
                strategies=(_jump, _overshoot, _split),
                same=_sorted,
            ),
            Family(
                "subtraction",
                draw=_draw_subtraction,
                question=lambda o: f"{o[0]} - {o[1]} = ?",
                answer=lambda o: o[0] - o[1],
                strategies=(_jump_back, _undershoot, _shift),
                same=_as_given,
            ),
            Family(
                "three_terms",
                draw=_draw_three_terms,
                question=lambda o: f"{o[0]} + {o[1]} + {o[2]} = ?",
                answer=sum,
                strategies=(_left_to_right, _ends_first, _right_to_left),
                same=_sorted,
            ),
            Family(
                "product",
                draw=_draw_product,
                question=lambda o: f"{o[0]} * {o[1]} = ?",
                answer=lambda o: o[0] * o[1],
                strategies=(_tens_first, _units_first, _ten_too_many),
                same=_sorted,
            ),
            Family(
                "remainder",
                draw=_draw_remainder,
                question=lambda o: f"{o[0]} mod {o[1]} = ?",
                answer=lambda o: o[0] % o[1],
                strategies=(_quotient, _in_chunks, _one_too_many),
                same=_as_given,
            ),
            Family(
                "story",
                draw=_draw_story,
                question=_ask_story,
                answer=_answer_story,
                strategies=(_bags_at_once, _bag_by_bag, _last_bag_apart),
                same=_as_given,
            ),
            Family(
                "mixed",
                draw=_draw_mixed,
                question=_ask_mixed,
                answer=_answer_mixed,
                strategies=(_left_product_first, _right_product_first),
                same=_sorted_products,
            ),
        )
    }
)

# Every word the miniature reads or writes; numbers are spelled digit by digit.
WORDS: tuple[str, ...] = (
    *"0123456789",
    *"+-*=?,.:",
    "mod",
    *("<mutipersonaDebate>", "</mutipersonaDebate>", "<think>", "</think>", "<answer>", "</answer>"),
    *("User", "Panel", "Assistant"),
    *("Ada", "Ben", "Cy", "Wait", "check", "Once", "more", "right"),
    *("Mia", "has", "packs", "figs", "and", "buys", "sells", "bags", "of", "How", "many"),
)
