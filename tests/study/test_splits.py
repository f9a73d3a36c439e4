"""Splits: near-duplicates by an exact search, overlap, and a held-out line that none of them straddles."""

import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panelbook.study.problems import Problem, read_pool
from panelbook.study.splits import (
    Overlap,
    find_near_duplicates,
    find_overlap,
    shingles,
    split_problems,
    take_round_robin,
)


def make_problem(problem_id, question, source="s"):
    return Problem(problem_id, "b", source, question, "1", "int")


def make_pool(n_per_source=20, sources=("a", "b", "c")):
    words = random.Random(0)
    return [
        make_problem(f"{source}__{i}", " ".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=12)), source)
        for source in sources
        for i in range(n_per_source)
    ]


# Shingles


@pytest.mark.parametrize(
    "other",
    [
        r"compute $\frac{1}{2} + x^2$ for x = 3",
        r"Compute \(\dfrac{1}{2}+x^{2}\)   for $x=3$.",
        r"COMPUTE, $\tfrac 1 2 \, + \left. x ^ 2 \right.$ \quad for x=3!",
    ],
)
def test_looks_do_not_count(other):
    assert shingles(other) == shingles(r"Compute $\frac{1}{2} + x^2$ for $x = 3$.")


@pytest.mark.parametrize(
    "other", ["What is 3 + 5?", "What is 3 - 4?", r"What is \sin 3 + 4?", "What is 4 + 3?"]
)
def test_numbers_signs_functions_and_order_count(other):
    assert shingles(other) != shingles("What is 3 + 4?")


def test_a_short_question_is_one_shingle():
    assert shingles("Why?") == {("why",)}
    assert shingles("") == {()}


# Overlap


def jaccard(a, b):
    return len(a & b) / len(a | b)


@settings(max_examples=200, deadline=None)
@given(
    questions=st.lists(st.text(alphabet="abc ", max_size=24), min_size=1, max_size=8),
    others=st.lists(st.text(alphabet="abc ", max_size=24), min_size=1, max_size=8),
    threshold=st.sampled_from([0.2, 1 / 3, 0.5, 0.7, 0.8, 1.0]),
)
def test_the_search_finds_what_comparing_everything_finds(questions, others, threshold):
    pool = [make_problem(f"p{i}", " ".join(text)) for i, text in enumerate(questions)]
    evaluation = [make_problem(f"e{i}", " ".join(text)) for i, text in enumerate(others)]
    expected = {
        (p.problem_id, e.problem_id): similarity
        for p, e in itertools.product(pool, evaluation)
        if (similarity := jaccard(shingles(p.question), shingles(e.question))) >= threshold
    }
    found = find_overlap(pool, evaluation, threshold)
    assert {(pair.first_id, pair.second_id): pair.similarity for pair in found} == expected


def test_overlap_reports_the_most_similar_first_with_the_pool_on_the_left():
    story = "Ann has 3 apples and buys 4 more at the market today. How many apples has she now?"
    pool = [
        make_problem("p10", story.replace("Ann", "Ben")),
        make_problem("p9", story),
        make_problem("p1", "Why?"),
    ]
    found = find_overlap(pool, [make_problem("e1", story.upper())])
    assert [(pair.first_id, pair.second_id) for pair in found] == [("p9", "e1"), ("p10", "e1")]
    assert found[0] == Overlap("p9", "e1", 1.0)
    assert 0.7 < found[1].similarity < 1


def test_near_duplicates_are_pairs_of_two_problems_each_named_once():
    pool = [
        make_problem("p2", "What is the sum of 3 and 4?"),
        make_problem("p10", "what is the sum of $3$ and $4$"),
    ]
    assert find_near_duplicates(pool) == [Overlap("p2", "p10", 1.0)]
    assert find_near_duplicates(pool[:1]) == []


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1])
def test_a_threshold_outside_its_range_is_an_error(threshold):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        find_overlap([], [], threshold)


# Splits


