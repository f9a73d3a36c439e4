"""The book in other forms: what a run leaves to take away, the folder of an export, and the PDF of a profile."""

import csv
import io
import json
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image
from toy_book import DRAW, change_notebook, draw_run, read_all

from panelbook.errors import BookError
from panelbook.pipeline import book, takeaway
from panelbook.pipeline.book import list_downloads
from panelbook.pipeline.run import is_current, run_stage, stage_key
from panelbook.pipeline.takeaway import export_files, export_pdf
from panelbook.publish.downloads import FOLDER
from panelbook.publish.pages import Stamp

SHOWN = """import pandas as pd
from panelbook.publish import figures
figures.use_theme()
curve = pd.DataFrame({"n_tokens": [1_000_000, 2_000_000], "loss": [2.5, 1 / 3]})
figures.draw_pretraining(curve)"""

TABLE = 'pd.DataFrame({"text": ["=1+1"], "n": [7]})'


@pytest.fixture
def shown_run(toy, toy_stages):
    """Return a finished run of the toy that shows a figure and a table."""
    change_notebook(toy, DRAW, figure=SHOWN, table=TABLE)
    run = draw_run()
    run_stage(toy, run)
    return run


@pytest.mark.slow
def test_figures_and_tables_of_a_run_travel_from_the_notebook_to_the_export(toy, shown_run, tmp_path):
    folder = toy.root / shown_run.folder
    files = {path.name: path for path in (folder / FOLDER).iterdir()}
    assert set(files) == {"figure.svg", "figure.png", "figure.csv", "table-table.csv"}

    # The page keeps the picture and loses the rest.
    notebook = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))
    kinds = {
        kind for cell in notebook["cells"] for out in cell.get("outputs", []) for kind in out.get("data", {})
    }
    assert kinds == {"image/svg+xml", "text/html", "text/plain"}

    # Each file is what it says it is.
    with Image.open(files["figure.png"]) as image:
        image.load()
        assert image.size[0] > 900
        assert image.getpixel((2, 2))[:3] == (255, 255, 255)
    rows = list(csv.DictReader(io.StringIO(files["figure.csv"].read_text(encoding="utf-8"))))
    assert float(rows[1]["loss"]) == 1 / 3
    assert files["table-table.csv"].read_bytes() == b"text,n\n'=1+1,7\n"

    # A second run leaves the same bytes.
    before = read_all(folder / FOLDER)
    run_stage(toy, shown_run, force=True)
    assert read_all(folder / FOLDER) == before

    # A file that is gone or changed makes the run stale.
    assert is_current(folder, stage_key(toy, shown_run))
    files["figure.png"].write_bytes(b"")
    assert not is_current(folder, stage_key(toy, shown_run))
    files["figure.png"].write_bytes(before["figure.png"])

    exported = export_files(toy, [shown_run], tmp_path / "export")
    assert {file.file: file.kind for file in exported} == {
        "10_draw-all/figure-all.svg": "figure",
        "10_draw-all/figure-all.png": "figure",
        "10_draw-all/figure-all.csv": "figure",
        "10_draw-all/table-table-all.csv": "table",
        "10_draw-all/results-all.json": "artefact",
        "10_draw-all/draws-all.csv": "artefact",
    }
    with (tmp_path / "export" / "index.csv").open(encoding="utf-8", newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert [row["file"] for row in listed] == [file.file for file in exported]
    assert {row["command"] for row in listed} == {"panelbook run draw.all --profile toy"}
    assert {row["title"] for row in listed} == {"Does the draw work?"}
    for row in listed:
        assert (tmp_path / "export" / row["file"]).stat().st_size > 0


class TestExportFiles:
    @pytest.fixture
    def run(self, toy, toy_stages):
        run = draw_run()
        folder = toy.root / run.folder
        folder.mkdir(parents=True)
        for name, text in {"draws.csv": "0,1\n", "results.json": "{}", "notes.txt": "x"}.items():
            (folder / name).write_text(text)
        (folder / "notebook.ipynb").write_bytes((toy.notebooks / DRAW.notebook).read_bytes())
        return run

    def test_a_folder_of_something_else_is_not_touched(self, toy, run, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.png").write_text("a cat")
        with pytest.raises(BookError, match=r"holds no index\.csv"):
            export_files(toy, [run], tmp_path / "photos")
        assert read_all(tmp_path / "photos") == {"cat.png": b"a cat"}

    def test_an_earlier_export_is_replaced(self, toy, run, tmp_path):
        export_files(toy, [run], tmp_path / "out")
        (tmp_path / "out" / "stale.csv").write_text("old")
        export_files(toy, [run], tmp_path / "out")
        assert set(read_all(tmp_path / "out")) == {
            "index.csv",
            "10_draw-all/draws-all.csv",
            "10_draw-all/results-all.json",
        }
        assert [path.name for path in tmp_path.glob("out*")] == ["out"]

    def test_nothing_built_is_said_with_what_to_do(self, toy, toy_stages, tmp_path):
        with pytest.raises(BookError, match="panelbook build --profile toy"):
            export_files(toy, [draw_run()], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_large_artefact_stays_where_it_is(self, toy, run, monkeypatch):
        assert "draws.csv" in list_downloads(toy, run)
        monkeypatch.setattr(book, "MAX_DOWNLOAD_BYTES", 3)
        assert set(list_downloads(toy, run)) == {"results.json"}


class TestExportPdf:
    def test_a_book_that_is_not_rendered_is_said_with_what_to_do(self, toy, monkeypatch):
        monkeypatch.setattr(takeaway, "find_browser", lambda named: named)
        with pytest.raises(BookError, match="panelbook build --profile toy"):
            export_pdf(toy, [draw_run()], toy.build / "a.pdf")

    def test_the_cover_says_what_the_pages_say_of_the_build(self, toy, monkeypatch):
        (toy.root / "_config.yml").write_text("title: A toy\nauthor: Its makers\n")
        html_dir = toy.build / "html"
        html_dir.mkdir(parents=True)
        (html_dir / "intro.html").write_text("")
        (toy.build / "source").mkdir()
        (toy.build / "source" / "_toc.yml").write_text(yaml.safe_dump({"root": "intro"}))
        stamp = Stamp("0123456789abcdef", True, "fedcba9876543210", "2026-01-02 03:04 UTC")
        monkeypatch.setattr(takeaway, "find_book", lambda project, runs: (html_dir, stamp))
        monkeypatch.setattr(takeaway, "find_browser", lambda named: named)
        called = SimpleNamespace()
        monkeypatch.setattr(takeaway, "print_book", lambda *args: vars(called).update(args=args) or 3)
        assert export_pdf(toy, [draw_run()], toy.build / "a.pdf") == 3
        _, parts, _, cover, *_ = called.args
        assert [part.pages for part in parts] == [("intro",)]
        assert (cover.title, cover.author) == ("A toy", "Its makers")
        text = " ".join(cover.lines)
        for said in ("2026-01-02 03:04 UTC", "0123456789ab with local changes", "fedcba987654"):
            assert said in text


class TestCommands:
    def test_figures_are_exported_where_the_reader_says(
        self, toy, toy_stages, panelbook, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(toy.root)
        folder = toy.root / draw_run().folder
        folder.mkdir(parents=True)
        (folder / "draws.csv").write_text("0,1\n")
        (folder / "notebook.ipynb").write_bytes((toy.notebooks / DRAW.notebook).read_bytes())
        status, out, _ = panelbook("export", "figures", "--profile", "toy", "--out", tmp_path / "out")
        assert status == 0
        assert "1 artefacts" in out
        assert (tmp_path / "out" / "10_draw-all" / "draws-all.csv").read_text() == "0,1\n"

    def test_a_browser_that_is_not_there_is_an_error_of_one_screen(
        self, toy, toy_stages, panelbook, monkeypatch
    ):
        monkeypatch.chdir(toy.root)
        status, _, err = panelbook("export", "pdf", "--profile", "toy", "--browser", "no-such-browser")
        assert status == 1
        assert "no-such-browser is no program" in err
        assert "Traceback" not in err
