"""Published files become tables, and a record that is not as expected is named by file, line and field."""

import json

import pytest

from panelbook.rollouts import adapters
from panelbook.rollouts.published import PublishedDataError
from panelbook.rollouts.schema import COUNTS_COLUMNS, COUNTS_KEY

pytestmark = pytest.mark.published

READERS = {
    "counts": adapters.read_counts,
    "spread": adapters.read_spread,
    "buckets": adapters.read_token_buckets,
    "heldout": adapters.read_heldout,
    "training": adapters.read_training,
    "pool": adapters.read_pool,
}
BAND = "reports/variance_band/panel_g8/per_problem.jsonl"
SPREAD = "reports/diversity_analysis/per_problem.jsonl"
MATH = "reports/eval_math500_vibecheck/math_final_panel/summary.json"
AIME = "reports/eval_aime_vibecheck/aime_panel_postmath_n16/summary.json"
TOKENS = "reports/token_efficiency/summary.json"
HELDOUT = "reports/olympiad_panel_only/heldout_trajectory.jsonl"
BATCHES = "reports/olympiad_panel_only/train_per_batch.jsonl"
POOL = "data/olympiad_pool/all.jsonl"


def edit_line(folder, name, line, edit):
    """Change one record of a JSONL file; `edit` gets the record, or replaces it if it is text."""
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    if isinstance(edit, str):
        lines[line - 1] = edit
    else:
        record = json.loads(lines[line - 1])
        edit(record)
        lines[line - 1] = json.dumps(record)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def edit_json(folder, name, edit):
    """Change a JSON file; `edit` gets its content."""
    record = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(record)
    (folder / name).write_text(json.dumps(record), encoding="utf-8")


def drop(field):
    return lambda record: record.pop(field)


def put(**values):
    return lambda record: record.update(values)


