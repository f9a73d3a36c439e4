"""Problems: loaders against rows in the hub's columns, stable ids, canonical golds, published slices."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from panelbook.study.grading import Grade, read_number
from panelbook.study.problems import (
    SUBJECTS,
    DatasetMissingError,
    Problem,
    canonicalise_gold,
    grade_golds,
    load,
    natural_key,
    order,
    read_gsm8k_gold,
    read_pool,
    read_problems,
    write_problems,
)


def write_table(folder, table, rows):
    path = folder / f"{table}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def no_hub(monkeypatch):
    """Refuse the hub at once; the real one is asked five times, with pauses."""
    import datasets

    real = datasets.load_dataset

    def load_dataset(path, *args, **options):
        if path != "json":
            raise ConnectionError(f"no hub: {path}")
        return real(path, *args, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def math_row(problem, answer, level=3):
    return {
        "problem": problem,
        "level": f"Level {level}",
        "type": "x",
        "solution": rf"It is $\boxed{{{answer}}}$.",
    }


# Loaders


def test_gsm8k_takes_the_gold_after_the_marks(tmp_path):
    write_table(tmp_path, "gsm8k/train", [{"question": "How many?", "answer": "10*130=1300\n#### 1,300"}])
    assert load("gsm8k_train", folder=tmp_path) == [
        Problem("gsm8k_train__0", "gsm8k_train", "gsm8k", "How many?", "1300", "gsm8k", None)
    ]


def test_math_keeps_row_numbers_and_drops_rows_without_a_box(tmp_path):
    for subject in SUBJECTS:
        write_table(tmp_path, f"math_{subject}/train", [math_row(f"{subject} 0", r"\frac{1}{2}", 5)])
    lost = {**math_row("no box", ""), "solution": "It is 4."}
    write_table(tmp_path, "math_algebra/train", [lost, math_row("kept", "4", 1)])
    problems = load("math_train", folder=tmp_path)
    assert [problem.source for problem in problems] == sorted(SUBJECTS)
    assert problems[0] == Problem("math_train_algebra__1", "math", "algebra", "kept", "4", "int", "1")
    assert problems[1].gold == r"\frac{1}{2}"


def test_math_heldout_leaves_out_math500_whatever_the_spacing(tmp_path):
    for subject in SUBJECTS:
        write_table(tmp_path, f"math_{subject}/test", [math_row(f"What is {subject}?", "4")])
    row = {"problem": "What  is\ngeometry?", "answer": "4", "subject": "Geometry", "level": 3}
    write_table(tmp_path, "math500/test", [{**row, "unique_id": "test/geometry/7.json"}])
    sources = {problem.source for problem in load("math_heldout", folder=tmp_path)}
    assert sources == set(SUBJECTS) - {"geometry"}


@pytest.fixture
def math500(tmp_path):
    rows = [
        {
            "problem": f"p{i}",
            "answer": "4",
            "subject": "A",
            "level": 1 + i % 5,
            "unique_id": f"test/a/{97 - i}.json",
        }
        for i in range(60)
    ]
    write_table(tmp_path, "math500/test", rows)
    return tmp_path


def test_math500_slices_are_the_first_of_each_level_in_file_order(math500):
    fifty = load("math500", folder=math500, n_per_level=10)
    assert Counter(problem.level for problem in fifty) == {str(level): 10 for level in range(1, 6)}
    # Ids run against file order, so that cutting after sorting would keep the other ten rows.
    assert {problem.question for problem in fifty} == {f"p{i}" for i in range(50)}
    assert [problem.problem_id for problem in fifty[:2]] == ["test/a/48.json", "test/a/49.json"]
    hardest = load("math500", folder=math500, level="5")
    assert {problem.question for problem in hardest} == {f"p{i}" for i in range(4, 60, 5)}


def test_a_slice_without_problems_is_an_error(math500):
    with pytest.raises(ValueError, match="level='6'"):
        load("math500", folder=math500, level="6")


def write_olympiad(folder):
    for year in (2024, 2025):
        write_table(folder, f"hmmt_feb_{year}/test", [{"problem": f"h{year}", "answer": r"$\frac{1}{2}$"}])
        write_table(
            folder, f"aime_{year}/test", [{"problem": f"a{i}", "answer": f"{i:03}"} for i in range(12)]
        )
    rows = [
        {"question": "", "final_answer": ["1"]},
        {"question": "no answer", "final_answer": None},
        {"question": "one", "final_answer": ["69$,$84"]},
        {"question": "two", "final_answer": ["1", "2"]},
    ]
    write_table(folder, "olympiadbench/test", rows)
    write_table(folder, "amc/test", [{"problem": "m", "answer": 142.0, "id": 3}])


def test_the_olympiad_pool_has_the_published_ids_and_sources(tmp_path):
    write_olympiad(tmp_path)
    pool = {problem.problem_id: problem for problem in load("olympiad", folder=tmp_path)}
    assert len(pool) == 29
    assert {problem.source for problem in pool.values()} == {"aime", "amc", "hmmt", "olympiadbench"}
    assert pool["amc__0"].gold == "142"
    assert (pool["aime_2025__11"].gold, pool["aime_2025__11"].answer_type) == ("11", "int")
    assert pool["hmmt_feb_2024__0"].gold == r"\frac{1}{2}"
    assert pool["olympiadbench_OE_TO_maths_en_COMP__2"].gold == "69,84"
    assert pool["olympiadbench_OE_TO_maths_en_COMP__3"].gold == "1, 2"
    assert "olympiadbench_OE_TO_maths_en_COMP__0" not in pool


def test_aime_is_the_first_problems_of_two_years_with_the_pool_ids(tmp_path):
    write_olympiad(tmp_path)
    twenty = load("aime", folder=tmp_path, n_per_source=10)
    assert [problem.problem_id for problem in twenty] == [
        f"aime_{y}__{i}" for y in (2024, 2025) for i in range(10)
    ]
    assert {problem.benchmark for problem in twenty} == {"aime"}


@pytest.mark.parametrize(
    ("name", "table", "row"),
    [
        ("svamp", "svamp/test", {"Body": "Ann has 3 pens.", "Question": "How many?", "Answer": 3.0}),
        ("svamp", "svamp/test", {"Body": "Ann has 3 pens.", "Question": "How many?", "Answer": "3.0"}),
        ("mawps", "mawps_singleop/test", {"input": "Ann has 3 pens. How many?", "target": 3.0}),
        (
            "mawps",
            "mawps_singleop/test",
            {"question": "Ann has 3 pens. How many?", "result": "3", "chain": "x"},
        ),
    ],
)
def test_word_problems_read_the_columns_of_the_hub_and_of_the_files_around(tmp_path, name, table, row):
    write_table(tmp_path, table, [row])
    assert load(name, folder=tmp_path) == [
        Problem(f"{name}__0", name, name, "Ann has 3 pens. How many?", "3", "gsm8k", "1")
    ]


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write_table(tmp_path, "gsm8k/test", [{"question": "Q", "answer": "#### 1"}])
    monkeypatch.setenv("PANELBOOK_DATASETS", str(tmp_path))
    assert len(load("gsm8k_test")) == 1


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_missing_dataset_says_where_it_was_sought(tmp_path, monkeypatch, no_hub, folder):
    monkeypatch.delenv("PANELBOOK_DATASETS", raising=False)
    with pytest.raises(DatasetMissingError, match=r"'gsm8k/test'.*'openai/gsm8k'.*gsm8k/test\.jsonl"):
        load("gsm8k_test", folder=tmp_path / folder if folder else None)


def test_an_unknown_benchmark_lists_those_there_are():
    with pytest.raises(ValueError, match="'gsm8k'; there are gsm8k_train, gsm8k_test"):
        load("gsm8k")


# Order and ids


def test_ids_are_ordered_by_number():
    ids = ["a__10", "a__9", "b__1", "a__09", "a"]
    assert sorted(ids, key=natural_key) == ["a", "a__09", "a__9", "a__10", "b__1"]


def test_order_refuses_an_id_used_twice():
    problem = Problem("a__1", "b", "s", "Q", "1", "int")
    with pytest.raises(ValueError, match="'a__1' occurs 2 times"):
        order([problem, problem])


# Golds


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("204", ("204", "int")),
        (204, ("204", "int")),
        ("025", ("25", "int")),
        ("000", ("0", "int")),
        (142.0, ("142", "int")),
        ("-4.0", ("-4", "int")),
        ("184320", ("184320", "int")),
        (2.5, ("2.5", "latex")),
        ("$\\frac{1}{2}$", (r"\frac{1}{2}", "latex")),
        (r"\boxed{\frac{1}{2}}", (r"\frac{1}{2}", "latex")),
        ("4/2", ("4/2", "latex")),
        ("69$,$84", ("69,84", "latex")),
        ("f(n)=n$, $g(n)=1", ("f(n)=n, g(n)=1", "latex")),
        (r"$(-\infty, 0) \cup\{1\}$.", (r"(-\infty, 0) \cup\{1\}", "latex")),
        ("100,200", ("100,200", "latex")),
        (r"\$5", (r"\$5", "latex")),
    ],
)
def test_golds_are_written_in_one_way(raw, expected):
    assert canonicalise_gold(raw) == expected
    assert canonicalise_gold(canonicalise_gold(raw)[0]) == expected


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("5+3=8.\n#### 16", "16"),
        ("a lot of work\n#### 1,200", "1200"),
        ("#### 1\nno:\n#### -2", "-2"),
        ("####: 3 ", "3"),
    ],
)
def test_published_smoke_cases_of_the_gsm8k_gold(solution, gold):
    assert read_gsm8k_gold(solution) == gold


@pytest.mark.parametrize("solution", ["no marks", "#### "])
def test_a_gsm8k_solution_without_a_gold_is_an_error(solution):
    with pytest.raises(ValueError, match="ends with"):
        read_gsm8k_gold(solution)


def test_golds_are_graded_against_themselves():
    problems = [Problem("a__1", "b", "s", "Q", "1", "int"), Problem("a__2", "b", "s", "Q", "t(0,4]", "latex")]
    asked = []

    def grade_many(jobs):
        asked.extend(jobs)
        return [Grade("correct", "1", "number"), Grade("correct", "t(0,4]", "literal")]

    grades = grade_golds(problems, grade_many)
    assert asked == [("1", "1", "int"), ("t(0,4]", "t(0,4]", "latex")]
    assert {problem_id: grade.rule for problem_id, grade in grades.items()} == {
        "a__1": "number",
        "a__2": "literal",
    }


# Real files, where there are any


def real_folder():
    folder = os.environ.get("PANELBOOK_DATASETS")
    if not folder or not (Path(folder) / "gsm8k").is_dir():
        pytest.skip("needs real problem files: set PANELBOOK_DATASETS")
    return Path(folder)


@pytest.mark.parametrize(
    ("name", "count"), [("gsm8k_train", 7473), ("gsm8k_test", 1319), ("svamp", 1000), ("mawps", 562)]
)
def test_real_files_load_whole_with_numeric_golds(name, count):
    problems = load(name, folder=real_folder())
    assert len(problems) == count
    assert all(read_number(problem.gold) is not None and problem.question.strip() for problem in problems)
    assert problems[10].problem_id == f"{name}__10"


@pytest.mark.published
def test_the_real_pool_has_877_problems_and_clean_golds():
    folder = os.environ.get("PANELBOOK_PUBLISHED")
    path = Path(folder or "/nonexistent") / "data/olympiad_pool/all.jsonl"
    if not path.is_file():
        pytest.skip("needs data/olympiad_pool/all.jsonl: set PANELBOOK_PUBLISHED")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pool = read_pool(rows)
    assert Counter(problem.source for problem in pool) == {
        "hmmt": 60,
        "aime": 60,
        "olympiadbench": 674,
        "amc": 83,
    }
    assert {problem.problem_id for problem in pool} == {row["uid"] for row in rows}
    assert sum("$" in row["gold"] for row in rows) == 20
    assert not any("$" in problem.gold for problem in pool)
    # Published as int: 441. AMC's "142.0" and integers of five digits and more are integers too.
    assert Counter(problem.answer_type for problem in pool) == {"int": 541, "latex": 336}


class TestTable:
    def test_what_is_written_is_read(self, tmp_path):
        problems = [
            Problem("b__2", "b", "s", "two?", "2", "int", "1"),
            Problem("b__10", "b", "s", r"\frac{1}{2}?", "0.5", "latex", None),
        ]
        path = tmp_path / "problems.parquet"
        write_problems(problems, {"b__2": "train", "b__10": "heldout"}, path)
        assert read_problems(path) == problems
        assert read_problems(path, "heldout") == problems[1:]

    def test_a_split_without_problems_is_named(self, tmp_path):
        path = tmp_path / "problems.parquet"
        write_problems([Problem("b__2", "b", "s", "two?", "2", "int")], {"b__2": "train"}, path)
        with pytest.raises(ValueError, match="no problem of split 'heldout'"):
            read_problems(path, "heldout")
