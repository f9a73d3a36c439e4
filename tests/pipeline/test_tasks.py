"""Several runs: only what has changed, in the order of the files, side by side, and whole after any interruption."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from toy_book import (
    CURVE,
    CURVE_CELLS,
    DRAW,
    DRAW_CELLS,
    change_notebook,
    curve_run,
    draw_run,
    make_checkout,
    read_all,
)

from panelbook.errors import BookError
from panelbook.pipeline.run import read_manifest
from panelbook.pipeline.tasks import BuildRunning, build_lock, run_all
from panelbook.project import Project

LIMIT_S = 60


def executed(report):
    return sorted(outcome.run.id for outcome in report.executed)


def wait_for(condition, what):
    """Wait until `condition()` holds; fail with `what` if it never does."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"waited {LIMIT_S} s for {what}"
        time.sleep(0.05)


def start(script, root):
    """Start a Python process that works on the checkout `root`, with the toy's modules at hand."""
    head = """
    import sys, time
    from pathlib import Path
    from panelbook.pipeline.tasks import build_lock, run_all
    from panelbook.project import Project
    from toy_book import curve_run, draw_run
    project = Project(Path(sys.argv[1]))
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script), str(root)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


RUNS = (draw_run(), curve_run())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a checkout with both runs finished, the report and the order in which they ended; do not write in it."""
    project = make_checkout(tmp_path_factory.mktemp("tasks") / "toy")
    (project.root / ".git").mkdir()  # the top of a repository, where the scheduler would put its records
    ended: list[str] = []
    report = run_all(project, reversed(RUNS), on_end=lambda outcome: ended.append(outcome.run.id))
    return project, report, ended


class TestWhatHasToRun:
    @pytest.fixture
    def project(self, finished, tmp_path):
        return Project(Path(shutil.copytree(finished[0].root, tmp_path / "copy")).resolve())

    def test_the_first_time_everything_runs_the_producer_before_the_reader(self, finished):
        project, report, ended = finished
        assert ended == ["draw.all", "curve.small"]
        assert (executed(report), report.unchanged) == (["curve.small", "draw.all"], [])
        assert (project.root / curve_run().folder / "curve.csv").read_text() == "1,1\n2,1\n"

    def test_the_second_time_nothing_runs(self, finished):
        report = run_all(finished[0], RUNS)
        assert (executed(report), sorted(report.unchanged)) == ([], ["curve.small", "draw.all"])

    def test_the_scheduler_keeps_its_records_with_what_is_generated(self, finished):
        names = {path.name for path in finished[0].root.iterdir()}
        assert names == {".git", "_config.yml", "notebooks", "params", "requirements.lock", "runs"}

    def test_an_edit_that_gives_the_same_bytes_stops_there(self, project):
        change_notebook(project, DRAW, work=DRAW_CELLS["work"] + "  # said otherwise")
        report = run_all(project, RUNS)
        assert (executed(report), report.unchanged) == (["draw.all"], ["curve.small"])

    def test_other_bytes_run_the_reader_too(self, project):
        report = run_all(project, [draw_run(n=6), curve_run()])
        assert executed(report) == ["curve.small", "draw.all"]

    def test_a_lost_file_is_made_again_and_its_reader_is_not_disturbed(self, project):
        (project.root / draw_run().folder / "results.json").unlink()
        report = run_all(project, RUNS)
        assert (executed(report), report.unchanged) == (["draw.all"], ["curve.small"])

    def test_a_tampered_result_is_made_again(self, project):
        path = project.root / curve_run().folder / "curve.csv"
        before = path.read_bytes()
        path.write_bytes(b"1,99\n")
        assert executed(run_all(project, RUNS)) == ["curve.small"]
        assert path.read_bytes() == before

    def test_prose_runs_nothing(self, project):
        change_notebook(project, CURVE, prose="(ch-curve)=\n# A better question?")
        assert executed(run_all(project, RUNS)) == []


class TestFailure:
    def test_a_failure_takes_down_only_those_that_read_its_files(self, toy):
        broken = draw_run(group="broken", n=1)
        change_notebook(toy, DRAW, work='assert n > 1, "too few"\n' + DRAW_CELLS["work"])
        runs = [broken, draw_run(), curve_run(broken, group="sick"), curve_run()]
        told = []
        report = run_all(toy, runs, on_fail=lambda run: told.append(run.id))
        assert executed(report) == ["curve.small", "draw.all"]
        assert list(report.failed) == told == ["draw.broken"]
        assert "AssertionError: too few" in str(report.failed["draw.broken"])
        assert report.skipped == ["curve.sick"]
        for run in (broken, runs[2]):
            assert read_all(toy.root / run.folder) == {}

    def test_a_file_that_nobody_makes_is_named(self, toy):
        run = curve_run(draw_run(group="nobody"))
        with pytest.raises(BookError, match=r"curve.small reads runs/toy/draw/nobody/draws.csv"):
            run_all(toy, [draw_run(), run])
        assert not (toy.runs / "toy").exists()

    def test_a_circle_is_refused(self, toy):
        one, two = draw_run(group="one"), curve_run(draw_run(group="one"), group="two")
        one = type(one)(
            one.stage, one.profile, one.group, one.params, ((two.folder / "curve.csv").as_posix(),)
        )
        with pytest.raises(BookError, match="could not order the stages"):
            run_all(toy, [one, two])

    def test_a_file_made_by_hand_serves_as_input(self, toy):
        (toy.root / "mine").mkdir()
        (toy.root / "mine" / "draws.csv").write_text("0,1\n1,0\n", encoding="utf-8")
        run = curve_run()
        hand = type(run)(
            run.stage, run.profile, run.group, type(run.params)(draws="mine/draws.csv"), ("mine/draws.csv",)
        )
        assert executed(run_all(toy, [hand])) == ["curve.small"]


