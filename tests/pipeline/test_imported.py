"""Imports end to end without a kernel: names, arms, chapters, files, the first page and the command."""

import json
import os

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import copy_checkout, run_panelbook

from panelbook.pipeline import book
from panelbook.pipeline.imported import (
    HEADER,
    ImportRefused,
    check_name,
    choose_arms,
    choose_chapters,
    write_front,
    write_import,
)
from panelbook.pipeline.notebook import write_notebook
from panelbook.pipeline.run import StageFailed
from panelbook.pipeline.stages import STAGES, plan
from panelbook.pipeline.tasks import run_all
from panelbook.project import Project
from panelbook.rollouts.imports import Options, read_imports

TWO_ARM = {
    "pass_at_k",
    "reliability",
    "closure",
    "hard_problems",
    "token_efficiency",
    "budget",
    "variance_band",
    "signal",
}
SPREAD = {"diversity", "multiverse"}


def make_rows(n=4, arms=("debate", "mono"), problems=("p1", "p2", "p3"), **changes):
    """Return n draws of each arm on each problem, of which the first is right."""
    return [
        {
            "arm": arm,
            "problem_id": problem,
            "correct": i == 0,
            "completion_tokens": 10 + i,
            "completion": "text",
            **changes,
        }
        for arm in arms
        for problem in problems
        for i in range(n)
    ]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a checkout whose notebooks are titles alone, as the working directory."""
    root = tmp_path / "checkout"
    for folder in ("notebooks", "params", "book"):
        (root / folder).mkdir(parents=True)
    (root / "_config.yml").write_text("title: a book\n", encoding="utf-8")
    (root / "params" / "base.yml").write_text("stages: {}\n", encoding="utf-8")
    for stage in STAGES.values():
        cell = nbformat.v4.new_markdown_cell(f"(ch-{stage.name})=\n# What of {stage.name}?", id="md-01")
        write_notebook(nbformat.v4.new_notebook(cells=[cell]), root / "notebooks" / stage.notebook)
    monkeypatch.chdir(root)
    return Project(root.resolve())


@pytest.fixture
def read(tmp_path):
    """Return a function that imports rows as the study `mine`."""

    def call(rows, **options):
        return read_imports([write_rows(tmp_path / "draws.jsonl", rows)], Options("mine", **options))

    return call


class TestName:
    @pytest.mark.parametrize(
        "name", ["", "my import", "../x", "a/b", "7b", "_x", "ä", "a.b", "x" * 41, "html", "source"]
    )
    def test_a_name_that_is_no_plain_word_is_refused(self, project, name):
        with pytest.raises(ImportRefused, match="--name"):
            check_name(project, name)

    @pytest.mark.parametrize("name", ["mine", "Qwen_2", "x"])
    def test_a_plain_word_is_fine(self, project, name):
        check_name(project, name)

    def test_a_profile_of_the_book_is_never_replaced(self, project):
        for force in (False, True):
            with pytest.raises(ImportRefused, match=r"params/base.yml is there already.*Give another --name"):
                check_name(project, "base", force=force)

    def test_an_earlier_import_is_replaced_by_force_alone(self, project):
        (project.params / "mine.yml").write_text(HEADER, encoding="utf-8")
        with pytest.raises(ImportRefused, match="Give --force"):
            check_name(project, "mine")
        check_name(project, "mine", force=True)


class TestArms:
    def test_the_only_two_arms_need_not_be_named(self, read):
        assert choose_arms(read(make_rows()).counts) == ("debate", "mono")

    def test_the_order_asked_for_is_kept(self, read):
        assert choose_arms(read(make_rows()).counts, "mono", "debate") == ("mono", "debate")

    def test_one_arm_is_refused_and_listed(self, read):
        with pytest.raises(ImportRefused, match=r"there is one: 'debate' \(3 problems\).*--arm"):
            choose_arms(read(make_rows(arms=["debate"])).counts)

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ("", "", "--first is not given"),
            ("a", "", "--second is not given"),
            ("a", "d", "--second 'd' is not among the arms"),
            ("a", "a", "--first and --second are both 'a'"),
        ],
    )
    def test_of_three_arms_two_have_to_be_named(self, read, first, second, expected):
        with pytest.raises(ImportRefused, match=expected) as error:
            choose_arms(read(make_rows(arms="abc")).counts, first, second)
        assert "'c' (3 problems)" in str(error.value)

    def test_one_of_two_arms_named_leaves_the_other_open(self, read):
        with pytest.raises(ImportRefused, match="--second is not given"):
            choose_arms(read(make_rows()).counts, "mono", "")

    def test_arms_without_a_common_problem_are_refused_with_examples(self, read):
        rows = make_rows(arms=["a"], problems=["x1"]) + make_rows(arms=["b"], problems=["y1"])
        with pytest.raises(ImportRefused, match=r"share no problem.*a: mine/x1; b: mine/y1"):
            choose_arms(read(rows).counts)

    def test_like_ids_of_two_benchmarks_are_no_common_problem(self, read):
        rows = make_rows(arms=["a"], benchmark="u") + make_rows(arms=["b"], benchmark="v")
        with pytest.raises(ImportRefused, match=r"a: u/p1.*b: v/p1.*--benchmark"):
            choose_arms(read(rows).counts)


class TestChapters:
    def test_full_draws_get_every_chapter_of_two_arms(self, read):
        stages, left_out = choose_chapters("mine", read(make_rows(8)), "debate", "mono")
        assert set(stages) == TWO_ARM
        assert {case.stage for case in left_out} == SPREAD
        values = stages["signal"]["mine"]
        assert values["counts"] == "runs/mine/imported/counts.parquet"
        assert (values["first"], values["second"], values["group_size"]) == ("debate", "mono", 8)

    @pytest.mark.parametrize(
        ("column", "value", "stages"),
        [
            ("predicted", "2", {"reliability", "budget", "token_efficiency"}),
            ("tag_valid", True, {"signal", "token_efficiency"}),
            ("reward", 0.5, {"token_efficiency"}),  # reads lengths and grades, which every draw has
        ],
    )
    def test_a_chapter_reads_single_draws_where_what_it_counts_was_recorded(
        self, read, column, value, stages
    ):
        found, _ = choose_chapters("mine", read(make_rows(8, **{column: value})), "debate", "mono")
        path = "runs/mine/imported/rollouts.parquet"
        assert {
            stage for stage, groups in found.items() if groups["mine"].get("rollouts") == [path]
        } == stages

    def test_embedding_is_asked_for(self, read):
        stages, left_out = choose_chapters("mine", read(make_rows()), "debate", "mono", embed=True)
        assert set(stages) == TWO_ARM | SPREAD | {"embed"}
        assert left_out == []
        assert stages["multiverse"]["mine"]["window_chars"] == len("text") // 3
        assert not stages["multiverse"]["mine"]["turns"]
        assert not stages["embed"]["all"]["turns"]

    def test_there_is_nothing_to_embed_without_texts(self, read):
        stages, left_out = choose_chapters(
            "mine", read(make_rows(completion="")), "debate", "mono", embed=True
        )
        assert not {"embed", "diversity"} & set(stages)
        assert {case.reason for case in left_out} == {"there are no completions to embed"}

    @pytest.mark.parametrize(("n", "size"), [(2, 2), (3, 2), (4, 4), (7, 4), (100, 8)])
    def test_a_group_is_no_larger_than_the_draws(self, read, n, size):
        stages, _ = choose_chapters("mine", read(make_rows(n)), "debate", "mono")
        assert stages["variance_band"]["mine"]["group_size"] == size

    def test_without_token_counts_the_chapters_on_tokens_go(self, read):
        rows = [{k: v for k, v in row.items() if k != "completion_tokens"} for row in make_rows()]
        stages, left_out = choose_chapters("mine", read(rows), "debate", "mono")
        assert set(stages) == TWO_ARM - {"token_efficiency", "budget"}
        assert stages["signal"]["mine"]["rollouts"] == []
        assert {c.reason for c in left_out if c.stage == "budget"} == {"no token counts for arm 'debate'"}

    def test_unequal_numbers_of_draws_have_no_band(self, read):
        rows = make_rows(3, problems=["p1"]) + make_rows(5, problems=["p2"])
        stages, left_out = choose_chapters("mine", read(rows), "debate", "mono")
        assert set(stages) == TWO_ARM - {"variance_band", "signal"}
        assert "3 to 5" in next(case.reason for case in left_out if case.stage == "signal")

    def test_single_draws_leave_cost_alone(self, read):
        stages, left_out = choose_chapters("mine", read(make_rows(1)), "debate", "mono")
        assert set(stages) == {"token_efficiency", "budget"}
        assert "has one" in next(case.reason for case in left_out if case.stage == "pass_at_k")

    def test_every_benchmark_that_both_arms_have_is_a_group(self, read):
        rows = [r for b in ("MATH-500 (L5)", "MATH 500 L5", "数学") for r in make_rows(benchmark=b)]
        rows += make_rows(arms=["debate"], benchmark="alone")
        stages, _ = choose_chapters("mine", read(rows), "debate", "mono")
        groups = {group: values["benchmark"] for group, values in stages["pass_at_k"].items()}
        assert groups == {"MATH_500_L5": "MATH 500 L5", "MATH_500_L5_2": "MATH-500 (L5)", "all": "数学"}


class TestFiles:
    def test_tables_and_profile_are_written_and_the_profile_plans(self, project, read):
        imported = read(make_rows(8))
        written = write_import(project, "mine", imported, "debate", "mono", embed=True)
        assert written.files == (
            "runs/mine/imported/counts.parquet",
            "runs/mine/imported/rollouts.parquet",
            "params/mine.yml",
        )
        for name, table in (("counts", imported.counts), ("rollouts", imported.rollouts)):
            pd.testing.assert_frame_equal(
                pd.read_parquet(project.runs / f"mine/imported/{name}.parquet"), table
            )
        runs = {run.stage.name: run for run in plan(project, "mine")}
        assert set(runs) == TWO_ARM | SPREAD | {"embed"}
        assert {run.params.study for run in runs.values()} == {"mine"}
        assert not any(run.params.needs_published for run in runs.values())
        assert runs["pass_at_k"].inputs == ("runs/mine/imported/counts.parquet",)
        assert runs["diversity"].inputs == ("runs/mine/embed/all/spread.parquet",)

    def test_the_profile_is_plain_yaml_that_says_where_it_is_from(self, project, read):
        write_import(project, "mine", read(make_rows(arms=["α: x", "b #2"])), "α: x", "b #2")
        text = (project.params / "mine.yml").read_text(encoding="utf-8")
        assert text.startswith("# Written by `panelbook import`")
        assert "α" in text
        assert yaml.safe_load(text)["stages"]["closure"]["mine"]["second"] == "b #2"

    def test_the_title_of_the_book_holds_no_markup(self, project, read):
        """The theme repeats the title of the first page in the sidebar of every page, and does not escape it."""
        first, second = '<img src=x onerror="window.pwned=1">', "&lt;b&gt; <script>"
        write_import(project, "mine", read(make_rows(arms=[first, second])), first, second)
        page = (project.runs / "mine" / "imported" / "front.md").read_text(encoding="utf-8")
        (title,) = [line for line in page.splitlines() if line.startswith("# ")]
        assert not set(title) & set('<>"')
        assert "img src=x" in title

    def test_what_an_earlier_import_left_does_not_stay(self, project, read):
        rows = make_rows()
        write_import(project, "mine", read([*rows, {"arm": "x"}], skip_broken=True), "debate", "mono")
        folder = project.runs / "mine" / "imported"
        assert len((folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 1
        bare = [{k: v for k, v in row.items() if k != "completion_tokens"} for row in rows]
        write_import(project, "mine", read(bare), "debate", "mono")
        assert {path.name for path in folder.iterdir()} == {"counts.parquet", "front.md"}

    def test_rejected_rows_are_written_whole_with_place_and_reason(self, project, read):
        broken = make_rows()[0] | {"correct": "?", "problem_id": "ß"}
        write_import(project, "mine", read([*make_rows(), broken], skip_broken=True), "debate", "mono")
        (line,) = (project.runs / "mine/imported/rejected.jsonl").read_text(encoding="utf-8").splitlines()
        case = json.loads(line)
        assert case["where"].endswith("draws.jsonl, line 25")
        assert "correct is '?'" in case["reason"]
        assert case["record"] == broken

    def test_draws_that_allow_no_chapter_are_refused_before_anything_is_written(self, project, read):
        rows = [{k: v for k, v in row.items() if k != "completion_tokens"} for row in make_rows(1)]
        with pytest.raises(ImportRefused, match=r"these draws allow no chapter.*no token counts"):
            write_import(project, "mine", read(rows), "debate", "mono")
        assert not (project.params / "mine.yml").exists()
        assert not project.runs.exists()


class TestFront:
    def test_it_says_what_was_read_taken_and_left_out(self, project, read):
        imported = read(make_rows(arms="abc", extra=1) + make_rows(arms="a", problems=["p9"]))
        written = write_import(project, "mine", imported, "a", "b")
        text = (project.runs / "mine" / "imported" / "front.md").read_text(encoding="utf-8")
        assert "# mine: `a` and `b`" in text
        assert "| `mine` | `a` | 4 | 16 | 4 |" in text
        assert "| `correct` | `correct` | draws.jsonl |" in text
        assert "*What of diversity?* on `mine`: not asked for; `--embed` adds it." in text
        assert "Problems that only a has, left out of every paired comparison: 1." in text
        assert "Further arms, kept in the table of counts: c." in text
        assert "panelbook run pass_at_k.mine --profile mine" in text
        for run in plan(project, "mine"):
            assert f"{{doc}}`/chapters/{run.page}`" in text
        assert written.left_out

    def test_names_are_not_read_as_markdown(self, project, read):
        imported = read(make_rows(arms=("a|b", "*c*`d`"), benchmark="x|y"))
        write_import(project, "mine", imported, "a|b", "*c*`d`")
        text = write_front(project, "mine", imported, "a|b", "*c*`d`", [])
        assert r"| `x\|y` | `a\|b` | 3 | 12 | 4 |" in text
        assert "`` *c*`d` ``" in text

    def test_a_profile_with_a_front_page_is_rendered_as_a_book_of_its_own(self, project, read, monkeypatch):
        write_import(project, "mine", read(make_rows()), "debate", "mono")
        seen = {}

        def stage(project, target, chapters, generated, stamp, *, toc_name, extra):
            seen.update(generated=generated, toc_name=toc_name, pages=[c.name for c in chapters])
            return "digest"

        monkeypatch.setattr(book, "stage_book", stage)
        monkeypatch.setattr(book, "render_book", lambda *args, strict: seen.update(strict=strict) or True)
        book.render(project, plan(project, "mine"), target=project.build / "mine")
        assert {"front.md", "colophon.md"} <= set(seen["generated"])
        assert seen["toc_name"] == "_toc_imported.yml"
        assert "40_pass_at_k-mine" in seen["pages"]
        assert seen["strict"] is False

    def test_the_table_of_contents_has_a_place_for_every_chapter(self):
        toc = yaml.safe_load((Project.find().book / "_toc_imported.yml").read_text(encoding="utf-8"))
        entries = [entry for part in toc["parts"] for entry in part["chapters"]]
        assert {entry["stage"] for entry in entries if "stage" in entry} == TWO_ARM | SPREAD | {"embed"}
        for entry in entries:
            assert "stage" in entry or (Project.find().book / f"{entry['file']}.md").is_file()


class TestCommand:
    def test_help_teaches_with_examples(self, panelbook):
        status, out, _ = panelbook("import", "--help")
        assert status == 0
        assert out.count("panelbook import ") >= 4
        for word in ("problem_id", "--map", "--first", "--skip-broken", ".eval", "--force"):
            assert word in out

    def test_what_was_taken_for_what_is_printed(self, project, panelbook, tmp_path):
        rows = [
            {"model": r["arm"], "task_id": r["problem_id"], "score": int(r["correct"])} for r in make_rows()
        ]
        path = write_rows(tmp_path / "log.jsonl", [*rows, {"model": "x"}])
        status, out, err = panelbook("import", path, "--name", "mine", "--no-build")
        assert (status, "Traceback" in err) == (1, False)
        assert "line 25: problem_id (column 'task_id') is missing" in err
        assert not project.runs.exists()
        status, out, _ = panelbook("import", path, "--name", "mine", "--no-build", "--skip-broken")
        assert status == 0
        for ours, theirs in (("arm", "model"), ("problem_id", "task_id"), ("correct", "score")):
            assert any(ours in line and f"column {theirs}" in line for line in out.splitlines())
        assert "arm debate: 3 problems, 12 draws" in out
        assert "rows left out: 1, the first" in out
        assert "without budget on mine: no token counts" in out
        assert "panelbook build --profile mine" in out
        assert (project.runs / "mine" / "imported" / "rejected.jsonl").is_file()

    def test_a_second_import_needs_force(self, project, panelbook, tmp_path):
        path = write_rows(tmp_path / "log.jsonl", make_rows())
        assert panelbook("import", path, "--name", "mine", "--no-build")[0] == 0
        status, _, err = panelbook("import", path, "--name", "mine", "--no-build")
        assert status == 1
        assert "--force" in err
        assert panelbook("import", path, "--name", "mine", "--no-build", "--force")[0] == 0

    def test_arms_and_columns_are_passed_on(self, project, panelbook, tmp_path):
        rows = [{"ok": {"v": r["correct"]}, "problem_id": r["problem_id"]} for r in make_rows(arms=["x"])]
        paths = [write_rows(tmp_path / "a.jsonl", rows), write_rows(tmp_path / "b.jsonl", rows[::-1])]
        status, out, _ = panelbook(
            "import", *paths, "--arm", "a", "--arm", "b", "--map", "correct=ok.v", "--benchmark", "sums",
            "--name", "mine", "--first", "b", "--second", "a", "--no-build",
        )  # fmt: skip
        assert status == 0, out
        (run,) = (run for run in plan(project, "mine") if run.stage.name == "pass_at_k")
        assert (run.params.first, run.params.second, run.params.benchmark) == ("b", "a", "sums")

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_book_is_rendered_even_where_a_chapter_fails(
        self, project, panelbook, tmp_path, monkeypatch, fails
    ):
        def execute(project, runs, display, jobs):
            if fails:
                raise StageFailed("pass_at_k.mine failed in cell 'load'")

        def render(project, runs, target):
            assert {run.profile for run in runs} == {"mine"}
            return book.Rendered(target / "index.html", True)

        monkeypatch.setattr(book, "execute_runs", execute)
        monkeypatch.setattr(book, "render", render)
        path = write_rows(tmp_path / "log.jsonl", make_rows())
        status, out, err = panelbook("import", path, "--name", "mine")
        assert "The book: _build/mine/index.html" in out
        assert (status, "failed in cell" in err) == ((1, True) if fails else (0, False))

    def test_a_table_that_is_gone_is_named_before_anything_runs(self, project, panelbook, tmp_path):
        path = write_rows(tmp_path / "log.jsonl", make_rows())
        panelbook("import", path, "--name", "mine", "--no-build")
        (project.runs / "mine" / "imported" / "counts.parquet").unlink()
        with pytest.raises(
            StageFailed, match=r"reads runs/mine/imported/counts\.parquet, which does not exist"
        ):
            run_all(project, plan(project, "mine"))


@pytest.mark.slow
class TestBook:
    """One import of awkward draws, executed and rendered: minutes, so one test."""

    def test_awkward_draws_become_a_book_and_a_second_build_does_nothing(self, tmp_path):
        arms = ("Qwen3-4B *tuned*", "gpt 4.1|mini")
        rows = [
            row | {"correct": (i * 7 + len(row["problem_id"])) % 3 == 0, "benchmark": "Æsop's 2nd_set"}
            for i, row in enumerate(
                make_rows(3, arms, [f"p {j}" * (j % 3 + 1) for j in range(9)], predicted="1")
            )
        ]
        path = write_rows(tmp_path / "draws.jsonl", [*rows, {"broken": True}])
        root = copy_checkout(tmp_path / "checkout")
        environment = {**os.environ, "PYTHONPATH": str(root / "lib")}
        arguments = ("import", str(path), "--name", "mine", "--first", arms[0], "--second", arms[1])
        done = run_panelbook(root, *arguments, "--skip-broken", environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        runs = plan(Project(root), "mine")
        assert {run.stage.name for run in runs} == TWO_ARM
        html = root / "_build" / "mine"
        assert "generated/front.html" in (html / "index.html").read_text(encoding="utf-8")
        for run in runs:
            page = (html / "chapters" / f"{run.page}.html").read_text(encoding="utf-8")
            assert "has not been run yet" not in page
            assert arms[0] in page.replace("<em>", "*").replace("</em>", "*"), run.id
        done = run_panelbook(
            root, "build", "--profile", "mine", "--no-html", "--no-download", environment=environment
        )
        assert f"0 executed, {len(runs)} up to date" in done.stdout
