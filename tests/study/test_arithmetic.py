"""Worked solutions are right where nothing slipped, and the two arms differ in nothing but their frame."""

import random
import re
from collections import Counter
from itertools import islice

import pytest

from panelbook.study import arithmetic
from panelbook.study.arithmetic import (
    FAMILIES,
    LEVELS,
    MINIATURE_ARMS,
    SLIPS,
    WORDS,
    Exercise,
    Scratchpad,
    draw_exercise,
    draw_pool,
    draw_problems,
    draw_solution,
    miniature_prompt,
    read_first_result,
    render_completion,
    stream_documents,
    strip_labels,
)
from panelbook.study.arms import ARMS

KINDS = [(family, level) for family in FAMILIES for level in LEVELS]
# What a frame adds around the attempts.
LABELS = re.compile(r"</?(?:mutipersonaDebate|think)>|Ada :|Ben :|Cy :|Wait , check :|Once more :")


def solutions(n: int, slip_rate: float = arithmetic.SLIP_RATE) -> list[arithmetic.Solution]:
    rng = random.Random(1)
    return [draw_solution(rng, draw_exercise(rng, *rng.choice(KINDS)), slip_rate) for _ in range(n)]


def evaluate(question: str) -> int:
    """Answer a question from its text alone, by Python's own arithmetic."""
    if question.startswith("Mia has"):
        a, b, c = map(int, re.findall(r"\d+", question))
        return a + b * c
    if question.startswith("Mia packs"):
        b, c, a = map(int, re.findall(r"\d+", question))
        return b * c - a
    return int(eval(question.removesuffix(" = ?").replace("mod", "%")))


@pytest.mark.parametrize(("family", "level"), KINDS)
def test_answers_equal_an_independent_reading_of_the_question(family: str, level: int) -> None:
    rng = random.Random(2)
    for _ in range(200):
        exercise = draw_exercise(rng, family, level)
        assert exercise.answer == evaluate(exercise.question) >= 0


@pytest.mark.parametrize(("family", "level"), KINDS)
def test_without_slips_every_strategy_writes_true_steps_that_end_in_the_answer(
    family: str, level: int
) -> None:
    rng = random.Random(3)
    for _ in range(100):
        exercise = draw_exercise(rng, family, level)
        for strategy in FAMILIES[family].strategies:
            pad = Scratchpad(rng, slip_rate=0.0)
            assert strategy(pad, exercise.operands) == exercise.answer
            assert pad.steps
            assert not pad.below_zero
            assert pad.steps[-1].endswith(f" = {exercise.answer}")
            for step in pad.steps:
                said, _, result = step.partition(" = ")
                assert eval(said) == int(result)


def test_hand_worked_strategies() -> None:
    def steps(family: str, *operands: int) -> list[list[str]]:
        pads = [Scratchpad(random.Random(0), 0.0) for _ in FAMILIES[family].strategies]
        for pad, strategy in zip(pads, FAMILIES[family].strategies, strict=True):
            strategy(pad, operands)
        return [pad.steps for pad in pads]

    assert steps("addition", 34, 29) == [
        ["34 + 20 = 54", "54 + 9 = 63"],
        ["34 + 30 = 64", "64 - 1 = 63"],
        ["30 + 20 = 50", "4 + 9 = 13", "50 + 13 = 63"],
    ]
    assert steps("remainder", 85, 7) == [
        ["7 * 12 = 84", "85 - 84 = 1"],
        ["85 - 70 = 15", "15 - 14 = 1"],
        ["7 * 13 = 91", "91 - 85 = 6", "7 - 6 = 1"],
    ]


def test_a_slip_is_off_by_a_known_amount_and_is_carried_on() -> None:
    pad = Scratchpad(random.Random(0), slip_rate=1.0)
    first = pad.add(30, 20)
    second = pad.add(first, 13)
    assert first - 50 in SLIPS
    assert second - (first + 13) in SLIPS
    assert pad.steps == [f"30 + 20 = {first}", f"{first} + 13 = {second}"]