class TestSideBySide:
    MEET = textwrap.dedent(
        """
        import time
        Path(label + ".here").touch()
        end = time.monotonic() + 50
        while not Path({"a": "b", "b": "a"}[label] + ".here").exists():
            assert time.monotonic() < end, "nobody came"
            time.sleep(0.02)
        """
    )

    def test_two_runs_that_need_not_wait_for_each_other_do_not(self, toy):
        change_notebook(toy, DRAW, work=self.MEET + DRAW_CELLS["work"])
        report = run_all(toy, [draw_run(group=name, label=name) for name in "ab"], n_workers=2)
        assert (executed(report), report.failed) == (["draw.a", "draw.b"], {})


class TestKilled:
    """SIGKILL in the middle of the second of two runs: the first is kept, the second is done again."""

    HOLD = 'import time\nPath("begun").touch()\nwhile Path("hold").exists():\n    time.sleep(0.05)\n'

    def test_only_what_had_not_finished_runs_again_and_nothing_is_left_lying_about(self, toy):
        change_notebook(toy, CURVE, work=self.HOLD + CURVE_CELLS["work"])
        (toy.root / "hold").touch()
        process = start(
            "with build_lock(project):\n    run_all(project, [draw_run(), curve_run()])", toy.root
        )
        try:
            wait_for((toy.root / "begun").exists, "the second notebook to begin")
            kernels = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT_S)
        finally:
            process.kill()
            process.stdout.close()
        first = toy.root / draw_run().folder
        before = read_all(first)
        assert read_manifest(first) is not None
        assert read_all(toy.root / curve_run().folder) == {}
        assert list((toy.runs / ".scratch").iterdir()) != []
        assert kernels
        _, alive = psutil.wait_procs(kernels, timeout=LIMIT_S)
        assert alive == [], "a kernel outlived the build that started it"

        (toy.root / "hold").unlink()
        with build_lock(toy):
            report = run_all(toy, [draw_run(), curve_run()])
        assert executed(report) == ["curve.small"]
        assert read_all(first) == before
        assert (toy.root / curve_run().folder / "curve.csv").is_file()
        assert not (toy.runs / ".scratch").exists() or list((toy.runs / ".scratch").iterdir()) == []

    def test_an_interrupted_build_ends_in_good_order_and_says_what_is_left(self, toy):
        change_notebook(toy, CURVE, work=self.HOLD + CURVE_CELLS["work"])
        (toy.root / "hold").touch()
        process = start(
            """
            from panelbook.errors import BookError
            runs = [draw_run(), curve_run(), curve_run(group="later")]
            try:
                with build_lock(project):
                    run_all(project, runs, n_workers=1, on_fail=lambda run: print("failed:", run.id, flush=True))
            except BookError as error:
                sys.exit(f"{type(error).__name__}: {error}")
            """,
            toy.root,
        )
        try:
            wait_for((toy.root / "begun").exists, "the second notebook to begin")
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C in a terminal does
            out, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        assert process.returncode == 1, out
        assert re.match(r"BuildStopped: Stopped with 2 of 3 notebooks not done", out), out
        assert read_manifest(toy.root / draw_run().folder) is not None
        assert read_all(toy.root / curve_run(group="later").folder) == {}
        (toy.root / "hold").unlink()
        with build_lock(toy):
            report = run_all(toy, [*RUNS, curve_run(group="later")])
        assert "curve.later" in executed(report)
        assert "draw.all" in report.unchanged
        assert read_manifest(toy.root / curve_run().folder) is not None


class TestLock:
    def test_a_second_build_is_refused_and_told_who_holds_the_checkout(self, toy):
        process = start(
            'with build_lock(project):\n    print("held", flush=True)\n    time.sleep(600)', toy.root
        )
        try:
            assert process.stdout.readline() == "held\n"
            left = toy.runs / ".scratch" / "of the other build"
            left.mkdir(parents=True)
            with pytest.raises(BuildRunning) as refusal, build_lock(toy):
                pytest.fail("two builds in one checkout")
            assert "Another build is running" in str(refusal.value)
            assert f"process {process.pid}, since" in str(refusal.value)
            assert left.exists()
        finally:
            process.kill()
            process.wait(LIMIT_S)
            process.stdout.close()
        with build_lock(toy):  # the operating system let go of it
            assert not left.exists()

    def test_it_is_free_again_after_a_failure(self, toy):
        with pytest.raises(ZeroDivisionError), build_lock(toy):
            raise ZeroDivisionError
        with build_lock(toy):
            pass

    def test_another_checkout_is_not_held_up(self, toy, tmp_path):
        other = make_checkout(tmp_path / "other")
        with build_lock(toy), build_lock(other):
            pass
