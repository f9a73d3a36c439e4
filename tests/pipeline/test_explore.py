"""Which draws an explorer holds, when it is made again, the page that shows it, and the command."""

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from toy_book import make_checkout

from panelbook.pipeline import explore, stages
from panelbook.pipeline.params import LiveParams, MapParams, PublishedDataParams, RolloutsParams
from panelbook.pipeline.stages import STAGES, Stage, StageRun
from panelbook.publish.explorer import rollout_id
from panelbook.rollouts.schema import ROLLOUTS_COLUMNS


def draws(arm, *, step=0, study="toy", right=lambda p, s: False, **changes):
    """Return a rollouts table of one arm: three problems, two draws each."""
    rows = [
        {
            "study": study,
            "profile": "toy",
            "run_id": f"{arm} {step > 0}",
            "benchmark": "sums",
            "problem_id": f"p{p}",
            "source": "s",
            "arm": arm,
            "checkpoint": f"step{step}" if step else "base",
            "step": step,
            "sample_id": s,
            "prompt_tokens": 3,
            "completion": f"<think> {p} </think> <answer> {s} </answer>",
            "completion_tokens": 9,
            "stop_reason": "stop",
            "predicted": str(s),
            "status": "correct" if right(p, s) else "wrong",
            "tag_valid": True,
            "reward": 0.0,
            "seed": 1,
            "temperature": 1.0,
            "max_tokens": 20,
        }
        for p in range(3)
        for s in range(2)
    ]
    return pd.DataFrame(rows).astype(ROLLOUTS_COLUMNS).assign(**changes)


def write(project, run, name, table):
    folder = project.root / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / name, index=False)


@pytest.fixture
def project(tmp_path):
    """Return a checkout in which two arms have been drawn from and one has been trained."""
    return make_checkout(tmp_path / "toy")


@pytest.fixture
def runs(project):
    rollouts = [StageRun(STAGES["rollouts"], "toy", arm, RolloutsParams()) for arm in ("panel", "think")]
    train = StageRun(STAGES["train"], "toy", "panel_1", LiveParams())
    write(project, rollouts[0], "rollouts.parquet", draws("panel", right=lambda p, s: p == 0))
    write(project, rollouts[1], "rollouts.parquet", draws("think", right=lambda p, s: p == 1))
    write(project, train, "training_rollouts.parquet", draws("panel", step=5, stop_reason="length"))
    return [*rollouts, train]


class TestFindTables:
    def test_every_table_that_the_runs_have_left(self, project, runs):
        problems = StageRun(STAGES["problems"], "toy", "sums", LiveParams())
        write(project, problems, "problems.parquet", pd.DataFrame({"problem_id": ["p0"]}))
        planned = StageRun(STAGES["map"], "toy", "sums", LiveParams())  # not executed yet
        found = explore.find_tables(project, [*runs, problems, planned])
        assert [path.name for path in found.rollouts] == [
            "rollouts.parquet",
            "rollouts.parquet",
            "training_rollouts.parquet",
        ]
        assert [path.name for path in found.problems] == ["problems.parquet"]
        assert found.places == found.neighbours == ()
        assert found.transcripts is None

    def test_draws_of_an_import_and_of_a_variant_but_no_variants_map(self, project, runs):
        imported = project.runs / "toy" / "imported"
        imported.mkdir(parents=True)
        draws("debate").to_parquet(imported / "rollouts.parquet")
        variant = dataclasses.replace(runs[0], variant="temperature=2")
        write(project, variant, "rollouts.parquet", draws("panel"))
        lay = StageRun(STAGES["map"], "toy", "sums", LiveParams())
        for run in (lay, dataclasses.replace(lay, variant="encoder=x")):
            write(project, run, "map.parquet", pd.DataFrame({"x": [1]}))
        found = explore.find_tables(
            project, [*runs, variant, lay, dataclasses.replace(lay, variant="encoder=x")]
        )
        assert [path.parent.name for path in found.rollouts] == [
            "panel",
            "think",
            "panel_1",
            "temperature=2",
            "imported",
        ]
        assert [path.parent.name for path in found.places] == ["sums"]

    @pytest.mark.published
    def test_published_transcripts_where_a_run_reads_published_files(self, project, runs, published_folder):
        reader = StageRun(STAGES["published_data"], "toy", "all", PublishedDataParams())
        assert explore.find_tables(project, runs).transcripts is None
        assert explore.find_tables(project, [*runs, reader]).transcripts == published_folder
        assert explore.find_tables(project, [*runs, reader], transcripts=False).transcripts is None


@pytest.mark.published
def test_published_transcripts_are_a_study_that_nobody_graded(published_folder, tmp_path):
    table, problems = explore.read_published_draws(published_folder)
    assert len(table) == 40
    assert len(problems) == 20
    truth = json.loads((published_folder / "reports/case_study/transcripts.json").read_text(encoding="utf-8"))
    first = table[(table["problem_id"] == truth["items"][0]["id"]) & (table["arm"] == "thinking")]
    assert first["completion"].item() == truth["items"][0]["thinking"]["raw"]
    assert table["status"].isna().all()
    tables = explore.Tables(rollouts=(), transcripts=published_folder)
    drawn = explore.write_tables(tables, tmp_path / "x", title="t")
    assert len(drawn) == 40
    assert [label for label, _ in explore.list_views(drawn)] == ["the published transcripts"]