class TestTables:
    def test_counts_have_the_declared_columns_and_one_row_per_problem(self, published_folder):
        counts = adapters.read_counts(published_folder)
        assert list(counts.columns) == list(COUNTS_COLUMNS)
        assert not counts.duplicated(COUNTS_KEY).any()
        assert set(counts["study"]) == {"published"}

    @pytest.mark.parametrize(
        ("benchmark", "arm", "problems", "draws_each", "correct", "max_tokens"),
        [
            ("math500_s50", "panel", 50, 4, 161, 4096),
            ("math500_s50", "thinking", 50, 4, 194, 16384),
            ("math500_s50", "no_panel", 50, 4, 81, 4096),
            ("math500_s50", "instruct", 50, 4, 183, 4096),
            ("math500_l5", "panel", 134, 8, 626, 4096),
            ("math500_l5", "thinking", 134, 4, 487, 16384),
            ("aime", "panel", 20, 16, 72, 8192),
            ("aime", "thinking", 20, 16, 234, 16384),
            ("olympiad", "panel", 877, 8, 1210, 8192),
            ("olympiad", "thinking", 877, 8, 4087, 8192),
        ],
    )
    def test_counts_add_up_to_the_totals_of_the_reports(
        self, published_folder, benchmark, arm, problems, draws_each, correct, max_tokens
    ):
        counts = adapters.read_counts(published_folder)
        rows = counts[(counts["benchmark"] == benchmark) & (counts["arm"] == arm)]
        assert len(rows) == problems
        assert set(rows["n"]) == {draws_each}
        assert rows["c"].sum() == correct
        assert set(rows["max_tokens"]) == {max_tokens}

    def test_totals_agree_with_those_that_the_reports_state_themselves(self, published_folder):
        counts = adapters.read_counts(published_folder)
        for name, benchmark, arm in ((MATH, "math500_s50", "panel"), (AIME, "aime", "panel")):
            stated = json.loads((published_folder / name).read_text(encoding="utf-8"))
            rows = counts[(counts["benchmark"] == benchmark) & (counts["arm"] == arm)]
            assert rows["c"].sum() == stated["n_correct_samples"]
            assert (rows["c"] > 0).sum() == stated["pass_at_n_count"]
            assert set(rows["checkpoint"]) == {stated["sampler_path"]}

    def test_lengths_and_distances_are_there_where_they_are_tracked_and_missing_elsewhere(
        self, published_folder
    ):
        counts = adapters.read_counts(published_folder)
        tracked = counts[counts["mean_tokens"].notna()].groupby("benchmark")["arm"].unique()
        assert {name: set(arms) for name, arms in tracked.items()} == {
            "aime": {"panel", "thinking"},
            "math500_s50": {"panel", "thinking", "no_panel", "panel_premath"},
        }
        assert counts["mean_tokens"].notna().equals(counts["mean_distance"].notna())

    def test_spread_has_a_row_per_window_arm_and_problem(self, published_folder):
        spread = adapters.read_spread(published_folder)
        sizes = spread.groupby(["benchmark", "window_chars"]).size().to_dict()
        assert sizes == {("aime", 2000): 40, ("math500_s50", 2000): 200, ("math500_s50", 8000): 100}
        assert not spread.duplicated(["benchmark", "window_chars", "arm", "problem_id"]).any()
        assert spread["mean_distance"].between(0, 2).all()

    def test_buckets_of_both_benchmarks_add_up(self, published_folder):
        buckets = adapters.read_token_buckets(published_folder)
        for benchmark, pairs in (("math500_l5", 536), ("aime", 320)):
            rows = buckets[buckets["benchmark"] == benchmark].set_index("bucket")["n_pairs"]
            assert rows["all_paired"] == pairs
            assert rows[["both", "first_only", "second_only", "neither"]].sum() == pairs

    def test_heldout_counts_whole_problems(self, published_folder):
        heldout = adapters.read_heldout(published_folder)
        olympiad = heldout[heldout["benchmark"] == "olympiad"].groupby("step")
        assert olympiad["n_problems"].sum().unique().tolist() == [100]
        assert olympiad["c"].sum().to_dict()[0] == 14
        assert heldout["c"].dtype.kind == "i"
        gsm8k = heldout[heldout["benchmark"] == "gsm8k"].set_index("step")
        assert gsm8k.loc[80, ["c", "n_problems"]].tolist() == [249, 348]

    def test_training_has_a_row_per_batch_and_length_spread_where_tracked(self, published_folder):
        training = adapters.read_training(published_folder)
        assert training["step"].tolist() == list(range(100))
        assert training["length_cv"].notna().sum() == 10
        shares = training[["share_all_zero", "share_mixed", "share_all_one"]].sum(axis=1)
        assert shares.to_numpy() == pytest.approx(1.0)

    def test_the_pool_knows_its_splits(self, published_folder):
        pool = adapters.read_pool(published_folder)
        assert len(pool) == pool["problem_id"].nunique() == 877
        sizes = {split: int(pool[split].sum()) for split in adapters.SPLITS}
        assert sizes == {"panel_train": 354, "thinking_train": 180, "heldout_eval": 100, "heldout_aux": 310}
        assert not (pool["heldout_eval"] & (pool["panel_train"] | pool["thinking_train"])).any()


