import json
import multiprocessing
import os
import resource
import threading

import pandas as pd
import pytest
from fake_engine import make_params, make_problem

from panelbook.rollouts.draw import Answer, Draw, grade_answers
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, TableError, check_rollouts, count_draws, read_rollouts
from panelbook.rollouts.store import Shard, StoreError, compact, read_draws, read_lines
from panelbook.study.grading import Grader


def make_record(problem_id="p0", sample_id=0, **changes):
    params = make_params()
    draw = Draw(make_problem(problem_id), sample_id, seed=sample_id)
    text = "<think>naïve — 思考\u2028\r\n</think> <answer>42</answer>"
    answer = Answer(draw, prompt=[1, 2], tokens=[3] * 9, logprobs=None, stop_reason="stop", completion=text)
    with Grader(n_workers=1) as grader:
        (record,) = grade_answers([answer], params, grader)
    return {**record, **changes}


def write(path, records):
    with Shard(path) as shard:
        for record in records:
            shard.append(record)


RECORDS = [make_record(f"p{i}", j) for i in range(3) for j in range(2)]


# --- shards -----------------------------------------------------------------------------------------


def test_what_is_appended_is_read_back(tmp_path):
    write(tmp_path / "a.jsonl", RECORDS)
    assert read_lines(tmp_path / "a.jsonl") == (RECORDS, None)


def test_a_line_is_in_the_file_when_append_returns(tmp_path):
    with Shard(tmp_path / "a.jsonl") as shard:
        for n, record in enumerate(RECORDS, start=1):
            shard.append(record)
            assert len((tmp_path / "a.jsonl").read_bytes().split(b"\n")) == n + 1


def test_a_file_cut_at_any_byte_keeps_its_whole_lines_and_grows_back(tmp_path):
    records = [{"draw": i, "text": "é{}\n"} for i in range(3)]
    path = tmp_path / "a.jsonl"
    write(path, records)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        n_whole = sum(end <= size for end in ends)
        kept, torn = read_lines(path)
        assert kept == records[:n_whole]
        assert (torn is None) == (size in (0, *ends))
        assert path.stat().st_size == size, "reading must leave the file alone"
        with Shard(path) as shard:
            assert shard.n_lines == n_whole
            assert shard.torn == torn
            for record in records[n_whole:]:
                shard.append(record)
        assert path.read_bytes() == whole


def test_a_torn_line_is_reported_with_file_line_and_length(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, RECORDS[:2])
    path.write_bytes(path.read_bytes() + b'{"half')
    with Shard(path) as shard:
        assert str(shard.torn) == f"{path}: line 3 was cut off after 6 bytes and is dropped."


@pytest.mark.parametrize("rubbish", [b"\0\0\0\0\n", b'{"sample_id": 1\n', b"[1]\n", b"\n", b"\xff\n"])
def test_a_broken_line_is_dropped_at_the_end_and_an_error_before_it(tmp_path, rubbish):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + rubbish)
    assert read_lines(path)[0] == [{"a": 1}]
    path.write_bytes(b'{"a": 1}\n' + rubbish + b'{"a": 2}\n')
    for access in (read_lines, Shard):
        with pytest.raises(StoreError, match=r"a\.jsonl: line 2 of 3 is not a JSON object"):
            access(path)