def test_steps_that_say_nothing_are_not_written() -> None:
    pad = Scratchpad(random.Random(0), slip_rate=1.0)
    assert (pad.add(7, 0), pad.add(0, 7), pad.take(7, 0), pad.times(7, 1), pad.times(0, 7)) == (7, 7, 7, 7, 0)
    assert pad.steps == []


def test_slips_come_at_their_rate() -> None:
    rng = random.Random(4)
    pad = Scratchpad(rng, arithmetic.SLIP_RATE)
    n = 20_000
    slipped = sum(pad.add(50, 20) != 70 for _ in range(n))
    assert slipped / n == pytest.approx(arithmetic.SLIP_RATE, abs=4 * (arithmetic.SLIP_RATE / n) ** 0.5)


def test_without_slips_there_is_no_third_attempt_and_no_wrong_answer() -> None:
    for solution in solutions(500, slip_rate=0.0):
        assert len(solution.attempts) == (1 if solution.nodded else 2)
        assert solution.answer == solution.exercise.answer


def test_a_third_attempt_is_made_exactly_on_disagreement() -> None:
    drawn = solutions(3000)
    for solution in drawn:
        results = [attempt.result for attempt in solution.attempts]
        if solution.nodded:
            assert len(results) == 1
        else:
            assert len(results) == (2 if results[0] == results[1] else 3)
        assert solution.answer == results[-1] >= 0
    assert {len(solution.attempts) for solution in drawn} == {1, 2, 3}
    assert any(solution.answer != solution.exercise.answer for solution in drawn)


def test_strategies_differ_within_a_solution_as_long_as_others_are_left() -> None:
    for solution in solutions(2000):
        used = Counter(attempt.strategy for attempt in solution.attempts)
        left = len(FAMILIES[solution.exercise.family].strategies)
        assert len(used) == min(left, len(solution.attempts))


def test_the_arms_differ_in_the_frame_alone() -> None:
    for solution in solutions(2000):
        panel, think = (render_completion(arm, solution) for arm in MINIATURE_ARMS)
        assert panel != think
        assert LABELS.sub("", panel).split() == LABELS.sub("", think).split()


def test_two_attempts_cost_the_same_in_both_arms_and_three_one_token_more() -> None:
    for solution in solutions(2000):
        panel, think = (len(render_completion(arm, solution).split()) for arm in MINIATURE_ARMS)
        assert think - panel == (1 if len(solution.attempts) == 3 else 0)


def test_completions_read_as_the_published_parser_expects() -> None:
    for solution in solutions(300):
        for arm in MINIATURE_ARMS:
            parsed = ARMS[arm].parse(render_completion(arm, solution))
            assert parsed.tag_valid
            assert parsed.answer == str(solution.answer)


def test_prompts_name_the_answerer_after_the_question() -> None:
    assert miniature_prompt("panel", "3 + 4 = ?") == "User : 3 + 4 = ? Panel :"
    assert miniature_prompt("think", "3 + 4 = ?") == "User : 3 + 4 = ? Assistant :"


@pytest.mark.parametrize("arm", ["no_panel", "native", "Panel"])
def test_an_arm_the_miniature_does_not_know_is_refused(arm: str) -> None:
    with pytest.raises(ValueError, match=arm):
        miniature_prompt(arm, "3 + 4 = ?")


def test_vocabulary_is_what_documents_use_no_more_and_no_less() -> None:
    used: set[str] = set()
    for prompt, completion in islice(stream_documents(5), 6000):
        used.update(re.findall(r"\d|[^\s\d]+", f"{prompt} {completion}"))
    assert used == set(WORDS)
    assert len(WORDS) == len(set(WORDS))


def test_no_two_numbers_stand_side_by_side() -> None:
    """Decoding glues neighbouring digits, so the text must never rely on a blank between numbers."""
    for prompt, completion in islice(stream_documents(6), 4000):
        assert not re.search(r"\d \d", f"{prompt} {completion}")


def test_documents_come_in_pairs_of_one_exercise_and_never_show_a_reserved_one() -> None:
    reserved = {exercise.question for exercise in draw_pool(10, seed=0)}
    documents = list(islice(stream_documents(7), 8000))
    for (panel, _), (think, _) in zip(documents[::2], documents[1::2], strict=True):
        assert panel.removesuffix(" Panel :") == think.removesuffix(" Assistant :")
    shown = {prompt.removeprefix("User : ").removesuffix(" Panel :") for prompt, _ in documents[::2]}
    assert len(shown) > 2000
    assert not shown & reserved