class TestStageExplorer:
    def test_it_is_made_once_and_again_when_a_table_has_changed(self, project, runs):
        first = explore.stage_explorer(project, runs)
        page = first.folder / "index.html"
        made = page.stat().st_mtime_ns
        assert explore.stage_explorer(project, runs) == first
        assert page.stat().st_mtime_ns == made
        write(project, runs[0], "rollouts.parquet", draws("panel", right=lambda p, s: True))
        again = explore.stage_explorer(project, runs)
        assert page.stat().st_mtime_ns > made
        assert again.page != first.page

    def test_a_build_that_was_killed_halfway_leaves_none_to_be_taken_for_whole(
        self, project, runs, monkeypatch
    ):
        monkeypatch.setattr(explore, "write_page", lambda draws: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            explore.stage_explorer(project, runs)
        monkeypatch.undo()
        assert explore.stage_explorer(project, runs).folder.is_dir()

    def test_a_profile_without_draws_has_none_and_the_page_says_so(self, project):
        staged = explore.stage_explorer(project, [])
        assert staged.folder is None
        assert "no draw to explore" in staged.page
        assert "iframe" not in staged.page

    def test_an_import_without_texts_has_none(self, project, runs):
        for run, name in zip(runs, ("rollouts",) * 2 + ("training_rollouts",), strict=True):
            write(project, run, f"{name}.parquet", draws("panel", completion=""))
        assert explore.stage_explorer(project, runs).folder is None

    def test_a_variant_with_the_draws_of_its_baseline_adds_none(self, project, runs):
        variant = dataclasses.replace(runs[0], variant="label=x")
        write(project, variant, "rollouts.parquet", draws("panel", right=lambda p, s: p == 0))
        assert (
            "It holds 18 draws of 3 problems by 2 arms."
            in explore.stage_explorer(project, [*runs, variant]).page
        )


class TestPage:
    def test_views_are_those_that_show_something(self, runs, project):
        tables = explore.find_tables(project, runs)
        drawn = pd.concat([pd.read_parquet(path) for path in tables.rollouts])
        views = {label: address.split("&", 1) for label, address in explore.list_views(drawn)}
        assert {label: address for label, (_, address) in views.items()} == {
            "problems that only panel ever solves": "study=toy&checkpoint=base&outcome=only%3Apanel",
            "problems that only think ever solves": "study=toy&checkpoint=base&outcome=only%3Athink",
            "problems that no arm solves": "study=toy&checkpoint=base&outcome=none",
            "draws of the last checkpoint, step5": "study=toy&checkpoint=step5",
            "draws cut off at the limit": "stop=length",
        }
        opened = {f"#r={rollout_id(row)}": row for row in drawn.to_dict("records")}
        rows = [opened[address] for address, _ in views.values()]
        assert [row["arm"] for row in rows[:2]] == ["panel", "think"]
        assert [row["problem_id"] for row in rows[:3]] == ["p0", "p1", "p2"]
        assert [row["status"] for row in rows[:3]] == ["correct", "correct", "wrong"]
        assert [row["checkpoint"] for row in rows[3:]] == ["step5", "step5"]
        dull = draws("panel", right=lambda p, s: True)
        assert explore.list_views(dull) == []
        assert "&valid=not+valid" in str(explore.list_views(dull.assign(tag_valid=False)))
        assert "status=no_answer" in str(explore.list_views(dull.assign(status="no_answer")))

    def test_names_are_escaped_on_the_page(self):
        arms = [draws("<b>&", right=lambda p, s: True), draws("o")]
        page = explore.write_page(pd.concat(arms))
        assert "<b>" not in page
        assert "problems that only &lt;b&gt;&amp; ever solves" in page
        assert "&amp;study=toy&amp;checkpoint=base&amp;outcome=only%3A%3Cb%3E%26" in page
        assert 'loading="lazy"' in page
        assert "<noscript>" in page


@pytest.fixture
def served(monkeypatch):
    """Collect what would be served instead of waiting for Ctrl-C."""
    found = []

    def look(folder, port, say, *, open_browser):
        text = (folder / "data" / "index.js").read_text()
        found.append((folder, port, open_browser, sorted(path.name for path in folder.iterdir()), text))

    monkeypatch.setattr("panelbook.pipeline.serve.serve", look)
    return found


def read_index(text):
    import base64
    import gzip

    return json.loads(gzip.decompress(base64.b64decode(text.split('"')[1])))


class TestCommand:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "mine.jsonl"
        rows = [
            {"model": arm, "question_id": "q1", "response": f"so {arm}", "is_correct": i}
            for i, arm in enumerate("ab")
        ]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return path

    def test_a_file_of_another_tool_is_served_from_a_folder_that_is_gone_afterwards(
        self, panelbook, served, file
    ):
        assert panelbook("explore", file, "--no-open", "--port", "0")[0] == 0
        ((folder, port, opens, names, text),) = served
        assert (port, opens, names) == (0, False, ["data", "explorer.css", "explorer.js", "index.html"])
        assert not folder.exists()
        index = read_index(text)
        assert index["title"] == "Rollouts: mine.jsonl"
        assert [arm["name"] for arm in index["arms"]] == ["a", "b"]
        assert [index["statuses"][i] for i in index["columns"]["status"]] == ["wrong", "correct"]

    def test_a_folder_to_keep_with_questions(self, panelbook, served, file, tmp_path):
        asked = tmp_path / "asked.csv"
        asked.write_text("problem_id,question,gold\nq1,how many?,07\n", encoding="utf-8")
        status, out, _ = panelbook("explore", file, "--problems", asked, "--write", tmp_path / "kept")
        assert (status, served) == (0, [])
        assert out.strip().endswith("kept/index.html")
        index = read_index((tmp_path / "kept" / "data" / "index.js").read_text())
        assert index["problems"][0]["question"] == "how many?"
        assert index["problems"][0]["gold"] == "07"

    def test_two_files_with_equal_draws_are_two_runs(self, panelbook, served, file, tmp_path):
        other = tmp_path / "other.jsonl"
        other.write_bytes(file.read_bytes())
        assert panelbook("explore", file, other)[0] == 0
        assert read_index(served[0][4])["runs"] == ["mine.jsonl", "other.jsonl"]

    def test_a_table_of_the_book_keeps_its_ids(self, panelbook, served, tmp_path):
        table = draws("panel")
        table.to_parquet(tmp_path / "rollouts.parquet")
        assert panelbook("explore", tmp_path / "rollouts.parquet")[0] == 0
        ids = read_index(served[0][4])["columns"]["id"]
        assert set(ids) == {rollout_id(row) for row in table.to_dict("records")}

    def test_without_files_all_draws_of_the_profile(self, panelbook, served, project, runs, monkeypatch):
        monkeypatch.chdir(project.root)
        monkeypatch.setattr(stages, "plan", lambda project, profile: runs)
        assert panelbook("explore", "--profile", "toy")[0] == 0
        index = read_index(served[0][4])
        assert len(index["columns"]["id"]) == 18
        assert index["checkpoints"] == ["base", "step5"]
        assert served[0][2] is True

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("absent.jsonl", None, "absent.jsonl"),
            ("counts.csv", "arm,problem_id,n,c\na,p,4,2\n", "holds counts"),
            ("silent.csv", "arm,problem_id,correct\na,p,1\n", "no text to read"),
            ("broken.jsonl", "{", "line 1"),
            ("draws.xlsx", "x", "draws.xlsx"),
        ],
    )
    def test_a_file_that_holds_no_texts_is_refused_in_words(
        self, panelbook, served, tmp_path, name, text, expected
    ):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
        status, out, err = panelbook("explore", tmp_path / name)
        assert (status, served) == (1, [])
        assert expected in err
        assert "Traceback" not in out + err

    def test_a_profile_that_was_never_built(self, panelbook, served, project, runs, monkeypatch):
        monkeypatch.chdir(project.root)
        monkeypatch.setattr(stages, "plan", lambda project, profile: [])
        status, _, err = panelbook("explore", "--profile", "toy")
        assert status == 1
        assert "panelbook build --profile toy" in err
        assert panelbook("explore", "--problems", "x.csv")[0] == 1

    def test_questions_that_cannot_be_read(self, panelbook, served, file, tmp_path):
        status, _, err = panelbook("explore", file, "--problems", tmp_path / "asked.txt")
        assert status == 1
        assert "asked.txt" in err

    def test_help_shows_how(self, panelbook):
        status, out, _ = panelbook("explore", "--help")
        assert status == 0
        for text in ("panelbook explore draws.jsonl --problems questions.jsonl", "--write", "127.0.0.1"):
            assert text in out


def test_the_hand_written_page_includes_what_is_made():
    page = (Path(__file__).parents[2] / "book" / "explore.md").read_text(encoding="utf-8")
    assert f"```{{include}} generated/{explore.PAGE}\n```" in page
    assert f"{explore.FOLDER}.html" == "explore.html"


def test_the_keys_on_the_page_are_those_of_the_explorer():
    root = Path(__file__).parents[2]
    known = re.findall(
        r'^  \["([^"]+)", "', (root / "web/src/explorer/help.tsx").read_text(encoding="utf-8"), re.M
    )
    told = re.findall(r"\{kbd\}`([^`]+)`", (root / "book" / "explore.md").read_text(encoding="utf-8"))
    assert sorted(told) == sorted(key for keys in known for key in keys.split("  "))


def test_only_declared_files_are_looked_for():
    written = {name for stage in STAGES.values() for name in stage.writes}
    assert {*explore.ROLLOUTS, "problems.parquet", "map.parquet", "neighbours.parquet"} <= written
    assert isinstance(STAGES["map"], Stage)


@pytest.mark.parametrize("name", ["n_embedded", "window_chars", "n_neighbours"])
def test_a_map_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        MapParams(**{name: 0})
