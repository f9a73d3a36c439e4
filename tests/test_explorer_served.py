"""The explorer as a reader meets it: from the command's server, from a folder, and in the output of a notebook."""

import pandas as pd
import pytest

from panelbook.pipeline.serve import serving
from panelbook.publish.explorer import explore, rollout_id, write_explorer

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script>"


@pytest.fixture
def page(browser):
    """Return a page that fails the test for an error in its console or a request to another host."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "about:"))
            or wrong.append(request.url)
        ),
    )
    yield page
    page.close()
    assert wrong == []


def draws():
    """Return draws of both arms, one of them hostile."""
    rows = [
        {
            "arm": arm,
            "problem_id": f"p{p}",
            "sample_id": s,
            "run_id": "r",
            "checkpoint": "base",
            "correct": s == 0,
        }
        for p in range(3)
        for arm in ("panel", "think")
        for s in range(2)
    ]
    table = pd.DataFrame(rows)
    says = "<mutipersonaDebate> Ada : {0} . Ben : {1} . </mutipersonaDebate> <answer> 7 </answer>"
    table["completion"] = [
        says.format(f"voice of {row.problem_id}", HOSTILE)
        if row.arm == "panel"
        else f"<think> step of {row.problem_id} </think> <answer> 7 </answer>"
        for row in table.itertuples()
    ]
    return table


PROBLEMS = pd.DataFrame({"problem_id": ["p1"], "question": [f"what of {HOSTILE}?"], "gold": ["7"]})


def read_page(place, problem):
    """Return the words of the page (or frame) once it shows a problem's draws, and check that nothing took it over."""
    place.get_by_text(f"voice of {problem} .").first.wait_for(timeout=10_000)
    text = place.locator("body").inner_text()
    assert "onerror=" in text  # shown as text
    assert place.locator("img").count() == 0
    return text


def test_served_it_opens_at_the_draw_that_the_address_names(page, tmp_path):
    table = draws()
    wanted = table[(table["problem_id"] == "p1") & (table["arm"] == "panel")].iloc[1]
    write_explorer(tmp_path / "x", table, PROBLEMS, title="Mine")
    with serving(tmp_path / "x") as address:
        page.goto(f"{address}#r={rollout_id(wanted)}")
        text = read_page(page, "p1")
        assert "what of <img" in text
        assert "12 rollouts" in text
        assert "taken" not in page.title()


def test_a_written_folder_opens_from_the_file_system(page, tmp_path):
    page.goto(write_explorer(tmp_path / "x", draws(), title="Mine").as_uri() + "#p=p2")
    assert "step of p2" in read_page(page, "p2")


def test_the_output_of_a_notebook_shows_it_in_a_frame_that_reaches_nothing_outside(page, tmp_path):
    output = tmp_path / "output.html"
    markup = explore(draws(), PROBLEMS, height=700)._repr_html_()
    output.write_text(f"<!doctype html><meta charset='utf-8'><title>lab</title>{markup}", encoding="utf-8")
    page.goto(output.as_uri())
    text = read_page(page.frame_locator("iframe"), "p0")
    assert "Rollouts" in text
    assert page.title() == "lab"
    frame = page.frames[1]
    assert frame.evaluate(
        "() => { try { return parent.document.title } catch (error) { return error.name } }"
    ) == ("SecurityError")
