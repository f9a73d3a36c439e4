"""The book of some runs: what must hold of its pages before anything is rendered."""

import pytest
from toy_book import DRAW, change_notebook, draw_run, make_checkout, read_results

from panelbook.pipeline import book
from panelbook.pipeline.run import run_stage
from panelbook.publish.numbers import BareNumber


@pytest.fixture
def project(tmp_path):
    """Return a checkout with one finished run."""
    made = make_checkout(tmp_path / "toy")
    run_stage(made, draw_run())
    return made


class TestNumbers:
    def test_a_figure_typed_into_the_prose_stops_the_book_before_it_is_staged(self, project):
        change_notebook(project, DRAW, prose="(ch-draw)=\n# A better question?\n\nIt rose by 12.5%.")
        with pytest.raises(BareNumber, match=r"draw\.all, cell 'prose': 12\.5% is typed into the prose"):
            book.render(project, [draw_run()])
        assert not (project.build / "source").exists()

    def test_so_does_a_glued_name_that_no_cell_glues(self, project):
        change_notebook(project, DRAW, prose="(ch-draw)=\n# A question?\n\nThere are {glue:text}`n_rows`.")
        with pytest.raises(BareNumber, match=r"draw\.all, cell 'prose': the prose quotes 'n_rows'"):
            book.render(project, [draw_run()])

    def test_and_a_result_over_nobody_knows_how_many(self, project, monkeypatch):
        (record,) = read_results(project, draw_run()).values()
        broken = record | {"low": 3, "high": 5, "n_problems": None, "n_draws": None, "reason": ""}
        monkeypatch.setattr(book, "load_results", lambda project, run: {"n_rows": broken})
        with pytest.raises(BareNumber, match=r"draw\.all: result 'n_rows' has an interval, but does not say"):
            book.render(project, [draw_run()])

    def test_a_page_that_keeps_to_the_rules_is_staged(self, project, monkeypatch):
        staged = []
        monkeypatch.setattr(book, "stage_book", lambda project, target, *rest, **more: staged.append(target))
        monkeypatch.setattr(book, "render_book", lambda *rest, **more: True)
        (project.params / "live.yml").write_text("[]\n", encoding="utf-8")
        book.render(project, [draw_run()])
        assert len(staged) == 1