class TestBrokenRecord:
    """Each case breaks one record; the message must let the reader find it without opening an editor twice."""

    @pytest.mark.parametrize(
        ("reader", "name", "line", "edit", "expected"),
        [
            ("counts", BAND, 7, '{"uid": "x", ', ("is not valid JSON", '{"uid": "x"')),
            ("counts", BAND, 3, "", ("is not valid JSON",)),
            ("counts", BAND, 877, "[1, 2]", ("field record",)),
            ("counts", BAND, 5, drop("n_correct"), ("field n_correct", "required")),
            ("counts", BAND, 5, put(n_correct="3"), ("field n_correct", "integer", "got '3'")),
            ("counts", BAND, 5, put(n_correct=2.5), ("field n_correct", "integer", "got 2.5")),
            ("counts", BAND, 5, put(n_correct=True), ("field n_correct", "integer", "got True")),
            (
                "counts",
                BAND,
                5,
                put(n_correct=-1),
                ("field n_correct", "greater than or equal to 0", "got -1"),
            ),
            ("counts", BAND, 5, put(n_samples=0, n_correct=0), ("field n_samples", "got 0")),
            ("counts", BAND, 5, put(n_correct=9), ("n_correct=9 exceeds n_samples=8",)),
            ("counts", BAND, 2, put(band="all_one"), ("band='all_one'", "is 'all_zero'")),
            ("counts", BAND, 2, put(band="some"), ("field band", "got 'some'")),
            ("counts", BAND, 2, put(source="imo"), ("field source", "got 'imo'")),
            ("spread", SPREAD, 4, drop("mean_pairwise_dist"), ("field mean_pairwise_dist", "required")),
            ("spread", SPREAD, 4, put(mean_pairwise_dist=2.5), ("field mean_pairwise_dist", "got 2.5")),
            (
                "spread",
                SPREAD,
                4,
                put(mean_pairwise_dist=float("nan")),
                ("field mean_pairwise_dist", "finite"),
            ),
            ("spread", SPREAD, 4, put(len_mean=0), ("field len_mean", "got 0")),
            (
                "spread",
                SPREAD,
                4,
                put(label="panel_x"),
                ("field label", "'panel_x' is none of panel_postmath"),
            ),
            (
                "heldout",
                HELDOUT,
                2,
                put(heldout_mean=0.5),
                ("field heldout_mean", "0.5 is not the mean of by_source"),
            ),
            ("heldout", HELDOUT, 2, put(heldout_mean=1.5), ("field heldout_mean", "got 1.5")),
            (
                "heldout",
                HELDOUT,
                2,
                put(by_source={"aime": 0.05, "amc": 0.32, "hmmt": 0.0, "olympiadbench": 0.12}),
                ("field by_source.aime", "1.25 is no whole number of problems"),
            ),
            ("heldout", HELDOUT, 2, put(by_source={"imo": 0.04}), ("field by_source.imo",)),
            ("training", BATCHES, 100, drop("entropy"), ("field entropy", "required")),
            ("training", BATCHES, 1, put(tag_valid=1.01), ("field tag_valid", "got 1.01")),
            ("pool", POOL, 9, put(answer_type="float"), ("field answer_type", "got 'float'")),
            ("pool", POOL, 9, drop("uid"), ("field uid", "required")),
        ],
    )
    def test_is_named_by_file_line_and_field(self, published_copy, reader, name, line, edit, expected):
        edit_line(published_copy, name, line, edit)
        with pytest.raises(PublishedDataError) as error:
            READERS[reader](published_copy)
        message = str(error.value)
        assert message.startswith(f"{name}, line {line}")
        for part in expected:
            assert part in message
        assert len(message) < 700

    @pytest.mark.parametrize(
        ("reader", "name", "edit", "expected"),
        [
            (
                "counts",
                MATH,
                lambda r: r["per_problem"][2].pop("unique_id"),
                ("field per_problem.2.unique_id",),
            ),
            (
                "counts",
                MATH,
                lambda r: r["per_problem"][2].update(n_correct=5),
                ("field per_problem.2", "n_correct=5 exceeds n_samples=4"),
            ),
            ("counts", MATH, lambda r: r.update(per_problem=[]), ("field per_problem", "at least 1 item")),
            ("counts", AIME, lambda r: r.update(max_tokens="8192"), ("field max_tokens", "got '8192'")),
            ("buckets", TOKENS, lambda r: r.pop("aime"), ("field aime", "required")),
            (
                "buckets",
                TOKENS,
                lambda r: r["math"]["buckets"]["both_correct"].update(n=3.5),
                ("field math.buckets.both_correct.n", "got 3.5"),
            ),
            (
                "buckets",
                TOKENS,
                lambda r: r["math"]["wilcoxon_both_correct"].update(pvalue=2.0),
                ("field math.wilcoxon_both_correct.pvalue", "got 2.0"),
            ),
        ],
    )
    def test_in_a_json_file_is_named_by_file_and_path_of_the_field(
        self, published_copy, reader, name, edit, expected
    ):
        edit_json(published_copy, name, edit)
        with pytest.raises(PublishedDataError) as error:
            READERS[reader](published_copy)
        assert str(error.value).startswith(name)
        for part in expected:
            assert part in str(error.value)

    @pytest.mark.parametrize(("reader", "name"), [("counts", MATH), ("buckets", TOKENS)])
    def test_a_file_that_breaks_off_is_named(self, published_copy, reader, name):
        text = (published_copy / name).read_text(encoding="utf-8")
        (published_copy / name).write_text(text[: len(text) // 2], encoding="utf-8")
        with pytest.raises(PublishedDataError, match="is not valid JSON") as error:
            READERS[reader](published_copy)
        assert str(error.value).startswith(name)

    @pytest.mark.parametrize(
        ("reader", "name"),
        [
            ("counts", BAND),
            ("spread", SPREAD),
            ("buckets", TOKENS),
            ("heldout", HELDOUT),
            ("training", BATCHES),
            ("pool", POOL),
        ],
    )
    def test_a_missing_file_is_named_with_the_way_out(self, published_copy, reader, name):
        (published_copy / name).unlink()
        with pytest.raises(PublishedDataError, match="Run `panelbook fetch`") as error:
            READERS[reader](published_copy)
        assert str(error.value).startswith(name)

    def test_bytes_that_are_no_text_are_named(self, published_copy):
        (published_copy / BATCHES).write_bytes(b"\xff\xfe{}")
        with pytest.raises(PublishedDataError) as error:
            adapters.read_training(published_copy)
        assert BATCHES in str(error.value)


class TestDisagreement:
    def test_two_files_that_count_the_same_draws_differently_are_refused(self, published_copy):
        edit_line(published_copy, SPREAD, 1, put(n_correct=3))
        with pytest.raises(PublishedDataError) as error:
            adapters.read_counts(published_copy)
        for part in ("math500_s50", "'panel'", "test/algebra/1004.json", "4 of 4", "3 of 4"):
            assert part in str(error.value)

    def test_a_problem_counted_twice_is_refused(self, published_copy):
        lines = (published_copy / BAND).read_text(encoding="utf-8").splitlines()
        (published_copy / BAND).write_text("\n".join([*lines, lines[3]]) + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match="hmmt_feb_2024__3"):
            adapters.read_counts(published_copy)

    def test_a_split_with_a_problem_from_outside_the_pool_is_refused(self, published_copy):
        edit_line(published_copy, "data/olympiad_pool/panel_train.jsonl", 1, put(uid="stranger"))
        with pytest.raises(PublishedDataError, match=r"panel_train\.jsonl: uid 'stranger' is not in"):
            adapters.read_pool(published_copy)

    def test_a_line_ends_where_json_lines_end_and_nowhere_else(self, published_copy):
        before = adapters.read_counts(published_copy)
        record = json.loads((published_copy / BAND).read_text(encoding="utf-8").splitlines()[0])
        text = json.dumps(record | {"note": "a\u2028b\u0085c"}, ensure_ascii=False)
        edit_line(published_copy, BAND, 1, text)
        assert adapters.read_counts(published_copy).equals(before)

    def test_a_field_nobody_asked_for_is_ignored(self, published_copy):
        edit_line(published_copy, BAND, 1, put(note="new"))
        assert len(adapters.read_counts(published_copy)) > 0
