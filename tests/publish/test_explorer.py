"""An explorer's folder and its page in a notebook: what is in them, read back without the code that wrote it."""

import base64
import gzip
import hashlib
import html
import json
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panelbook.publish import explorer, explorer_data
from panelbook.publish.explorer import ExplorerError, explore, rollout_id, write_explorer
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS, STATUSES

CALL = re.compile(r'panelbookExplorer\.(index\(|shard\((\d+), )"([A-Za-z0-9+/=]*)"\);\n')
SAID = "<mutipersonaDebate> Ada : 3 + 4 = 7 . Ben : right . </mutipersonaDebate> <answer> 7 </answer>"


def draws(n_problems=3, n_samples=2, **changes):
    """Return a rollouts table of both arms."""
    rows = [
        {
            "study": "toy",
            "profile": "toy",
            "run_id": f"run {arm}",
            "benchmark": "sums",
            "problem_id": f"p{p}",
            "source": "even" if p % 2 == 0 else "odd",
            "arm": arm,
            "checkpoint": "base",
            "step": 0,
            "sample_id": s,
            "prompt_tokens": 3,
            "completion": SAID if arm == "panel" else f"<think> {p} . so . </think> <answer> {s} </answer>",
            "completion_tokens": 10 + s,
            "stop_reason": "stop",
            "predicted": str(s),
            "status": STATUSES[(p + s) % 2],
            "tag_valid": True,
            "reward": 1.0,
            "seed": 7,
            "temperature": 1.0,
            "max_tokens": 99,
        }
        for p in range(n_problems)
        for arm in ("think", "panel")
        for s in range(n_samples)
    ]
    return pd.DataFrame(rows).assign(**changes)


def read_call(text):
    """Return the number of a shard (None for the index) and what the call carries."""
    found = CALL.fullmatch(text)
    assert found, text[:80]
    packed = gzip.decompress(base64.b64decode(found[3], validate=True))
    assert packed.isascii()
    return (None if found[2] is None else int(found[2])), json.loads(packed)


def read_explorer(folder):
    """Return the index and the rows of every shard, as the page would have them."""
    _, index = read_call((folder / "data" / "index.js").read_text(encoding="ascii"))
    rows = []
    for number, shard in enumerate(index["shards"]):
        assert shard["first"] == len(rows)
        at, held = read_call((folder / shard["file"]).read_text(encoding="ascii"))
        assert at == number
        assert len(held["rows"]) == shard["n"]
        rows += held["rows"]
    assert {f"data/{path.name}" for path in (folder / "data").iterdir()} == {
        "data/index.js",
        *(shard["file"] for shard in index["shards"]),
    }
    return index, rows


@pytest.fixture
def write(tmp_path):
    """Return a function that writes an explorer and reads it back."""

    def call(*tables, **options):
        write_explorer(tmp_path / "explorer", *tables, **({"title": "toy"} | options))
        return read_explorer(tmp_path / "explorer")

    return call


