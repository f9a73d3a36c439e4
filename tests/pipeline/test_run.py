"""One stage, once, atomically: what a run leaves, when it is not repeated, and what a failure leaves alone."""

import contextlib
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from toy_book import (
    CURVE,
    CURVE_CELLS,
    DRAW,
    DRAW_CELLS,
    RECORD,
    NeedyDrawParams,
    change_notebook,
    curve_run,
    draw_run,
    make_checkout,
    read_all,
    read_results,
    with_variant,
)

import panelbook
from panelbook.pipeline.notebook import read_notebook
from panelbook.pipeline.run import (
    StageFailed,
    clear_scratch,
    code_key,
    git_state,
    hash_library,
    is_current,
    read_manifest,
    run_stage,
    stage_key,
)
from panelbook.project import Project

SAVE = DRAW_CELLS["save"]
TRACEBACK_OF_A_DEFECT = "Traceback (most recent call last)"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a checkout with one finished run of `draw`, its outcome and the cells it reported; do not write in it."""
    project = make_checkout(tmp_path_factory.mktemp("run") / "toy")
    cells: list[tuple[int, int]] = []
    outcome = run_stage(project, draw_run(), on_cell=lambda done, total: cells.append((done, total)))
    return project, outcome, cells


@pytest.fixture
def ran(finished, tmp_path):
    """Return a copy of that checkout which a test may change."""
    return Project(Path(shutil.copytree(finished[0].root, tmp_path / "copy")).resolve())


def folder_of(project, run=None):
    return project.root / (run or draw_run()).folder


def leftovers(project):
    scratch = project.runs / ".scratch"
    return sorted(scratch.iterdir()) if scratch.exists() else []


class TestResult:
    def test_every_declared_file_and_the_manifest_are_there_and_nothing_else(self, finished):
        project, outcome, _ = finished
        assert outcome.status == "executed"
        assert set(read_all(folder_of(project))) == {
            "draws.csv",
            "manifest.json",
            "notebook.ipynb",
            "results.json",
        }
        assert leftovers(project) == []

    def test_every_cell_was_reported_in_order(self, finished):
        _, _, cells = finished
        assert [done for done, _ in cells] == sorted({done for done, _ in cells})
        assert cells[-1][0] == cells[-1][1]

    def test_the_manifest_says_what_was_run_from_what(self, finished):
        project, _, _ = finished
        manifest = read_manifest(folder_of(project))
        assert (manifest["stage"], manifest["group"], manifest["profile"]) == ("draw", "all", "toy")
        assert manifest["params"]["n"] == 4
        assert "output_dir" not in manifest["params"]
        assert set(manifest["outputs"]) == {"notebook.ipynb", "results.json", "draws.csv"}
        assert manifest["key"] == stage_key(project, draw_run())
        assert manifest["versions"]["papermill"] == "2.7.0"
        assert manifest["wall_s"] > 0

    def test_the_executed_notebook_is_canonical(self, finished):
        project, _, _ = finished
        text = (folder_of(project) / "notebook.ipynb").read_text(encoding="utf-8")
        for trace in ("papermill", str(project.root), ".scratch", "injected", "start_time"):
            assert trace not in text
        notebook = read_notebook(folder_of(project) / "notebook.ipynb")
        assert [c.execution_count for c in notebook.cells if c.cell_type == "code"] == [1, 2, 3, 4]
        assert notebook.cells[-1].outputs[0].text == "True 4\n"

    def test_parameters_reach_the_notebook(self, ran):
        run = draw_run(group="six", n=6, label='with "quotes"')
        run_stage(ran, run)
        assert len((folder_of(ran, run) / "draws.csv").read_text().splitlines()) == 6
        assert read_results(ran, run)["n_draws"]["value"] == 6


class TestNothingToDo:
    def test_a_second_run_is_unchanged_and_touches_nothing(self, ran):
        before = {path: path.stat().st_mtime_ns for path in folder_of(ran).iterdir()}
        assert run_stage(ran, draw_run()).status == "unchanged"
        assert {path: path.stat().st_mtime_ns for path in folder_of(ran).iterdir()} == before

    def test_a_better_sentence_costs_no_execution(self, ran):
        change_notebook(ran, DRAW, prose="(ch-draw)=\n# A better question?")
        assert run_stage(ran, draw_run()).status == "unchanged"

    def test_a_tampered_output_is_made_again_bit_for_bit(self, ran):
        before = read_all(folder_of(ran), without=("manifest.json",))
        (folder_of(ran) / "draws.csv").write_text("0,1\n", encoding="utf-8")
        assert run_stage(ran, draw_run()).status == "executed"
        assert read_all(folder_of(ran), without=("manifest.json",)) == before

    @pytest.mark.parametrize("name", ["draws.csv", "results.json", "notebook.ipynb", "manifest.json"])
    def test_any_file_removed_or_changed_is_noticed(self, ran, name):
        key = stage_key(ran, draw_run())
        assert is_current(folder_of(ran), key)
        path = folder_of(ran) / name
        text = path.read_text(encoding="utf-8")
        path.write_text("{}" if name == "manifest.json" else text + " ", encoding="utf-8")
        assert not is_current(folder_of(ran), key)
        path.unlink()
        assert not is_current(folder_of(ran), key)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', '{"key": "x"}'])
    def test_a_broken_manifest_counts_as_none(self, ran, text):
        (folder_of(ran) / "manifest.json").write_text(text, encoding="utf-8")
        assert read_manifest(folder_of(ran)) is None


class TestKey:
    @pytest.fixture
    def project(self, finished):
        return finished[0]

    @pytest.mark.parametrize("name", ["work", "imports", "save"])
    def test_changed_code_changes_it(self, ran, name):
        before = stage_key(ran, draw_run())
        change_notebook(ran, DRAW, **{name: DRAW_CELLS[name] + "  # edited"})
        assert stage_key(ran, draw_run()) != before

    @pytest.mark.parametrize("change", [{"n": 5}, {"rate": 0.25}, {"seed": 1}, {"confidence": 0.9}])
    def test_a_changed_parameter_changes_it(self, project, change):
        assert stage_key(project, draw_run(**change)) != stage_key(project, draw_run())

    def test_a_changed_input_changes_it_and_the_same_bytes_do_not(self, ran):
        path = folder_of(ran) / "draws.csv"
        before = stage_key(ran, curve_run())
        path.write_bytes(path.read_bytes())
        assert stage_key(ran, curve_run()) == before
        path.write_bytes(path.read_bytes() + b"4,0\n")
        assert stage_key(ran, curve_run()) != before

    def test_a_module_and_the_script_beside_it_change_its_hash(self, monkeypatch, tmp_path):
        package = tmp_path / "panelbook"
        (package / "publish").mkdir(parents=True)
        source, script, other = (package / "publish" / name for name in ("page.py", "page.js", "other.js"))
        source.write_text("x = 1\n")
        monkeypatch.setattr("panelbook.pipeline.run.__file__", str(package / "pipeline" / "run.py"))

        def hash_now():
            hash_library.cache_clear()
            return hash_library(frozenset({"panelbook.publish.page"}))

        hashes = [hash_now()]
        for path, text in ((script, "1"), (script, "2"), (source, "x = 2\n")):
            path.write_text(text)
            hashes.append(hash_now())
        assert len(set(hashes)) == 4
        other.write_text("1")
        assert hash_now() == hashes[-1]
        hash_library.cache_clear()

    def test_a_changed_environment_changes_it(self, ran):
        before = stage_key(ran, draw_run())
        (ran.root / "requirements.lock").write_text("toy==2.0\n", encoding="utf-8")
        assert stage_key(ran, draw_run()) != before

    def test_the_published_files_count_only_for_stages_that_read_them(self, project, monkeypatch):
        reads = replace(draw_run(), params=NeedyDrawParams())
        before = code_key(project, draw_run()), code_key(project, reads)
        monkeypatch.setattr("panelbook.rollouts.published.registry", lambda: {"a.json": "0" * 64})
        after = code_key(project, draw_run()), code_key(project, reads)
        assert after[0] == before[0]
        assert after[1] != before[1]

    def test_where_the_checkout_lies_does_not_count(self, project, ran):
        assert stage_key(ran, draw_run()) == stage_key(project, draw_run())

    def test_a_changed_module_counts_for_the_notebooks_that_import_it_directly_or_not(self, toy, tmp_path):
        change_notebook(
            toy, DRAW, imports="from panelbook.measure.passk import pass_at_k\n" + DRAW_CELLS["imports"]
        )
        change_notebook(toy, CURVE, imports="import panelbook.measure.climb\n" + CURVE_CELLS["imports"])
        package = Path(shutil.copytree(Path(panelbook.__file__).parent, tmp_path / "lib" / "panelbook"))
        script = textwrap.dedent(
            """
            import sys
            import panelbook
            from panelbook.pipeline.run import code_key
            from panelbook.project import Project
            from pathlib import Path
            from toy_book import curve_run, draw_run
            project = Project(Path(sys.argv[1]))
            print(panelbook.__file__)
            print(code_key(project, draw_run()), code_key(project, curve_run()))
            """
        )

        def keys():
            path = [str(package.parent), str(Path(__file__).parents[1])]
            done = subprocess.run(
                [sys.executable, "-c", script, str(toy.root)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                check=True,
            )
            used, line = done.stdout.splitlines()
            assert Path(used).is_relative_to(package)
            return line.split()

        passk, climb = keys()
        for names, changed in ((("passk", "bands"), [True, False]), (("uncertainty",), [True, True])):
            for name in names:
                with (package / "measure" / f"{name}.py").open("a", encoding="utf-8") as stream:
                    stream.write("\n# edited\n")
            now = keys()
            assert [now[0] != passk, now[1] != climb] == changed, names
            passk, climb = now

    def test_it_can_be_asked_for_from_several_threads_at_once(self, project, monkeypatch):
        long = "\n".join(f"value_{i} = [{i}, {{'a': ({i}, 'b')}}]" for i in range(400))
        change = make_checkout(project.root.parent / f"threads-{time.monotonic_ns()}")
        change_notebook(change, DRAW, work=long + "\n" + DRAW_CELLS["work"])
        expected = code_key(change, draw_run())
        threshold = gc.get_threshold()
        pause = lambda phase, info: time.sleep(1e-5)  # noqa: E731  let other threads in during a collection
        gc.callbacks.append(pause)
        gc.set_threshold(50)
        try:
            with ThreadPoolExecutor(4) as pool:
                keys = list(pool.map(lambda _: code_key(change, draw_run()), range(12)))
        finally:
            gc.callbacks.remove(pause)
            gc.set_threshold(*threshold)
        assert set(keys) == {expected}

    def test_a_missing_input_is_named_before_any_kernel_starts(self, toy):
        with pytest.raises(
            StageFailed, match=r"curve.small reads runs/toy/draw/all/draws.csv, which does not exist"
        ):
            run_stage(toy, curve_run())
        assert leftovers(toy) == []


class TestFailure:
    """A failing run says where and why, keeps its notebook apart and leaves the last good result alone."""

    def fail(self, project, **cells):
        change_notebook(project, DRAW, **cells)
        before = read_all(folder_of(project)) if folder_of(project).exists() else {}
        with pytest.raises(StageFailed) as failure:
            run_stage(project, draw_run())
        after = read_all(folder_of(project)) if folder_of(project).exists() else {}
        assert after == before
        assert leftovers(project) == []
        assert TRACEBACK_OF_A_DEFECT not in str(failure.value)
        assert len(str(failure.value).splitlines()) <= 12
        return str(failure.value)

    def test_a_service_that_fails_is_one_line_with_what_it_said(self, ran):
        work = (
            "from panelbook.engine.service import ServiceError\n"
            'raise ServiceError("the service has halted. Add credit.", "billing")'
        )
        assert self.fail(ran, work=work) == "draw.all: the service has halted. Add credit."

    def test_a_failing_cell_is_named_with_its_line_the_last_frame_and_the_error(self, ran):
        message = self.fail(ran, work='first = 1\njson.loads("{broken")\nlast = 3')
        assert "draw.all failed in cell 'work' of 10_draw.ipynb" in message
        assert 'json.loads("{broken")' in message.splitlines()[1]
        assert "2" in message.splitlines()[1]
        assert "json/decoder.py" in message
        assert "JSONDecodeError: Expecting property name" in message
        kept = ran.root / "runs" / "toy" / "failed" / "draw.all"
        assert "runs/toy/failed/draw.all/notebook.ipynb" in message
        outputs = [o for c in read_notebook(kept / "notebook.ipynb").cells for o in c.get("outputs", [])]
        assert [o.ename for o in outputs if o.output_type == "error"] == ["JSONDecodeError"]

    def test_a_first_run_that_fails_leaves_no_result_at_all(self, toy):
        self.fail(toy, work="1 / 0")
        assert not folder_of(toy).exists()
        assert not (folder_of(toy).parents[0] / "all").exists()

    def test_after_the_mend_it_runs_and_the_same_command_serves(self, ran):
        before = read_all(folder_of(ran), without=("manifest.json",))
        self.fail(ran, save=SAVE + "\nundefined_name")
        change_notebook(ran, DRAW)
        assert run_stage(ran, draw_run()).status == "unchanged"
        assert read_all(folder_of(ran), without=("manifest.json",)) == before

    def test_a_syntax_error_is_reported_before_a_kernel_starts(self, ran):
        message = self.fail(ran, work="first = 1\nfor in range(3):\n    pass")
        assert "cell 'work' of 10_draw.ipynb is not valid Python, line 2: for in range(3):" in message
        assert "SyntaxError" in message

    def test_a_kernel_that_is_killed_is_reported_like_any_other_failure(self, ran):
        message = self.fail(ran, work="import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
        assert "draw.all: the kernel died in cell 'work' of 10_draw.ipynb" in message
        assert (ran.root / "runs" / "toy" / "failed" / "draw.all" / "notebook.log").is_file()

    def test_a_declared_file_that_is_not_written_is_named(self, ran):
        message = self.fail(ran, work="output = Path(output_dir)")
        assert "without writing draws.csv" in message

    @pytest.mark.parametrize(
        ("shown", "expected"),
        [
            ("print(n / 8)", "'0.5' of '0.5' is printed with neither interval nor reason"),
            (
                "import pandas as pd\npd.DataFrame({'rate': [rate]})",
                "the table of rate shows 0.5 without an interval",
            ),
            ("from myst_nb import glue\nglue('t', '4.72', display=False)", "no result holds 4.72"),
        ],
    )
    def test_a_number_with_neither_interval_nor_reason_is_refused(self, ran, shown, expected):
        message = self.fail(ran, save=f"{SAVE}\n{shown}")
        assert message.startswith("draw.all: 10_draw.ipynb")
        assert expected in message

    def test_a_notebook_too_large_for_a_page_is_refused_with_its_size(self, ran):
        message = self.fail(ran, save=SAVE + '\nprint("x" * 2_100_000)')
        assert "more than 2,000,000" in message

    @pytest.mark.parametrize(
        ("results", "expected"),
        [
            ([1, 2], "results.json"),
            ({"bare": RECORD | {"value": 1, "reason": ""}}, "neither an interval nor a reason"),
        ],
    )
    def test_results_that_cannot_be_read_are_refused(self, ran, results, expected):
        save = f'_ = (output / "results.json").write_text(json.dumps({results!r}))'
        message = self.fail(ran, save=save)
        assert message.startswith("draw.all: ")
        assert expected in message


def fill(path):
    """Write to `path` until the disk has no room."""
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))


class TestProgress:
    def test_a_long_cell_may_tell_how_far_it_is_and_the_notebook_keeps_nothing_of_it(self, toy):
        told = "import os, time\nPath(os.environ['PANELBOOK_PROGRESS']).write_text('7 of 9 draws')\ntime.sleep(2.5)\n"
        change_notebook(toy, DRAW, work=told + DRAW_CELLS["work"])
        lines: list[str] = []
        run_stage(toy, draw_run(), on_note=lines.append)
        assert lines == ["7 of 9 draws"]
        assert "7 of 9 draws" not in str(
            [cell.get("outputs") for cell in read_notebook(folder_of(toy) / "notebook.ipynb").cells]
        )


class TestDisk:
    @pytest.fixture
    def tiny(self, toy):
        """Return a checkout whose `runs` folder is a disk of 1 MB; skip where mounting is not permitted."""
        toy.runs.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(toy.runs)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small tmpfs is not permitted here")
        yield toy
        subprocess.run(["umount", str(toy.runs)], check=True)

    def test_a_disk_that_fills_up_is_reported_and_the_last_result_stays_whole(self, tiny):
        run_stage(tiny, draw_run())
        before = read_all(folder_of(tiny))
        big = '\n(output / "big.bin").write_bytes(bytes(3_000_000))'
        change_notebook(tiny, DRAW, work=DRAW_CELLS["work"] + big)
        with pytest.raises(StageFailed, match="No space left on device") as failure:
            run_stage(tiny, draw_run())
        assert "draw.all" in str(failure.value)
        assert read_all(folder_of(tiny)) == before
        assert leftovers(tiny) == []

    def test_a_disk_that_is_already_full_is_reported_and_the_last_result_stays_whole(self, tiny):
        run_stage(tiny, draw_run())
        before = read_all(folder_of(tiny))
        fill(tiny.runs / "ballast")
        with pytest.raises(StageFailed, match=r"draw.all: .*No space left on device.*Nothing was changed"):
            run_stage(tiny, draw_run(), force=True)
        assert read_all(folder_of(tiny)) == before
        (tiny.runs / "ballast").unlink()
        assert run_stage(tiny, draw_run(), force=True).status == "executed"

    def test_a_quota_on_file_size_is_reported_and_the_last_result_stays_whole(self, ran):
        before = read_all(folder_of(ran))
        change_notebook(
            ran, DRAW, work=DRAW_CELLS["work"] + '\n(output / "big.bin").write_bytes(bytes(9_000_000))'
        )
        script = textwrap.dedent(
            f"""
            import sys
            from panelbook.pipeline.run import StageFailed, run_stage
            from panelbook.project import Project
            from pathlib import Path
            from toy_book import draw_run
            try:
                run_stage(Project(Path({str(ran.root)!r})), draw_run())
            except StageFailed as failure:
                sys.exit(str(failure))
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000)),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "draw.all" in done.stderr
        assert "File too large" in done.stderr
        assert read_all(folder_of(ran)) == before
        assert leftovers(ran) == []

    def test_a_folder_that_cannot_be_written_is_reported(self, toy):
        toy.runs.write_text("a file where a folder belongs", encoding="utf-8")
        with pytest.raises(StageFailed, match=r"draw\.all: .*runs"):
            run_stage(toy, draw_run())


