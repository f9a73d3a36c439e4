"""Imports: every format gives the same tables, and a row that cannot be taken is named and never dropped in silence."""

import csv
import gzip
import json
import random
import zipfile
from collections import defaultdict

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panelbook.rollouts.imports import (
    ALIASES,
    READERS,
    SHOWN,
    ImportFailed,
    Options,
    list_taken,
    parse_columns,
    read_draws,
    read_imports,
)
from panelbook.rollouts.schema import check_counts, check_rollouts

DRAWS = [
    {
        "arm": arm,
        "problem_id": problem,
        "sample_id": i,
        "correct": bool(right),
        "completion_tokens": 10 * i + 5,
    }
    for arm, rights in (("debate", ("011", "000")), ("mono", ("111", "010")))
    for problem, right_draws in zip(("p1", "p2"), rights, strict=True)
    for i, right in enumerate(map(int, right_draws))
]
"""Two arms, two problems, three draws each: 2, 0, 3 and 1 right; 15 tokens on average."""


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path, rows):
    pd.DataFrame(rows).to_parquet(path)
    return path


def inspect_sample(problem, epoch, value="C", **changes):
    """Return a sample as https://inspect.aisi.org.uk/eval-logs.html describes it, without events."""
    sample = {
        "id": problem,
        "epoch": epoch,
        "input": "1 + 1?",
        "target": "2",
        "output": {
            "model": "m",
            "choices": [{"message": {"role": "assistant", "content": f"say {epoch}"}, "stop_reason": "stop"}],
            "usage": {"input_tokens": 7, "output_tokens": 10 + epoch, "total_tokens": 17 + epoch},
        },
        "scores": {"match": {"value": value, "answer": "2", "explanation": "2"}},
        "metadata": {"level": "easy"},
    }
    return sample | changes


def inspect_log(samples, model="openai/debate", task="sums"):
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": task, "model": model, "model_generate_config": {"max_tokens": 512}},
        "plan": {"name": "plan", "steps": [], "config": {"temperature": 0.5, "max_tokens": 99}},
        "results": {},
        "samples": samples,
    }


