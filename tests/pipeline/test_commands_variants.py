"""`panelbook variants`: list, open, delete, and the way into the book's appendix and out again."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from toy_book import CURVE, DRAW, assert_refused, change_notebook

from panelbook.pipeline.run import run_stage
from panelbook.pipeline.stages import plan, vary

TOY = ("--profile", "toy")


@pytest.fixture
def made(here):
    """Return a checkout in which both baselines and two variants were run."""
    draw, curve = plan(here, "toy")
    for run in (draw, curve, vary(curve, {"k_max": 3}), vary(draw, {"seed": 5})):
        run_stage(here, run)
    return here


def listed(panelbook):
    return {row["variant"]: row for row in json.loads(panelbook("variants", *TOY, "--json")[1])}


def test_the_list_tells_what_changed_what_moved_and_whether_it_is_current(made, panelbook):
    rows = listed(panelbook)
    assert rows.keys() == {"k_max=3", "seed=5"}
    assert (rows["k_max=3"]["moved"], rows["seed=5"]["moved"]) == (1, 0)
    assert {row["state"] for row in rows.values()} == {"current"}
    assert all(row["bytes"] > 1000 for row in rows.values())
    change_notebook(made, CURVE, extra="'a new cell'")
    assert listed(panelbook)["k_max=3"]["state"].startswith("stale")
    status, out, _ = panelbook("variants", *TOY)
    assert status == 0
    assert re.search(r"curve\.small\s.*k_max=3\s.*stale", out)


def test_without_any_it_says_how_to_make_one(here, panelbook):
    status, out, _ = panelbook("variants", *TOY)
    assert status == 0
    assert "panelbook run STAGE -p name=value" in out


class TestDelete:
    def test_it_asks_and_a_no_deletes_nothing(self, made, panelbook, monkeypatch):
        monkeypatch.setattr("typer.confirm", lambda question: False)
        assert_refused(panelbook("variants", "delete", "k_max", *TOY), "Nothing was deleted.")
        assert listed(panelbook).keys() == {"k_max=3", "seed=5"}

    def test_a_named_one_goes_and_nothing_else(self, made, panelbook):
        status, out, _ = panelbook("variants", "delete", "k_max", "--yes", *TOY)
        assert (status, "curve.small/k_max=3" in out) == (0, True)
        assert listed(panelbook).keys() == {"seed=5"}
        assert (made.runs / "toy" / "curve" / "small" / "results.json").is_file()

    def test_stale_ones_go_together(self, made, panelbook):
        change_notebook(made, DRAW, extra="'a new cell'")
        status, _, _ = panelbook("variants", "delete", "--stale", "--yes", *TOY)
        assert status == 0
        assert listed(panelbook).keys() == {"k_max=3"}

    def test_what_the_appendix_shows_stays(self, made, panelbook):
        panelbook("variants", "add", "k_max=3", *TOY)
        result = panelbook("variants", "delete", "k_max=3", "--yes", *TOY)
        assert_refused(result, "is in the appendix", "panelbook variants remove curve.small/k_max=3")

    def test_a_name_is_needed_and_has_to_be_clear(self, made, panelbook):
        assert_refused(panelbook("variants", "delete", *TOY), "Name the variants to delete")
        assert_refused(panelbook("variants", "delete", "=", "--yes", *TOY), "may mean several variants")
        assert_refused(panelbook("variants", "delete", "n=3", "--yes", *TOY), "There is no variant 'n=3'")


class TestAppendix:
    def test_in_and_out_again(self, made, panelbook):
        path = made.params / "appendix.yml"
        status, out, _ = panelbook("variants", "add", "k_max", *TOY)
        assert (status, "`panelbook build --profile toy` shows it." in out) == (0, True)
        assert yaml.safe_load(path.read_text(encoding="utf-8")) == {
            "toy": [{"run": "curve.small", "params": {"k_max": 3}}]
        }
        assert listed(panelbook)["k_max=3"]["appendix"] is True
        assert "already" in panelbook("variants", "add", "k_max", *TOY)[1]
        status, _, _ = panelbook("variants", "remove", "k_max", *TOY)
        assert (status, path.exists()) == (0, False)
        assert_refused(panelbook("variants", "remove", "k_max", *TOY), "appendix of profile 'toy' is empty")

    def test_a_build_makes_what_the_appendix_asks_for_once(self, made, panelbook):
        panelbook("variants", "add", "k_max", *TOY)
        shutil.rmtree(made.runs / "toy" / "variants")
        _, out, _ = panelbook("build", "--no-html", "--no-download", *TOY)
        assert "curve.small/k_max=3: executed" in out
        _, out, _ = panelbook("build", "--no-html", "--no-download", *TOY)
        assert "0 executed, 3 up to date" in out


@pytest.mark.slow
class TestPages:
    @pytest.fixture
    def book(self, made):
        """Return the checkout with the hand-written pages of a book as well."""
        real = Path(__file__).resolve().parents[2]
        (made.root / "book").mkdir()
        (made.root / "book" / "_toc.yml").write_text(
            "format: jb-book\nroot: intro\nparts:\n- caption: All\n  chapters:\n  - stage: draw\n  - stage: curve\n",
            encoding="utf-8",
        )
        (made.root / "book" / "intro.md").write_text("# Intro\n\nSee {ref}`ch-draw-all`.\n", encoding="utf-8")
        (made.root / "book" / "references.bib").write_text("", encoding="utf-8")
        (made.params / "live.yml").write_text("[]\n", encoding="utf-8")
        for name in ("_config.yml", "CITATION.cff"):
            shutil.copy(real / name, made.root)
        return made

    def test_a_variant_gets_a_page_beside_the_book_and_in_the_appendix_a_place_in_it(
        self, book, panelbook, monkeypatch
    ):
        opened = []
        monkeypatch.setattr("webbrowser.open", opened.append)
        status, out, err = panelbook("variants", "open", "k_max", *TOY)
        assert status == 0, err
        page = book.build / "html" / "chapters" / "20_curve-small--k_max-3.html"
        assert out.splitlines()[-1] == "_build/html/chapters/20_curve-small--k_max-3.html"
        assert opened == [page.as_uri()]
        text = page.read_text(encoding="utf-8")
        assert "A variant" in text
        assert 'href="20_curve-small.html"' in text
        contents = book.build / "html" / "intro.html"
        assert "20_curve-small--k_max-3" not in contents.read_text(encoding="utf-8")
        time = page.stat().st_mtime_ns
        panelbook("variants", "open", "k_max", "--no-open", *TOY)
        assert page.stat().st_mtime_ns == time  # it was there, and newer than its variant
        assert len(opened) == 1
        panelbook("variants", "add", "k_max", *TOY)
        status, out, err = panelbook("build", "--no-download", *TOY)
        assert status == 0, err
        assert "0 executed, 3 up to date" in out
        assert "20_curve-small--k_max-3" in contents.read_text(encoding="utf-8")
        _, out, _ = panelbook("build", "--no-download", *TOY)
        assert "0 executed, 3 up to date" in out
        assert "The book is up to date" in out
