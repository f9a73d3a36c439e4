"""The case study: what is read of the published file, files of verdicts good and bad, and what the grader can read."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from panelbook.rollouts.casestudy import (
    ARMS,
    RATING_COLUMNS,
    STATED,
    VERDICTS,
    RatingError,
    cross_arms,
    cross_counts,
    grade_case_study,
    plain_number,
    read_case_study,
    read_ratings,
)
from panelbook.rollouts.published import PublishedDataError
from panelbook.rollouts.windows import TRANSCRIPTS
from panelbook.study.grading import Grader

ROOT = Path(__file__).resolve().parents[2]


def item(id_="a", expected="r = 5.", panel="5", thinking=r"So \boxed{5}"):
    """One problem as the published file has it."""
    said = {"panel": panel, "thinking": thinking}
    texts = {
        arm: {"raw": f"<t> x </t> {text}", "reasoning": "x", "answer": text} for arm, text in said.items()
    }
    asked = {"category": "Two routes", "problem": "How far?", "tests": "routes", "expected": expected}
    return {"id": id_, **asked, **texts}


def write_file(folder, items, **metadata):
    path = folder / TRANSCRIPTS
    path.parent.mkdir(parents=True)
    meta = {"max_tokens": 6000, "resamples": [{"ids": ["b"], "max_tokens": 9000}], **metadata}
    path.write_text(json.dumps({"items": items, "metadata": meta}), encoding="utf-8")
    return folder


@pytest.fixture
def transcripts(tmp_path):
    items = [item("a"), item("b", "8 days.", "9", "eight days"), item("c", "No; it depends.", "5", "No.")]
    return read_case_study(write_file(tmp_path, items))


class TestReading:
    def test_both_arms_of_every_problem_in_order(self, transcripts):
        assert list(transcripts["problem_id"]) == ["a", "a", "b", "b", "c", "c"]
        assert list(transcripts["arm"]) == list(ARMS) * 3
        assert transcripts.loc[0, ["question", "tests", "raw"]].tolist() == [
            "How far?",
            "routes",
            "<t> x </t> 5",
        ]

    def test_limits_of_repeated_draws_are_the_later_ones(self, transcripts):
        assert list(transcripts["max_tokens"]) == [6000, 6000, 6000, 9000, 6000, 6000]

    @pytest.mark.parametrize(
        "change",
        [
            {"panel": None},
            {"panel": {"raw": "x", "reasoning": None, "answer": "x"}},
            {"expected": 5},
            {"tests": None},
        ],
    )
    def test_a_record_that_is_not_as_expected_is_an_error_of_the_file(self, tmp_path, change):
        with pytest.raises(PublishedDataError, match=r"transcripts\.json.*panelbook fetch"):
            read_case_study(write_file(tmp_path, [item() | change]))

    def test_a_file_that_is_not_there_names_the_remedy(self, tmp_path):
        with pytest.raises(PublishedDataError, match="panelbook fetch"):
            read_case_study(tmp_path)

    @pytest.mark.published
    def test_the_published_file_has_twenty_problems_in_nine_categories(self, published_folder):
        table = read_case_study(published_folder)
        assert (len(table), table["problem_id"].nunique(), table["category"].nunique()) == (40, 20, 9)
        repeated = table[table["max_tokens"] == 16384]
        assert [(row.problem_id, row.arm) for row in repeated.itertuples()] == [
            (x, "thinking") for x in "cfn"
        ]


class TestRatings:
    rows = (("a", "panel", "right"), ("a", "thinking", "wrong"), ("b", "panel", "unclear"),
            ("b", "thinking", "right"), ("c", "panel", "wrong"), ("c", "thinking", "right"))  # fmt: skip

    def write(self, path, rows, heading="problem_id,arm,verdict,why"):
        path.write_text(
            "\n".join([heading, *(",".join([*row, "why"]) for row in rows)]) + "\n", encoding="utf-8"
        )
        return path

    def test_verdicts_come_in_the_order_of_the_transcripts(self, transcripts, tmp_path):
        found = read_ratings(self.write(tmp_path / "x.csv", self.rows[::-1]), transcripts)
        assert [tuple(row) for row in found[["problem_id", "arm", "verdict"]].to_numpy()] == list(self.rows)

    def test_blanks_and_a_missing_reason_are_allowed(self, transcripts, tmp_path):
        path = tmp_path / "x.csv"
        lines = [f" {a} ,{b}, {c},\r\n" for a, b, c in self.rows]
        path.write_bytes("".join([",".join(RATING_COLUMNS) + "\r\n", *lines]).encode())
        assert list(read_ratings(path, transcripts)["why"]) == [""] * 6

    @pytest.mark.parametrize(
        ("place", "row", "message"),
        [
            (3, ("b", "thinking", "Right"), r"line 5: verdict 'Right' is unknown.*right, wrong, unclear"),
            (0, ("z", "panel", "right"), r"line 2: problem_id 'z' is unknown.*a, b, c"),
            (1, ("a", "think", "right"), r"line 3: arm 'think' is unknown.*panel, thinking"),
            (2, ("a", "panel", "right"), r"line 4: a second verdict on problem 'a' of arm 'panel'"),
            (5, None, r"has 5 verdicts, and lacks 1; .* problem 'c' of arm 'thinking'"),
            (4, ("c", "panel", ""), r"line 6: verdict '' is unknown"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, transcripts, tmp_path, place, row, message):
        rows = [*self.rows[:place], *([row] if row else []), *self.rows[place + 1 :]]
        with pytest.raises(RatingError, match=message):
            read_ratings(self.write(tmp_path / "x.csv", rows), transcripts)

    @pytest.mark.parametrize("heading", ["problem_id,arm,verdict", "arm,problem_id,verdict,why", "a;b"])
    def test_other_columns_are_refused(self, transcripts, tmp_path, heading):
        with pytest.raises(RatingError, match="must have the columns problem_id, arm, verdict, why"):
            read_ratings(self.write(tmp_path / "x.csv", [], heading), transcripts)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00x", b'a,"b\n', b"a,b\n1,2,3,4\n1\n"])
    def test_what_is_no_table_is_refused(self, transcripts, tmp_path, content):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(RatingError, match=r"x\.csv"):
            read_ratings(tmp_path / "x.csv", transcripts)

    def test_a_missing_file_says_how_to_get_one(self, transcripts, tmp_path):
        with pytest.raises(RatingError, match=r"none\.csv is missing\. Download your verdicts"):
            read_ratings(tmp_path / "none.csv", transcripts)

    @pytest.mark.published
    def test_the_tracked_readings_are_whole_and_give_reasons(self, published_folder):
        table = read_case_study(published_folder)
        crossed = {}
        for name in ("first", "last_box"):
            found = read_ratings(ROOT / "params" / "ratings" / f"{name}.csv", table)
            assert set(found["verdict"]) <= set(VERDICTS)
            assert (found["why"].str.len() > 10).all()
            crossed[name] = cross_arms(found)
        assert crossed["last_box"] == cross_counts(**STATED, n_problems=20)

    @pytest.mark.published
    def test_the_tracked_reasons_quote_nothing_of_the_published_texts(self, published_folder):
        texts = " ".join((published_folder / TRANSCRIPTS).read_text(encoding="utf-8").lower().split())
        for path in (ROOT / "params" / "ratings").glob("*.csv"):
            for why in pd.read_csv(path)["why"]:
                words = why.lower().split()
                runs = [" ".join(words[i : i + 7]) for i in range(len(words) - 6)]
                assert not [run for run in runs if run in texts], why


class TestCounts:
    def test_by_hand(self, transcripts, tmp_path):
        found = read_ratings(TestRatings().write(tmp_path / "x.csv", TestRatings.rows), transcripts)
        assert cross_arms(found) == (0, 1, 2, 0)  # unclear is not right

    @pytest.mark.parametrize("counts", [(3, 2, 3, 5), (4, 4, 1, 5)])
    def test_impossible_counts_are_refused(self, counts):
        with pytest.raises(ValueError, match="check the counts"):
            cross_counts(*counts)


class TestGrader:
    @pytest.mark.parametrize(
        ("expected", "number"),
        [
            ("600. (10 times 60.)", "600"),
            ("$36.", "36"),
            ("0.5 hours (a remark).", "0.5"),
            ("13/27 ≈ 0.481, not 1/2.", "13/27"),
            ("N = 4 (the word).", "4"),
            ("~150 m³ × 1.2", None),
            ("Order ~2000 (so or so).", None),
            ("EV = $125 > $100", None),
            ("Any of 6, 7, 8.", None),
            ("2 or 3 depending on grouping", None),
            ("", None),
        ],
    )
    def test_plain_numbers(self, expected, number):
        assert plain_number(expected) == number

    def test_reads_what_it_can_and_knows_no_units(self, transcripts):
        with Grader(n_workers=1) as grader:
            found = grade_case_study(transcripts, grader)
        assert list(found["problem_id"]) == ["a", "a", "b", "b"]
        assert list(found["verdict"]) == ["right", "right", "wrong", "unclear"]

    def test_a_copy_of_the_published_file_with_its_items_gone_is_an_error(self, tmp_path):
        write_file(tmp_path, [])
        shutil.copy(tmp_path / TRANSCRIPTS, tmp_path / "x.json")
        (tmp_path / TRANSCRIPTS).write_text('{"metadata": {}}', encoding="utf-8")
        with pytest.raises(PublishedDataError):
            read_case_study(tmp_path)