class TestWriteExplorer:
    def test_every_column_has_a_value_for_every_draw_and_codes_point_into_lists(self, write):
        index, rows = write(draws())
        columns = index["columns"]
        assert {len(values) for values in columns.values()} == {12} == {len(rows)}
        named = "id problem arm study run checkpoint sample status stop tokens chars valid seed temperature"
        assert set(columns) == {*named.split(), "max_tokens", "predicted", "x", "y"}
        for column, listed in (
            ("problem", "problems"),
            ("arm", "arms"),
            ("study", "studies"),
            ("run", "runs"),
            ("checkpoint", "checkpoints"),
            ("status", "statuses"),
            ("stop", "stops"),
        ):
            assert 0 <= min(columns[column]) <= max(columns[column]) < len(index[listed])
        assert index["format"] == 1
        assert index["statuses"] == list(STATUSES)
        assert index["map"] is None
        assert columns["x"] == [None] * 12

    def test_rows_are_sorted_and_hold_what_the_table_holds(self, write):
        table = draws()
        index, rows = write(table.sample(frac=1, random_state=1))
        columns = index["columns"]
        names = [arm["name"] for arm in index["arms"]]
        assert names == ["panel", "think"]
        keys = list(
            zip(columns["problem"], columns["arm"], columns["checkpoint"], columns["sample"], strict=True)
        )
        assert keys == sorted(keys)
        for i, row in enumerate(rows):
            (truth,) = table[
                (table["problem_id"] == index["problems"][columns["problem"][i]]["id"])
                & (table["arm"] == names[columns["arm"][i]])
                & (table["sample_id"] == columns["sample"][i])
            ].to_dict("records")
            assert row["text"] == truth["completion"]
            assert columns["chars"][i] == len(truth["completion"])
            assert columns["tokens"][i] == truth["completion_tokens"]
            assert index["statuses"][columns["status"][i]] == truth["status"]
            assert index["runs"][columns["run"][i]] == truth["run_id"]
            assert columns["predicted"][i] == truth["predicted"]
            assert index["sources"][index["problems"][columns["problem"][i]]["source"]] == truth["source"]

    def test_texts_are_taken_apart_and_arms_have_a_style_and_a_colour(self, write):
        index, rows = write(draws())
        assert rows[0]["segments"] == [
            ["speech", "Ada", "3 + 4 = 7 ."],
            ["speech", "Ben", "right ."],
            ["answer", "", "7"],
        ]
        assert rows[0]["answer"] == "7"
        assert rows[2]["segments"][:2] == [["step", "", "0 ."], ["step", "", "so ."]]
        assert index["arms"] == [
            {"name": "panel", "colour": "#0072B2", "style": "voices"},
            {"name": "think", "colour": "#D55E00", "style": "steps"},
        ]

    def test_arms_that_the_book_does_not_know_have_colours_of_their_own(self, write):
        index, _ = write(draws().replace({"arm": {"panel": "debate"}}))
        assert [arm["name"] for arm in index["arms"]] == ["think", "debate"]
        assert index["arms"][0]["colour"] == "#D55E00" != index["arms"][1]["colour"]

    def test_the_same_draws_give_the_same_bytes_in_whatever_order(self, tmp_path):
        table = draws(40, 8)
        write_explorer(tmp_path / "a", table, title="t")
        write_explorer(tmp_path / "b", table.sample(frac=1, random_state=3), title="t")
        for path in (tmp_path / "a").rglob("*.*"):
            other = tmp_path / "b" / path.relative_to(tmp_path / "a")
            assert path.read_bytes() == other.read_bytes(), path

    def test_numbered_problems_and_checkpoints_come_in_their_order(self, write):
        table = draws(12).assign(source="one")
        later = table.assign(checkpoint="step10", step=10)
        early = table.assign(checkpoint="step9", step=9)
        index, _ = write(pd.concat([later, table, early]))
        assert [problem["id"] for problem in index["problems"]] == [f"p{i}" for i in range(12)]
        assert index["checkpoints"] == ["base", "step9", "step10"]

    def test_questions_by_benchmark_and_missing_ones(self, write):
        problems = pd.DataFrame(
            {
                "benchmark": ["other", "sums", "sums"],
                "problem_id": ["p0", "p0", "p1"],
                "question": ["no", "3 + 4 = ?", None],
                "gold": ["0", "7", "8"],
            }
        )
        index, _ = write(draws(), problems)
        asked = {problem["id"]: (problem["question"], problem["gold"]) for problem in index["problems"]}
        assert asked == {"p0": ("3 + 4 = ?", "7"), "p1": (None, "8"), "p2": (None, None)}
        index, _ = write(draws(), problems[problems["benchmark"] == "sums"].drop(columns="benchmark"))
        assert index["problems"][0]["question"] == "3 + 4 = ?"

    def test_places_and_neighbours_find_their_rows(self, write):
        table = draws()
        key = ["run_id", "arm", "checkpoint", "problem_id", "sample_id"]
        places = table[key].assign(x=np.arange(12) / 3, y=0.0).head(5)
        two = table[(table["problem_id"] == "p1") & (table["arm"] == "panel")]
        neighbours = two[key].assign(
            other_run_id="run panel",
            other_arm="panel",
            other_checkpoint="base",
            other_sample_id=[1, 0],
            relation=["near", "far"],
            rank=1,
            distance=[0.123456, 0.5],
        )
        absent = neighbours.head(1).assign(other_sample_id=9, rank=2)
        index, rows = write(table, None, places, pd.concat([neighbours, absent]))
        assert index["map"]["kind"] == "pca"
        columns = index["columns"]
        assert sorted(x for x in columns["x"] if x is not None) == [0.0, 0.3333, 0.6667, 1.0, 1.3333]
        ids = {rollout_id(row): i for i, row in table.iterrows()}
        for name, x in zip(columns["id"], columns["x"], strict=True):
            assert x == (None if ids[name] > 4 else round(ids[name] / 3, 4))
        one, other = (
            columns["id"].index(rollout_id(row)) for row in two.sort_values("sample_id").to_dict("records")
        )
        assert rows[one]["near"] == [[other, 0.1235]]
        assert rows[other]["far"] == [[one, 0.5]]
        assert rows[other]["near"] == rows[one]["far"] == []

    def test_a_table_with_four_columns_will_do(self, write):
        table = pd.DataFrame(
            {
                "arm": ["x", "x", "y"],
                "problem_id": [1, 1, 1],
                "completion": ["a", None, "b"],
                "correct": [True, 0, None],
            }
        )
        index, rows = write(table)
        columns = index["columns"]
        assert columns["sample"] == [0, 1, 0]
        assert [index["statuses"][i] for i in columns["status"]] == ["correct", "wrong", "ungraded"]
        assert [row["text"] for row in rows] == ["a", "", "b"]
        assert (
            columns["tokens"]
            == columns["seed"]
            == columns["temperature"]
            == columns["predicted"]
            == [None] * 3
        )
        assert index["problems"] == [{"id": "1", "benchmark": 0, "source": 0, "question": None, "gold": None}]

    def test_a_draw_as_long_as_its_limit_was_cut_off(self, write):
        index, _ = write(
            draws(1, 2).drop(columns="stop_reason").assign(completion_tokens=[98, 99, 98, 98], max_tokens=99)
        )
        assert sorted(index["stops"][i] for i in index["columns"]["stop"]) == [
            "length",
            "stop",
            "stop",
            "stop",
        ]

    def test_shards_are_cut_by_number_and_by_length(self, write, monkeypatch):
        monkeypatch.setattr(explorer, "SHARD_DRAWS", 5)
        index, _ = write(draws())
        assert [shard["n"] for shard in index["shards"]] == [5, 5, 2]
        monkeypatch.setattr(explorer, "SHARD_CHARACTERS", 100)
        table = draws(1, 2)
        table["completion"] = ["a" * 99, "b", "c" * 2000, "d"]
        index, _ = write(table)
        assert [shard["n"] for shard in index["shards"]] == [1, 2, 1]  # the panel comes first

    def test_an_explorer_is_replaced_and_anything_else_is_left_alone(self, write, tmp_path):
        write(draws(30, 20))
        index, _ = write(draws(1, 1))
        assert len(index["shards"]) == 1
        mine = tmp_path / "thesis"
        mine.mkdir()
        (mine / "chapter.tex").write_text("x")
        with pytest.raises(ExplorerError, match=r"holds 'chapter\.tex'"):
            write_explorer(mine, draws(), title="t")
        assert [path.name for path in mine.iterdir()] == ["chapter.tex"]