def test_a_shard_that_cannot_be_opened_frees_its_lock(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x\n{}\n")
    with pytest.raises(StoreError, match="line 1"):
        Shard(path)
    path.write_bytes(b"{}\n")
    Shard(path, lock_wait_s=0).close()


def test_a_second_writer_is_turned_away_until_the_first_ends(tmp_path):
    path = tmp_path / "a.jsonl"
    first = Shard(path)
    with pytest.raises(StoreError, match="written by another process"):
        Shard(path, lock_wait_s=0)
    threading.Timer(0.2, first.close).start()
    Shard(path, lock_wait_s=30).close()


def test_rewind_forgets_what_came_after(tmp_path):
    path = tmp_path / "a.jsonl"
    with Shard(path) as shard:
        shard.append(RECORDS[0])
        size = shard.size
        shard.append(RECORDS[1])
        shard.rewind(size)
        assert shard.n_lines == 1
        shard.append(RECORDS[2])
        with pytest.raises(StoreError, match="checkpoint was taken at"):
            shard.rewind(shard.size + 1)
    assert read_lines(path)[0] == [RECORDS[0], RECORDS[2]]


def test_a_value_that_json_does_not_know_leaves_no_line(tmp_path):
    path = tmp_path / "a.jsonl"
    with Shard(path) as shard:
        with pytest.raises(ValueError, match="JSON"):
            shard.append({"reward": float("nan")})
        shard.append(RECORDS[0])
    assert read_lines(path)[0] == RECORDS[:1]


def test_files_that_cannot_be_read_or_written_say_so(tmp_path):
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        read_lines(tmp_path / "absent.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Shard(tmp_path / "file" / "a.jsonl")
    with pytest.raises(StoreError, match="could not be written"):
        compact(RECORDS, tmp_path / "file" / "a.parquet")


def _fill_the_disk(path, report):
    """Append until the file may not grow, then try once more with room again."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    shard = Shard(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, limits[1]))
    n_appended = 0
    try:
        while True:
            shard.append({"draw": n_appended, "text": "x" * 300})
            n_appended += 1
    except StoreError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    try:
        shard.append({"draw": "late"})
        closed = False
    except ValueError:
        closed = True
    report.write_text(json.dumps([n_appended, message, closed]))


def test_a_full_disk_leaves_no_half_line(tmp_path):
    path, report = tmp_path / "a.jsonl", tmp_path / "report.json"
    write(path, [{"draw": "first"}])
    child = multiprocessing.get_context("fork").Process(target=_fill_the_disk, args=(path, report))
    child.start()
    child.join()
    n_appended, message, closed = json.loads(report.read_text())
    assert n_appended == 3  # the fourth fits in part
    assert "line 5 could not be written: File too large. The 4 lines before it are kept" in message
    assert closed, "a shard that failed must not be written to again"
    records, torn = read_lines(path)
    assert [record["draw"] for record in records] == ["first", 0, 1, 2]
    assert torn is None
    write(path, [{"draw": 3}])
    assert len(read_lines(path)[0]) == 5


# --- draws ------------------------------------------------------------------------------------------


def test_draws_of_all_shards_are_read(tmp_path):
    write(tmp_path / "b.jsonl", RECORDS[:2])
    write(tmp_path / "a.jsonl", RECORDS[2:])
    (tmp_path / "notes.txt").write_text("not a shard")
    assert read_draws(tmp_path) == (RECORDS[2:] + RECORDS[:2], [])
    assert read_draws(tmp_path / "absent") == ([], [])


@pytest.mark.parametrize("second", ["a.jsonl", "b.jsonl"])
def test_the_same_draw_twice_is_an_error_naming_both_lines(tmp_path, second):
    write(tmp_path / "a.jsonl", RECORDS)
    write(tmp_path / second, [{**RECORDS[1], "completion": "another"}])
    line = 7 if second == "a.jsonl" else 1
    with pytest.raises(
        StoreError, match=rf"{second}: line {line} repeats the draw of .*a\.jsonl: line 2"
    ) as error:
        read_draws(tmp_path)
    assert "problem_id='p0', sample_id=1" in str(error.value)


def test_a_line_that_is_no_draw_is_an_error(tmp_path):
    record = make_record()
    del record["status"]
    write(tmp_path / "a.jsonl", [RECORDS[1], record])
    with pytest.raises(StoreError, match=r"a\.jsonl: line 2 is a draw without status"):
        read_draws(tmp_path)


# --- the table --------------------------------------------------------------------------------------


def test_the_table_is_the_same_whatever_the_order_of_draws(tmp_path):
    table = compact(RECORDS, tmp_path / "a.parquet")
    compact(RECORDS[::-1], tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(read_rollouts(tmp_path / "a.parquet"), table)
    assert table.to_dict("records") == RECORDS
    assert {c: str(t) for c, t in table.dtypes.items()} == ROLLOUTS_COLUMNS


def test_a_table_that_fails_leaves_the_former_one(tmp_path, monkeypatch):
    out = tmp_path / "a.parquet"
    compact(RECORDS[:1], out)
    before = out.read_bytes()
    with pytest.raises(TableError, match="repeat"):
        compact([*RECORDS, RECORDS[0]], out)

    def fail(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"No space left on device.*shards are kept"):
        compact(RECORDS, out)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_no_draw_gives_no_table(tmp_path):
    with pytest.raises(StoreError, match="no finished draw"):
        compact([], tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_missing_values_are_kept_where_allowed(tmp_path):
    record = make_record(predicted=None, seed=None, temperature=None, max_tokens=None, status="no_answer")
    table = compact([record, RECORDS[1]], tmp_path / "a.parquet")
    assert table[["predicted", "seed", "temperature", "max_tokens"]].isna().sum().tolist() == [1, 1, 1, 1]
    assert table["seed"].tolist()[1] == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"status": "maybe"}, "status must be one of correct, wrong.*got 'maybe' at run_id='run'"),
        ({"stop_reason": "eos"}, "stop_reason must be stop or length; got 'eos'"),
        ({"completion_tokens": -1}, "completion_tokens must be 0 or more; got -1"),
        ({"sample_id": "first"}, "wrong type"),
        ({"completion": None}, "column 'completion' has missing values"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(change, complaint):
    with pytest.raises(TableError, match=complaint):
        check_rollouts(pd.DataFrame([*RECORDS, make_record("p9", **change)]))


def test_a_table_without_a_column_is_refused():
    with pytest.raises(TableError, match="no column 'reward'"):
        check_rollouts(pd.DataFrame(RECORDS).drop(columns="reward"))


def test_rollouts_lead_to_counts():
    counts = count_draws(check_rollouts(pd.DataFrame([*RECORDS, make_record("p0", 2, status="wrong")])))
    assert counts[["problem_id", "n", "c"]].to_numpy().tolist() == [["p0", 3, 2], ["p1", 2, 2], ["p2", 2, 2]]