def write_eval(path, log, header="header.json"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(header, json.dumps({k: v for k, v in log.items() if k != "samples"}))
        archive.writestr("summaries.json", "[]")
        for sample in log["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return path


def read(path, **options):
    return read_imports([path] if not isinstance(path, list) else path, Options("mine", **options))


def fails(path, *expected, **options):
    with pytest.raises(ImportFailed) as error:
        read(path, **options)
    for text in expected:
        assert text in str(error.value)
    return str(error.value)


def count_by_hand(rows):
    """Return (arm, problem) -> (n, c, mean tokens), by plain Python."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["arm"], row["problem_id"]].append(row)
    return {
        key: (len(g), sum(r["correct"] for r in g), sum(r["completion_tokens"] for r in g) / len(g))
        for key, g in groups.items()
    }


def as_dict(counts):
    return {(r.arm, r.problem_id): (r.n, r.c, r.mean_tokens) for r in counts.itertuples()}


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "write"),
        [
            ("a.jsonl", write_jsonl),
            ("a.ndjson", write_jsonl),
            ("a.csv", write_csv),
            ("a.parquet", write_parquet),
        ],
    )
    def test_every_format_gives_the_counts_that_one_counts_by_hand(self, tmp_path, name, write):
        imported = read(write(tmp_path / name, DRAWS))
        assert as_dict(imported.counts) == count_by_hand(DRAWS)
        assert as_dict(imported.counts)["debate", "p1"] == (3, 2, 15.0)
        assert len(imported.rollouts) == len(DRAWS)
        assert imported.rejected == ()

    def test_all_formats_give_the_same_rollouts(self, tmp_path):
        tables = [
            read(write(tmp_path / f"a{suffix}", DRAWS)).rollouts
            for suffix, write in ((".jsonl", write_jsonl), (".csv", write_csv), (".parquet", write_parquet))
        ]
        pd.testing.assert_frame_equal(tables[0], tables[1])
        pd.testing.assert_frame_equal(tables[0], tables[2])

    def test_a_list_of_records_is_read(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(DRAWS), encoding="utf-8")
        assert as_dict(read(path).counts) == count_by_hand(DRAWS)

    @pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
    def test_packed_files_are_read(self, tmp_path, name):
        plain = (write_csv if "csv" in name else write_jsonl)(tmp_path / "plain", DRAWS)
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        assert as_dict(read(tmp_path / name).counts) == count_by_hand(DRAWS)

    def test_the_order_of_rows_and_files_does_not_matter(self, tmp_path):
        shuffled = random.Random(3).sample(DRAWS, len(DRAWS))
        one = read(write_jsonl(tmp_path / "one.jsonl", DRAWS))
        two = read(
            [write_jsonl(tmp_path / "b.jsonl", shuffled[:5]), write_jsonl(tmp_path / "a.jsonl", shuffled[5:])]
        )
        pd.testing.assert_frame_equal(one.rollouts, two.rollouts)
        pd.testing.assert_frame_equal(one.counts, two.counts)

    def test_what_the_book_writes_itself_comes_back_as_it_was(self, tmp_path):
        own = read(write_jsonl(tmp_path / "a.jsonl", DRAWS)).rollouts
        own.to_parquet(tmp_path / "rollouts.parquet")
        again = read(tmp_path / "rollouts.parquet")
        pd.testing.assert_frame_equal(again.rollouts.drop(columns="run_id"), own.drop(columns="run_id"))

    def test_ids_stay_as_they_are_written(self, tmp_path):
        names = ["007", "Aufgabe ß", "問題", "a,b", 'say "x"', "1.0", "null"]
        rows = [row | {"problem_id": name} for name in names for row in DRAWS if row["problem_id"] == "p1"]
        for path in (write_csv(tmp_path / "a.csv", rows), write_jsonl(tmp_path / "a.jsonl", rows)):
            assert set(read(path).counts["problem_id"]) == set(names)

    def test_a_completion_of_several_lines_and_megabytes_is_one_row_of_csv(self, tmp_path):
        long = "first line\nsecond, with a comma\n" + "x" * 300_000
        rows = [row | {"completion": long} for row in DRAWS]
        assert set(read(write_csv(tmp_path / "a.csv", rows)).rollouts["completion"]) == {long}

    def test_a_byte_order_mark_is_no_part_of_a_name(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", DRAWS)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert as_dict(read(path).counts) == count_by_hand(DRAWS)

    @settings(max_examples=10)
    @given(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.text("xyzß 1", min_size=1).filter(str.strip), st.booleans()),
            min_size=1,
            max_size=30,
        )
    )
    def test_no_draw_is_lost_or_made_up(self, tmp_path_factory, drawn):
        rows = [{"arm": a, "problem_id": p, "correct": c, "completion_tokens": 1} for a, p, c in drawn]
        path = write_jsonl(tmp_path_factory.mktemp("draws") / "a.jsonl", rows)
        assert as_dict(read(path).counts) == count_by_hand(rows)


class TestInspect:
    SAMPLES = (
        inspect_sample("p1", 1),
        inspect_sample("p1", 2, "I"),
        inspect_sample("p2", 1, "N"),
        inspect_sample("p2", 2, 1.0),
    )

    def check(self, imported):
        assert {(r.arm, r.benchmark, r.problem_id): (r.n, r.c) for r in imported.counts.itertuples()} == {
            ("openai/debate", "sums", "p1"): (2, 1),
            ("openai/debate", "sums", "p2"): (2, 1),
        }
        rows = imported.rollouts.set_index(["problem_id", "sample_id"])
        assert rows["status"].to_dict() == {
            ("p1", 0): "correct",
            ("p1", 1): "wrong",
            ("p2", 0): "no_answer",
            ("p2", 1): "correct",
        }
        assert rows.loc[("p1", 1), "completion"] == "say 2"
        assert rows.loc[("p1", 1), "completion_tokens"] == 12
        assert set(rows["prompt_tokens"]) == {7}
        assert set(rows["predicted"]) == {"2"}
        assert set(rows["max_tokens"]) == {512}, "the model's own configuration goes before the plan's"
        assert set(rows["temperature"]) == {0.5}

    def test_a_json_log_is_read(self, tmp_path):
        path = tmp_path / "log.json"
        path.write_text(json.dumps(inspect_log(list(self.SAMPLES))), encoding="utf-8")
        self.check(read(path))

    @pytest.mark.parametrize("header", ["header.json", "_journal/start.json"])
    def test_a_zipped_log_is_read_finished_or_not(self, tmp_path, header):
        self.check(read(write_eval(tmp_path / "log.eval", inspect_log(list(self.SAMPLES)), header)))

    def test_metadata_and_one_of_several_scorers_are_reached_with_dots(self, tmp_path):
        scores = {"match": {"value": "I"}, "judge": {"value": "C", "answer": "two"}}
        path = write_eval(
            tmp_path / "log.eval", inspect_log([inspect_sample("p1", e, scores=scores) for e in (1, 2)])
        )
        fails(path, "no column 'correct'", "scores.match.value", "scores.judge.value")
        columns = {
            "correct": "scores.judge.value",
            "predicted": "scores.judge.answer",
            "source": "metadata.level",
        }
        imported = read(path, columns=columns)
        assert imported.counts["c"].tolist() == [2]
        assert imported.counts["source"].tolist() == ["easy"]
        assert set(imported.rollouts["predicted"]) == {"two"}

    def test_parts_of_a_message_and_attachments_are_put_together(self, tmp_path):
        content = [
            {"type": "reasoning", "reasoning": "attachment://abc"},
            {"type": "text", "text": "so 2"},
            {"type": "image", "image": "x.png"},
        ]
        output = {
            "choices": [{"message": {"content": content}, "stop_reason": "max_tokens"}],
            "usage": {"output_tokens": 3, "input_tokens": 1},
        }
        sample = inspect_sample("p1", 1, output=output, attachments={"abc": "long thought"})
        row = read(write_eval(tmp_path / "l.eval", inspect_log([sample]))).rollouts.iloc[0]
        assert row["completion"].strip() == "long thought\nso 2"
        assert row["stop_reason"] == "length"

    def test_a_sample_that_ended_in_an_error_is_not_taken_for_wrong(self, tmp_path):
        failed = inspect_sample("p2", 1, scores={}, error={"message": "out of memory"})
        path = write_eval(tmp_path / "log.eval", inspect_log([inspect_sample("p1", 1), failed]))
        fails(path, "sample samples/p2_epoch_1.json", "correct (column 'score') is missing")
        assert read(path, skip_broken=True).counts["problem_id"].tolist() == ["p1"]

    def test_partial_credit_is_refused(self, tmp_path):
        path = write_eval(tmp_path / "log.eval", inspect_log([inspect_sample("p1", 1, "P")]))
        fails(path, "is 'P'; it must be right or wrong")

    def test_a_broken_sample_is_named(self, tmp_path):
        path = write_eval(tmp_path / "log.eval", inspect_log([inspect_sample("p1", 1)]))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("samples/p9_epoch_1.json", '{"id":')
            archive.writestr("samples/p8_epoch_1.json", "[1]")
        message = fails(path, "p9_epoch_1.json", "p8_epoch_1.json")
        assert "2 rows cannot be taken" in message

    def test_the_epochs_of_two_runs_are_not_merged_in_silence(self, tmp_path):
        paths = [
            write_eval(tmp_path / f"{v}.eval", inspect_log([inspect_sample("p1", 1, v)])) for v in ("C", "I")
        ]
        fails(paths, "repeats", "C.eval, sample samples/p1_epoch_1.json", "--map sample_id=")
        assert read(paths, columns={"sample_id": ""}).counts[["n", "c"]].to_numpy().tolist() == [[2, 1]]

    @pytest.mark.parametrize("content", [b"", b"PK not a zip", b'{"a": 1}'])
    def test_a_file_that_is_no_archive_is_refused(self, tmp_path, content):
        (tmp_path / "log.eval").write_bytes(content)
        fails(tmp_path / "log.eval", "log.eval")

    def test_an_archive_that_is_no_log_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
            archive.writestr("x.txt", "x")
        fails(tmp_path / "a.eval", "no header.json")


class TestColumns:
    @pytest.mark.parametrize(("ours", "theirs"), [(o, t) for o, names in ALIASES.items() for t in names])
    def test_a_usual_name_is_understood_and_reported(self, tmp_path, ours, theirs):
        values = {
            "correct": 1,
            "stop_reason": "stop",
            "tag_valid": True,
            "predicted": "x",
            "benchmark": "b",
            "checkpoint": "w",
            "completion": "x",
            "arm": "a",
            "source": "s",
        }
        if ours in ("n", "c", "mean_tokens"):
            row = {"arm": "a", "problem_id": "p", "n": 4, "c": 2, "mean_tokens": 5.0}
        else:
            row = {"arm": "a", "problem_id": "p", "correct": 1, "completion_tokens": 3}
        value = row.pop(ours, values.get(ours, 1))
        imported = read(write_jsonl(tmp_path / "a.jsonl", [{**row, theirs: value}]))
        assert (ours, f"column {theirs}", "a.jsonl") in set(list_taken(imported.sources))

    def test_our_own_name_goes_before_any_other(self, tmp_path):
        rows = [row | {"score": 0, "id": "z", "model": "z"} for row in DRAWS]
        imported = read(write_jsonl(tmp_path / "a.jsonl", rows))
        assert as_dict(imported.counts) == count_by_hand(DRAWS)
        assert set(imported.sources[0].unused) == {"score", "id", "model"}

    def test_case_and_blanks_of_a_name_do_not_matter(self, tmp_path):
        rows = [{"Model": r["arm"], "Problem ID": r["problem_id"], "Is-Correct": r["correct"]} for r in DRAWS]
        counts = read(write_csv(tmp_path / "a.csv", rows)).counts
        assert counts.set_index(["arm", "problem_id"])["c"].to_dict() == {
            k: v[1] for k, v in count_by_hand(DRAWS).items()
        }

    def test_a_map_goes_before_everything_and_reaches_into_records(self, tmp_path):
        rows = [
            {
                "arm": "wrong name",
                "who": r["arm"],
                "problem_id": r["problem_id"],
                "grade": {"ok": r["correct"]},
            }
            for r in DRAWS
        ]
        for write, name in ((write_jsonl, "a.jsonl"), (write_parquet, "a.parquet")):
            counts = read(write(tmp_path / name, rows), columns={"arm": "who", "correct": "grade.ok"}).counts
            assert counts["c"].tolist() == [2, 0, 3, 1]

    def test_a_map_to_nothing_ignores_the_column(self, tmp_path):
        rows = [row | {"reward": "broken"} for row in DRAWS]
        path = write_jsonl(tmp_path / "a.jsonl", rows)
        fails(path, "reward is 'broken'")
        assert len(read(path, columns={"reward": ""}).rollouts) == len(DRAWS)

    def test_the_answer_column_is_not_taken_for_the_models(self, tmp_path):
        rows = [row | {"answer": "gold"} for row in DRAWS]
        assert read(write_jsonl(tmp_path / "a.jsonl", rows)).rollouts["predicted"].isna().all()

    def test_a_map_to_a_column_that_is_not_there_lists_those_that_are(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", DRAWS)
        fails(path, "no column 'x'", "--map correct=x", "problem_id", columns={"correct": "x"})
        fails(path, "no column 'correct.x'", columns={"correct": "correct.x"})

    def test_a_map_of_a_column_that_we_do_not_know_is_refused(self):
        with pytest.raises(ImportFailed, match="no column 'corect'"):
            Options("mine", columns={"corect": "x"})

    @pytest.mark.parametrize("column", ["arm", "problem_id", "correct"])
    def test_a_column_that_is_needed_and_missing_is_named_with_its_other_names(self, tmp_path, column):
        rows = [{k: v for k, v in row.items() if k != column} for row in DRAWS]
        fails(
            write_jsonl(tmp_path / "a.jsonl", rows),
            f"no column '{column}'",
            ALIASES[column][0],
            f"--map {column}=THEIRS",
        )

    def test_assignments_of_the_command_line(self):
        assert parse_columns(["correct = ok", "reward=", "arm=a=b"]) == {
            "correct": "ok",
            "reward": "",
            "arm": "a=b",
        }
        with pytest.raises(ImportFailed, match="OURS=THEIRS; got 'correct'"):
            parse_columns(["correct"])

    def test_every_column_has_a_reader(self):
        assert set(READERS) == set(ALIASES)


class TestArms:
    ROWS = tuple({k: v for k, v in row.items() if k != "arm"} for row in DRAWS if row["arm"] == "debate")

    def test_an_arm_may_be_named_for_each_file(self, tmp_path):
        paths = [
            write_jsonl(tmp_path / "a.jsonl", self.ROWS),
            write_csv(tmp_path / "b.csv", [row | {"correct": 1} for row in self.ROWS]),
        ]
        counts = read(paths, arms=["x", "y"]).counts
        assert counts.groupby("arm")["c"].sum().to_dict() == {"x": 2, "y": 6}

    def test_one_name_is_for_every_file(self, tmp_path):
        paths = [
            write_jsonl(
                tmp_path / f"{i}.jsonl", [row | {"sample_id": 3 * i + row["sample_id"]} for row in self.ROWS]
            )
            for i in range(2)
        ]
        assert read(paths, arms=["x"]).counts["n"].tolist() == [6, 6]

    def test_another_number_of_names_is_refused(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", self.ROWS)
        fails([path] * 3, "2 arms are named for 3 files", arms=["x", "y"])

    def test_a_name_goes_before_the_column(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [r for r in DRAWS if r["arm"] == "mono"])
        assert set(read(path, arms=["x"]).counts["arm"]) == {"x"}

    def test_two_checkpoints_of_one_arm_are_refused(self, tmp_path):
        rows = [row | {"checkpoint": f"step{row['sample_id']}"} for row in DRAWS]
        fails(write_jsonl(tmp_path / "a.jsonl", rows), "3 checkpoints (step0, step1, step2)", "--map arm=")


class TestBenchmarks:
    def test_without_a_name_it_is_the_study(self, tmp_path):
        assert set(read(write_jsonl(tmp_path / "a.jsonl", DRAWS)).counts["benchmark"]) == {"mine"}

    def test_like_ids_of_two_benchmarks_are_two_problems(self, tmp_path):
        rows = [row | {"benchmark": b} for b in ("x", "y") for row in DRAWS]
        imported = read(write_jsonl(tmp_path / "a.jsonl", rows))
        assert len(imported.counts) == 8
        assert len(imported.rollouts) == 2 * len(DRAWS)

    def test_a_given_name_goes_before_the_column(self, tmp_path):
        rows = [row | {"task": f"of {row['arm']}"} for row in DRAWS]
        imported = read(write_jsonl(tmp_path / "a.jsonl", rows), benchmark="sums")
        assert set(imported.counts["benchmark"]) == {"sums"}
        assert "task" in imported.sources[0].unused


class TestSamples:
    def test_draws_without_a_number_are_numbered_within_arm_and_problem(self, tmp_path):
        rows = [{k: v for k, v in row.items() if k != "sample_id"} for row in DRAWS]
        paths = [write_jsonl(tmp_path / "a.jsonl", rows[::2]), write_jsonl(tmp_path / "b.jsonl", rows[1::2])]
        imported = read(paths)
        assert as_dict(imported.counts) == count_by_hand(DRAWS)
        numbers = imported.rollouts.groupby(["arm", "problem_id"])["sample_id"].apply(list)
        assert numbers.tolist() == [[0, 1, 2]] * 4

    def test_numbers_of_other_tools_give_the_order_and_no_gaps(self, tmp_path):
        rows = [row | {"sample_id": 1000 - 7 * row["sample_id"]} for row in DRAWS]
        rollouts = read(write_jsonl(tmp_path / "a.jsonl", rows)).rollouts
        mine = rollouts[(rollouts["arm"] == "debate") & (rollouts["problem_id"] == "p1")]
        assert mine["sample_id"].tolist() == [0, 1, 2]
        assert mine["completion_tokens"].tolist() == [25, 15, 5]

    def test_a_draw_that_occurs_twice_is_named_with_both_lines(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [*DRAWS, DRAWS[4]])
        message = fails(path, "line 13", "repeats", "line 5", "'debate'", "'p2'", "sample_id 1")
        assert "1 row cannot be taken" in message
        imported = read(path, skip_broken=True)
        assert as_dict(imported.counts) == count_by_hand(DRAWS)
        assert len(imported.rejected) == 1

    def test_the_same_file_twice_is_refused(self, tmp_path):
        rows = [{k: v for k, v in row.items() if k != "sample_id"} for row in DRAWS]
        paths = [write_jsonl(tmp_path / name, rows) for name in ("a.jsonl", "b.jsonl")]
        fails(paths, "b.jsonl has the same content as", "a.jsonl")

    def test_arms_and_problems_may_have_different_numbers_of_draws(self, tmp_path):
        rows = [row for row in DRAWS if (row["arm"], row["sample_id"]) != ("mono", 2)]
        counts = read(write_jsonl(tmp_path / "a.jsonl", rows)).counts
        assert as_dict(counts) == count_by_hand(rows)
        assert counts["n"].tolist() == [3, 3, 2, 2]


class TestValues:
    @pytest.mark.parametrize(
        ("value", "status"),
        [
            (True, "correct"),
            (False, "wrong"),
            (1, "correct"),
            (0.0, "wrong"),
            ("C", "correct"),
            ("I", "wrong"),
            ("true", "correct"),
            (" False ", "wrong"),
            ("1.0", "correct"),
            ("timeout", "timeout"),
            ("no_answer", "no_answer"),
        ],
    )
    def test_what_counts_as_right(self, tmp_path, value, status):
        rows = [row | {"correct": value} for row in DRAWS]
        assert set(read(write_jsonl(tmp_path / "a.jsonl", rows)).rollouts["status"]) == {status}

    @pytest.mark.parametrize(
        "value", [None, float("nan"), 0.5, 2, -1, "", "P", "maybe", [1], {"v": 1}, "nan"]
    )
    def test_anything_else_is_refused_with_line_field_value_and_rule(self, tmp_path, value):
        rows = [dict(row) for row in DRAWS]
        rows[6]["correct"] = value
        message = fails(
            write_jsonl(tmp_path / "a.jsonl", rows), "a.jsonl, line 7: correct is", "right or wrong"
        )
        assert (repr(value) in message) or ("is missing" in message)

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("completion_tokens", -1),
            ("completion_tokens", 2.5),
            ("completion_tokens", "many"),
            ("completion_tokens", True),
            ("completion_tokens", None),
            ("completion_tokens", float("inf")),
            ("sample_id", -1),
            ("sample_id", "first"),
            ("problem_id", ""),
            ("problem_id", "  "),
            ("problem_id", 1.5),
            ("problem_id", None),
            ("problem_id", ["p"]),
            ("arm", False),
            ("arm", {}),
            ("temperature", "hot"),
            ("temperature", -0.1),
            ("max_tokens", 1.5),
            ("reward", float("inf")),
            ("reward", None),
            ("stop_reason", "bored"),
            ("stop_reason", 3),
            ("tag_valid", "perhaps"),
            ("tag_valid", 0.5),
            ("completion", ["a"]),
            ("predicted", {"x": 1}),
        ],
    )
    def test_a_value_of_another_kind_is_refused(self, tmp_path, column, value):
        fill = {"temperature": 1.0, "max_tokens": 64, "reward": 0.5, "stop_reason": "stop", "tag_valid": True}
        fill |= {"completion": "x", "predicted": "2"}
        rows = [row | ({column: fill[column]} if column in fill else {}) for row in DRAWS]
        assert len(read(write_jsonl(tmp_path / "good.jsonl", rows)).rollouts) == len(rows)
        rows[3] = rows[3] | {column: value}
        path = write_jsonl(tmp_path / "bad.jsonl", rows)
        fails(path, "bad.jsonl, line 4", column)
        imported = read(path, skip_broken=True)
        assert len(imported.rollouts) == len(rows) - 1
        assert imported.rejected[0].record["problem_id"] == rows[3]["problem_id"] or column == "problem_id"

    def test_whole_numbers_that_were_written_as_floats_are_whole_numbers(self, tmp_path):
        rows = [
            row | {"completion_tokens": float(row["completion_tokens"]), "sample_id": f"{row['sample_id']}.0"}
            for row in DRAWS
        ]
        for path in (write_csv(tmp_path / "a.csv", rows), write_jsonl(tmp_path / "a.jsonl", rows)):
            assert as_dict(read(path).counts) == count_by_hand(DRAWS)

    def test_numbers_are_fine_as_ids(self, tmp_path):
        rows = [row | {"problem_id": int(row["problem_id"][1])} for row in DRAWS]
        assert set(read(write_parquet(tmp_path / "a.parquet", rows)).counts["problem_id"]) == {"1", "2"}

    @pytest.mark.parametrize(
        ("given", "taken"),
        [("eos", "stop"), ("LENGTH", "length"), ("max_tokens", "length"), ("tool_calls", "stop")],
    )
    def test_stop_reasons_of_other_tools(self, tmp_path, given, taken):
        rows = [row | {"finish_reason": given} for row in DRAWS]
        assert set(read(write_jsonl(tmp_path / "a.jsonl", rows)).rollouts["stop_reason"]) == {taken}

    def test_an_empty_completion_and_an_unread_answer_are_no_error(self, tmp_path):
        rows = [row | {"completion": None, "predicted": None} for row in DRAWS]
        rollouts = read(write_jsonl(tmp_path / "a.jsonl", rows)).rollouts
        assert set(rollouts["completion"]) == {""}
        assert rollouts["predicted"].isna().all()


class TestNotRecorded:
    def test_without_token_counts_there_are_counts_alone(self, tmp_path):
        rows = [{k: v for k, v in row.items() if k != "completion_tokens"} for row in DRAWS]
        imported = read(write_jsonl(tmp_path / "a.jsonl", rows))
        assert imported.rollouts is None
        assert imported.counts["mean_tokens"].isna().all()
        assert imported.counts["c"].tolist() == [2, 0, 3, 1]
        assert any("No token counts for debate, mono" in note for note in imported.notes)

    def test_one_arm_without_token_counts_leaves_those_of_the_other(self, tmp_path):
        bare = [{k: v for k, v in r.items() if k != "completion_tokens"} for r in DRAWS if r["arm"] == "mono"]
        paths = [
            write_jsonl(tmp_path / "a.jsonl", [r for r in DRAWS if r["arm"] == "debate"]),
            write_jsonl(tmp_path / "b.jsonl", bare),
        ]
        imported = read(paths)
        means = imported.counts.groupby("arm")["mean_tokens"].mean()
        assert means["debate"] == 15.0
        assert pd.isna(means["mono"])
        assert any("for mono:" in note for note in imported.notes)

    def test_what_is_put_in_place_is_said(self, tmp_path):
        rows = [row | {"max_tokens": 20} for row in DRAWS]
        imported = read(write_jsonl(tmp_path / "a.jsonl", rows))
        rollouts = imported.rollouts
        assert rollouts["reward"].tolist() == (rollouts["status"] == "correct").astype(float).tolist()
        assert rollouts["stop_reason"].tolist() == ["stop", "stop", "length"] * 4
        assert len(imported.notes) == 3
        full = [row | {"predicted": "2", "reward": 0.25, "stop_reason": "stop"} for row in rows]
        imported = read(write_jsonl(tmp_path / "b.jsonl", full))
        assert imported.notes == ()
        assert set(imported.rollouts["reward"]) == {0.25}

    def test_settings_that_differ_within_an_arm_are_said(self, tmp_path):
        rows = [
            row | {"temperature": float(row["arm"] == "mono" and row["problem_id"] == "p1")} for row in DRAWS
        ]
        notes = read(write_jsonl(tmp_path / "a.jsonl", rows)).notes
        assert next(note for note in notes if "temperature" in note).startswith(
            "Arm mono was drawn with several"
        )
        assert not any("debate" in note for note in notes if "temperature" in note)

    def test_tables_pass_their_own_checks(self, tmp_path):
        imported = read(write_jsonl(tmp_path / "a.jsonl", DRAWS))
        pd.testing.assert_frame_equal(check_rollouts(imported.rollouts), imported.rollouts)
        pd.testing.assert_frame_equal(check_counts(imported.counts), imported.counts)


class TestCounts:
    ROWS = tuple(
        {"arm": arm, "problem_id": p, "n": 4, "c": c, "mean_tokens": 9.5}
        for arm, cs in (("a", (0, 4)), ("b", (1, 2)))
        for p, c in zip(("x", "y"), cs, strict=True)
    )

    @pytest.mark.parametrize(
        ("name", "write"), [("a.jsonl", write_jsonl), ("a.csv", write_csv), ("a.parquet", write_parquet)]
    )
    def test_they_are_taken_as_they_are(self, tmp_path, name, write):
        imported = read(write(tmp_path / name, self.ROWS))
        assert imported.counts["c"].tolist() == [0, 4, 1, 2]
        assert imported.counts["mean_tokens"].tolist() == [9.5] * 4
        assert imported.rollouts is None
        assert imported.sources[0].kind == "counts"

    def test_an_accuracy_beside_them_does_not_make_them_draws(self, tmp_path):
        rows = [row | {"accuracy": row["c"] / row["n"]} for row in self.ROWS]
        assert read(write_csv(tmp_path / "a.csv", rows)).counts["c"].tolist() == [0, 4, 1, 2]

    @pytest.mark.parametrize(("n", "c"), [(4, 5), (0, 0), (4, -1), (4, 0.5), (None, 1)])
    def test_counts_that_cannot_be_are_refused(self, tmp_path, n, c):
        rows = [*self.ROWS[:3], self.ROWS[3] | {"n": n, "c": c}]
        fails(write_jsonl(tmp_path / "a.jsonl", rows), "line 4")

    def test_a_problem_that_occurs_twice_is_refused(self, tmp_path):
        fails(
            write_jsonl(tmp_path / "a.jsonl", [*self.ROWS, self.ROWS[1] | {"c": 3}]),
            "line 5: repeats",
            "line 2",
            "add up n and c",
        )

    def test_draws_and_counts_are_not_mixed(self, tmp_path):
        paths = [write_jsonl(tmp_path / "a.jsonl", DRAWS), write_jsonl(tmp_path / "b.jsonl", self.ROWS)]
        fails(paths, "a.jsonl holds draws", "b.jsonl holds counts")


class TestBrokenFiles:
    def test_a_broken_line_is_named_by_its_number(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", DRAWS)
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([*lines[:4], '{"arm": "deb', "", "[1, 2]", *lines[4:]]), encoding="utf-8")
        message = fails(
            path, "2 rows cannot be taken", "line 5: the line is not JSON", "line 7: the line is JSON but"
        )
        assert "--skip-broken" in message
        imported = read(path, skip_broken=True)
        assert as_dict(imported.counts) == count_by_hand(DRAWS)
        assert [case.record for case in imported.rejected] == ['{"arm": "deb', "[1, 2]"]

    def test_bytes_that_are_no_text_are_named(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", DRAWS)
        path.write_bytes(path.read_bytes() + b'{"arm": "\xff\xfe"}\n')
        fails(path, "line 13")
        csv_path = write_csv(tmp_path / "a.csv", DRAWS)
        csv_path.write_bytes(csv_path.read_bytes() + b"\xff,p1,9,1,1\n")
        fails(csv_path, "a.csv cannot be read as .csv")

    def test_a_row_of_csv_with_another_number_of_fields_is_named(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", [row | {"completion": "two\nlines"} for row in DRAWS])
        path.write_text(path.read_text(encoding="utf-8") + "debate,p1\n", encoding="utf-8")
        fails(path, f"line {2 * len(DRAWS) + 2}: the row has 2 fields, the header 6")

    def test_many_broken_rows_are_counted_and_the_first_shown(self, tmp_path):
        rows = [row | {"correct": "?"} for row in DRAWS]
        message = fails(write_jsonl(tmp_path / "a.jsonl", rows), "12 rows cannot be taken", "and 7 more")
        assert message.count("a.jsonl, line") == SHOWN

    def test_skipping_everything_is_refused(self, tmp_path):
        rows = [row | {"correct": "?"} for row in DRAWS]
        fails(write_jsonl(tmp_path / "a.jsonl", rows), "no row is left", skip_broken=True)

    def test_a_row_with_two_faults_is_one_row(self, tmp_path):
        rows = [*DRAWS[:-1], DRAWS[-1] | {"correct": "?", "completion_tokens": -1}]
        fails(
            write_jsonl(tmp_path / "a.jsonl", rows),
            "1 row cannot",
            "correct is '?'",
            "; completion_tokens is -1",
        )

    @pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.json", "a.eval", "a.jsonl.gz"])
    def test_an_empty_file_is_refused(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"")
        fails(tmp_path / name, "is empty")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.jsonl", "\n\n"),
            ("a.csv", "arm,problem_id,correct\n"),
            ("a.json", "[]"),
            ("a.json", '{"eval": {"task": "t"}, "samples": []}'),
        ],
    )
    def test_a_file_without_a_row_is_refused(self, tmp_path, name, content):
        (tmp_path / name).write_text(content, encoding="utf-8")
        fails(tmp_path / name, "there is no row to import")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.parquet", b"PAR1 broken"),
            ("a.jsonl.gz", b"not packed"),
            ("a.jsonl.gz", gzip.compress(b'{"arm": 1}' * 100, mtime=0)[:-9]),
            ("a.json", b"{"),
            ("a.json", b'{"rows": []}'),
            ("a.json", b"[1, 2]"),
            ("a.csv", b'arm,problem_id,correct\n"a,p,1\n'),
            ("a.csv", b"arm,arm\n1,2\n"),
            ("a.xlsx", b"x"),
        ],
    )
    def test_a_damaged_or_foreign_file_is_named(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name, name)

    def test_a_folder_and_a_missing_file_are_named(self, tmp_path):
        write_jsonl(tmp_path / "inside.jsonl", DRAWS)
        fails(tmp_path, "is a folder", "inside.jsonl")
        fails(tmp_path / "gone.jsonl", "gone.jsonl does not exist")


class TestReadDraws:
    def test_rows_come_as_they_are_under_our_names(self, tmp_path):
        path = tmp_path / "log.jsonl"
        rows = [
            {"model": "m", "question_id": q, "response": text, "is_correct": grade, "adapter": "late"}
            for q, text, grade in (("b", "two", False), ("a", "one", True), ("b", None, False))
        ]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        table = read_draws(path, "log")
        assert list(table["problem_id"]) == ["b", "a", "b"]
        assert list(table["status"]) == ["wrong", "correct", "wrong"]
        assert list(table["completion"]) == ["two", "one", ""]
        assert set(table["checkpoint"]) == {"late"}
        assert set(table["study"]) == set(table["benchmark"]) == {"log"}

    def test_counts_and_broken_rows_are_refused(self, tmp_path):
        path = tmp_path / "x.csv"
        path.write_text("arm,problem_id,n,c\na,p,2,1\n", encoding="utf-8")
        with pytest.raises(ImportFailed, match=r"x\.csv holds counts"):
            read_draws(path, "x")
        path.write_text("arm,problem_id,correct\na,p,1\na,p,half\n", encoding="utf-8")
        with pytest.raises(ImportFailed, match="line 3"):
            read_draws(path, "x")