HOSTILE = [
    "</script><script>alert(1)</script>",
    "\0\x01\x1b[31m",
    "half \ud83d of a pair",
    '"); alert(1); ("',
    "<!-- <mutipersonaDebate>",
    "\u2028\u2029\ufeff",
    "x" * 1_000_000,
]


class TestHostileTexts:
    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_any_text_comes_back_as_it_was_and_stands_nowhere_in_clear(self, write, tmp_path, text):
        column = pd.Series([text, text], dtype=object)
        index, rows = write(draws(1, 1).assign(completion=column, predicted=column, problem_id=column))
        assert rows[0]["text"] == text
        assert index["columns"]["predicted"][0] == text[:80]
        assert index["problems"][0]["id"] == text
        for path in (tmp_path / "explorer" / "data").iterdir():
            assert "alert" not in path.read_text(encoding="ascii")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
    @given(st.lists(st.text(st.characters()), min_size=1, max_size=8))
    def test_whatever_is_said(self, write, texts):
        table = pd.DataFrame(
            {
                "arm": "panel",
                "problem_id": "p",
                "completion": pd.Series(texts, dtype=object),
                "status": "wrong",
            }
        )
        _, rows = write(table)
        assert [row["text"] for row in rows] == texts


class TestRefusals:
    @pytest.mark.parametrize("column", ["arm", "problem_id", "completion"])
    def test_a_missing_column_is_named(self, tmp_path, column):
        with pytest.raises(ExplorerError, match=f"no column '{column}'; there are "):
            write_explorer(tmp_path / "x", draws().drop(columns=column), title="t")
        assert not (tmp_path / "x").exists()

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (draws().drop(columns="status"), "neither 'status' nor 'correct'"),
            (draws().head(0), "no row"),
            (draws().assign(status="excellent"), "got 'excellent'"),
            (
                pd.concat([draws(), draws().head(1)]),
                "1 draws repeat another; the first is run_id='run think'",
            ),
            (draws().assign(sample_id="second"), "sample_id must hold whole numbers; got 'second'"),
        ],
        ids=["ungraded", "empty", "status", "twice", "number"],
    )
    def test_what_cannot_be_shown_is_refused_in_words(self, tmp_path, table, message):
        with pytest.raises(ExplorerError, match=message):
            write_explorer(tmp_path / "x", table, title="t")

    def test_neighbours_of_another_kind(self, tmp_path):
        with pytest.raises(ExplorerError, match="places: there is no column 'run_id'"):
            write_explorer(tmp_path / "x", draws(), None, pd.DataFrame({"x": [1]}), title="t")