def test_documents_follow_from_the_seed() -> None:
    first, again, other = (list(islice(stream_documents(seed), 50)) for seed in (8, 8, 9))
    assert first == again != other


def test_pool_is_reserved_distinct_balanced_and_sorted() -> None:
    pool = draw_pool(6, seed=0)
    ids = [exercise.exercise_id for exercise in pool]
    assert ids == sorted(set(ids))
    assert all(exercise.is_reserved for exercise in pool)
    counts = Counter((exercise.family, exercise.level) for exercise in pool)
    assert set(counts) == set(KINDS)
    assert set(counts.values()) == {6}


def test_a_larger_pool_contains_the_smaller_and_another_seed_another() -> None:
    small, large, other = draw_pool(4, seed=0), draw_pool(9, seed=0), draw_pool(4, seed=1)
    assert set(small) < set(large)
    assert small == draw_pool(4, seed=0) != other


def test_problems_are_the_pool_in_the_shared_schema() -> None:
    problems, pool = draw_problems(2, seed=0), draw_pool(2, seed=0)
    assert [problem.problem_id for problem in problems] == [exercise.exercise_id for exercise in pool]
    for problem in problems:
        assert evaluate(problem.question) == int(problem.gold)
        assert problem.source in FAMILIES
        assert problem.level in {"1", "2", "3"}
        assert (problem.benchmark, problem.answer_type) == ("arithmetic", "int")


def test_too_large_a_pool_says_how_far_it_can_go() -> None:
    with pytest.raises(ValueError, match=r"at level 1 has too few reserved exercises: .* at most \d+"):
        draw_pool(50, seed=0)


@pytest.mark.parametrize(
    ("family", "operands", "swapped"),
    [
        ("addition", (34, 29), (29, 34)),
        ("three_terms", (3, 20, 7), (20, 7, 3)),
        ("product", (12, 5), (5, 12)),
        ("mixed", (0, 3, 9, 2, 5), (0, 9, 3, 5, 2)),
        ("mixed", (0, 4, 3, 6, 2), (0, 2, 6, 3, 4)),
    ],
)
def test_swapped_operands_are_one_exercise(
    family: str, operands: tuple[int, ...], swapped: tuple[int, ...]
) -> None:
    assert Exercise(family, 1, operands).exercise_id == Exercise(family, 1, swapped).exercise_id


def test_operands_that_matter_are_not_swapped() -> None:
    assert Exercise("remainder", 2, (85, 7)).exercise_id == "remainder-85-7"
    assert (
        Exercise("mixed", 1, (1, 5, 6, 2, 3)).exercise_id != Exercise("mixed", 1, (0, 5, 6, 2, 3)).exercise_id
    )


def test_a_fifth_is_reserved() -> None:
    rng = random.Random(10)
    drawn = {
        exercise.exercise_id: exercise
        for exercise in (draw_exercise(rng, *rng.choice(KINDS)) for _ in range(6000))
    }
    share = sum(exercise.is_reserved for exercise in drawn.values()) / len(drawn)
    assert share == pytest.approx(0.2, abs=0.025)


def test_the_first_result_is_read_back_from_worked_solutions():
    """Against the attempts that the text was rendered from."""
    drawn = [(arm, solution) for solution in solutions(3000) for arm in MINIATURE_ARMS]
    read = [
        read_first_result(render_completion(arm, solution)) == str(solution.attempts[0].result)
        for arm, solution in drawn
    ]
    assert sum(read) / len(read) > 0.999


@pytest.mark.parametrize("text", ["", "no tag", "<think> right . </think>", "<think>"])
def test_where_there_is_no_number_there_is_no_first_result(text):
    assert read_first_result(text) is None


def test_without_labels_both_arms_say_the_same():
    for solution in solutions(200):
        panel, think = (
            re.sub(r"</?\w+>", "", strip_labels(arm, render_completion(arm, solution)))
            for arm in MINIATURE_ARMS
        )
        assert panel.split() == think.split()