class TestVariant:
    def test_a_variant_leaves_the_baseline_alone(self, ran):
        before = read_all(folder_of(ran))
        variant = with_variant(draw_run(n=8), "n=8")
        run_stage(ran, variant)
        assert read_all(folder_of(ran)) == before
        assert read_results(ran, variant)["n_draws"]["value"] == 8
        assert read_manifest(folder_of(ran, variant))["variant"] == "n=8"


class TestHousekeeping:
    def test_what_killed_runs_left_is_removed(self, toy):
        (toy.runs / ".scratch" / "draw-dead" / "deep").mkdir(parents=True)
        (toy.runs / "toy").mkdir()
        clear_scratch(toy)
        assert leftovers(toy) == []
        assert (toy.runs / "toy").is_dir()
        clear_scratch(toy)

    def test_git_state_of_a_folder_without_git(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert git_state(tmp_path) == ("unknown", True)

    def test_git_state_of_a_clean_and_of_a_changed_checkout(self, tmp_path):
        def git(*args):
            name = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
            return subprocess.run(
                ["git", *name, *args], cwd=tmp_path, check=True, capture_output=True, text=True
            ).stdout.strip()

        git("init", "-q")
        (tmp_path / "a.txt").write_text("1", encoding="utf-8")
        git("add", "a.txt")
        git("commit", "-q", "-m", "one")
        assert git_state(tmp_path) == (git("rev-parse", "HEAD"), False)
        (tmp_path / "untracked.txt").write_text("2", encoding="utf-8")
        assert git_state(tmp_path)[1] is False
        (tmp_path / "a.txt").write_text("2", encoding="utf-8")
        assert git_state(tmp_path)[1] is True

    def test_the_manifest_is_json_that_a_reader_can_diff(self, finished):
        text = (folder_of(finished[0]) / "manifest.json").read_text(encoding="utf-8")
        assert list(json.loads(text)) == sorted(json.loads(text))
        assert text.endswith("}\n")