def test_a_split_holds_out_as_many_of_each_source_and_loses_nothing():
    pool = make_pool()
    split = split_problems(pool, n_heldout_per_source=5, seed=1)
    assert Counter(problem.source for problem in split.heldout) == {"a": 5, "b": 5, "c": 5}
    assert sorted(p.problem_id for p in split.heldout + split.rest) == sorted(p.problem_id for p in pool)


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    pool = make_pool()
    split = split_problems(pool, n_heldout_per_source=5, seed=1)
    assert split_problems(pool[::-1], n_heldout_per_source=5, seed=1) == split
    assert split_problems(pool, n_heldout_per_source=5, seed=2) != split


def test_one_source_does_not_move_the_draw_of_another():
    pool = make_pool()
    whole = split_problems(pool, n_heldout_per_source=5, seed=1)
    part = split_problems([p for p in pool if p.source != "b"], n_heldout_per_source=5, seed=1)
    assert part.heldout == [problem for problem in whole.heldout if problem.source != "b"]


def test_the_hash_seed_of_python_does_not_matter():
    script = (
        "from panelbook.study.problems import Problem\n"
        "from panelbook.study.splits import split_problems, take_round_robin\n"
        "pool = [Problem(f'{s}__{i}', 'b', s, f'{s} {i} {i*i}', '1', 'int') for s in 'abc' for i in range(30)]\n"
        "split = split_problems(pool, n_heldout_per_source=9, seed=20260424)\n"
        "print([p.problem_id for p in split.heldout + take_round_robin(pool, 20, 3)])\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "20260424")
    }
    assert len(printed) == 1


@given(seed=st.integers(0, 10**6), copied=st.sets(st.integers(0, 59), max_size=25))
@settings(max_examples=30, deadline=None)
def test_near_duplicates_never_face_each_other_across_the_line(seed, copied):
    pool = make_pool()
    copies = [
        replace(
            pool[i], problem_id=f"copy__{i}", question=pool[i].question.upper() + ".", source="abc"[i % 3]
        )
        for i in sorted(copied)
    ]
    split = split_problems(pool + copies, n_heldout_per_source=5, seed=seed)
    assert find_overlap(split.heldout, split.rest) == []
    assert find_near_duplicates(split.heldout) == []


def test_too_few_distinct_problems_are_an_error_that_names_the_source():
    pool = [*make_pool(4), make_problem("a__99", "ANY " + make_pool(4)[0].question, "a")]
    with pytest.raises(ValueError, match=r"'a' has 3 problems without a near-duplicate, fewer than the 4"):
        split_problems(pool, n_heldout_per_source=4, seed=1)


# Round-robin


def test_round_robin_takes_one_of_each_source_in_turn_until_sources_run_dry():
    pool = [*make_pool(2, ("a",)), *make_pool(5, ("b", "c"))]
    taken = take_round_robin(pool, 10, seed=1)
    assert "".join(problem.source for problem in taken) == "abcabcbcbc"
    assert len({problem.problem_id for problem in taken}) == 10
    assert take_round_robin(pool[::-1], 10, seed=1) == taken
    assert take_round_robin(pool, 10, seed=2) != taken
    assert take_round_robin(pool, 4, seed=1) == taken[:4]


def test_round_robin_cannot_take_more_than_there_are():
    with pytest.raises(ValueError, match="n=7 problems of 6"):
        take_round_robin(make_pool(2), 7, seed=1)


# The real pool


@pytest.mark.published
def test_the_published_pool_repeats_stems_and_its_published_split_cuts_through_them():
    folder = os.environ.get("PANELBOOK_PUBLISHED")
    path = Path(folder or "/nonexistent") / "data/olympiad_pool"
    if not path.is_dir():
        pytest.skip("needs data/olympiad_pool: set PANELBOOK_PUBLISHED")

    def read(name):
        return read_pool(json.loads(line) for line in (path / name).read_text().splitlines())

    pool = read("all.jsonl")
    assert len(find_near_duplicates(pool, 0.9)) >= 30
    split = split_problems(pool, n_heldout_per_source=25, seed=20260424)
    assert (len(split.heldout), len(split.rest)) == (100, 777)
    assert find_overlap(split.heldout, split.rest) == []
    assert find_overlap(read("heldout_eval.jsonl"), read("panel_train.jsonl"), 0.8) != []