class TestRolloutId:
    def test_is_made_of_the_key_alone_and_known_without_this_code(self):
        row = draws().iloc[0]
        text = "\x1f".join(["run think", "think", "base", "p0", "0"])
        assert rollout_id(row) == hashlib.sha256(text.encode()).hexdigest()[:10]
        assert rollout_id(row.to_dict() | {"status": "timeout"}) == rollout_id(row)

    def test_what_a_table_lacks_counts_as_the_explorer_fills_it_in(self, write):
        index, _ = write(
            pd.DataFrame({"arm": ["a"], "problem_id": ["p"], "completion": [""], "status": ["wrong"]})
        )
        assert index["columns"]["id"] == [rollout_id({"arm": "a", "problem_id": "p"})]

    def test_two_draws_never_share_one(self, write, monkeypatch):
        short = explorer_data._hash
        monkeypatch.setattr(explorer_data, "_hash", lambda key, again=0: short(key, again)[:1])
        index, _ = write(draws(4, 1))
        assert len(set(index["columns"]["id"])) == 8


class TestExplore:
    def test_the_page_holds_all_and_loads_nothing(self):
        frame = explore(draws(), title="mine")
        markup = frame._repr_html_()
        (srcdoc,) = re.findall(r'srcdoc="([^"]*)"', markup)
        page = html.unescape(srcdoc)
        assert page == frame.page
        assert 'sandbox="allow-scripts' in markup
        assert "allow-same-origin" not in markup
        assert not re.search(r'<(?:script|link|img)[^>]*(?:src|href)="(?!data:)', page)
        calls = [read_call(found[0]) for found in CALL.finditer(page)]
        assert {number for number, _ in calls} == {None, 0}
        (index,) = (data for number, data in calls if number is None)
        assert index["title"] == "mine"
        assert index["back"] is None

    def test_nothing_in_the_page_ends_a_script_early(self):
        page = explore(draws(1).assign(completion="</script><b>", problem_id="</style>")).page
        scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", page, re.S)
        assert len(scripts) == page.count("<script") == len(re.findall("</script", page))
        assert not any("<!--" in script for script in scripts)

    def test_more_than_a_notebook_should_hold_is_refused_with_the_way_out(self, monkeypatch):
        monkeypatch.setattr(explorer, "INLINE_DRAWS", 3)
        with pytest.raises(
            ExplorerError, match=r"12 draws .* at most 3 .*`panelbook explore draws\.parquet`"
        ):
            explore(draws())
        monkeypatch.undo()
        monkeypatch.setattr(explorer, "INLINE_CHARACTERS", 100)
        with pytest.raises(ExplorerError, match="100"):
            explore(draws())

    def test_its_height_can_be_chosen(self):
        assert "height: 300px" in explore(draws(), height=300)._repr_html_()


@pytest.mark.slow
def test_fifty_thousand_draws_take_seconds_and_little_room(tmp_path):
    table = pd.concat([draws(250, 10).assign(run_id=f"run {i}") for i in range(10)], ignore_index=True)
    assert len(table) == 50_000
    assert set(table.columns) == set(ROLLOUTS_COLUMNS)
    table["completion"] = table["completion"] + [f" {i % 9973}" for i in range(len(table))]
    started = time.process_time()
    write_explorer(tmp_path / "x", table, title="t")
    assert time.process_time() - started < 20
    assert sum(path.stat().st_size for path in (tmp_path / "x").rglob("*.js")) < 8e6
