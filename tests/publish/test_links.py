"""Source and launch links of a staged page lead to the tracked file behind it."""

import pytest

from panelbook.publish.links import resolve_link, setup

REPO = "https://github.com/panelbook/panelbook"


@pytest.mark.parametrize(
    ("staged", "tracked"),
    [
        (
            f"{REPO}/blob/main/notebooks/chapters/40_pass_at_k-aime.ipynb",
            f"{REPO}/blob/main/notebooks/40_pass_at_k.ipynb",
        ),
        (
            f"{REPO}/blob/main/notebooks/chapters/30_diversity-math500_s50.ipynb",
            f"{REPO}/blob/main/notebooks/30_diversity.ipynb",
        ),
        (
            "https://mybinder.org/v2/gh/panelbook/panelbook/main?urlpath=lab/tree/notebooks%2Fchapters%2F40_pass_at_k-aime.ipynb",
            "https://mybinder.org/v2/gh/panelbook/panelbook/main?urlpath=lab/tree/notebooks%2F40_pass_at_k.ipynb",
        ),
        (f"{REPO}/blob/main/notebooks/methods.md", f"{REPO}/blob/main/book/methods.md"),
        ("?urlpath=tree/notebooks%2Fmethods.md", "?urlpath=tree/book%2Fmethods.md"),
    ],
)
def test_a_staged_page_leads_to_its_source(staged, tracked):
    assert resolve_link(staged) == tracked


@pytest.mark.parametrize(
    "url",
    [
        REPO,
        f"{REPO}/issues/new?title=Issue%20on%20page%20%2Fchapters%2F40_pass_at_k-aime.html",
        f"{REPO}/blob/main/notebooks/40_pass_at_k.ipynb",
        "_sources/chapters/40_pass_at_k-aime.ipynb",
        "#a-heading",
        "",
    ],
)
def test_other_links_are_left_alone(url):
    assert resolve_link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        f"{REPO}/blob/main/notebooks/chapters/40_pass_at_k-aime.ipynb",
        f"{REPO}/blob/main/notebooks/methods.md",
    ],
)
def test_once_is_enough(url):
    assert resolve_link(resolve_link(url)) == resolve_link(url)


class App:
    """As much of Sphinx as an extension sees: it connects callbacks."""

    def __init__(self):
        self.callbacks = {}
        self.scripts = []

    def add_js_file(self, name, loading_method=None):
        self.scripts.append((name, loading_method))

    def connect(self, event, callback, priority=500):
        self.callbacks[event] = callback


def test_every_button_of_a_page_is_rewritten_however_deep_it_lies():
    app = App()
    setup(app)
    staged = f"{REPO}/blob/main/notebooks/chapters/40_pass_at_k-aime.ipynb"
    context = {
        "header_buttons": [
            {"type": "link", "url": staged},
            {
                "type": "group",
                "buttons": [{"type": "link", "url": staged}, {"type": "javascript", "text": "x"}],
            },
        ],
        "script_files": [],
    }
    app.callbacks["html-page-context"](app, "chapters/40_pass_at_k-aime", "page.html", context, None)
    tracked = f"{REPO}/blob/main/notebooks/40_pass_at_k.ipynb"
    assert context["header_buttons"][0]["url"] == tracked
    assert context["header_buttons"][1]["buttons"][0]["url"] == tracked


def test_a_page_without_buttons_is_no_trouble():
    app = App()
    setup(app)
    context: dict = {}
    app.callbacks["html-page-context"](app, "search", "search.html", context, None)
    assert "header_buttons" not in context


@pytest.mark.parametrize(
    ("body", "scripts"),
    [
        ('<p>x</p><div class="dial" hidden></div>', [("panelbook/dials.js", "defer")]),
        ("<p>A dial: class=&quot;dial&quot;</p>", []),
    ],
)
def test_only_a_page_with_a_dial_loads_the_script_that_turns_it(body, scripts):
    app = App()
    setup(app)
    context = {"body": body, "script_files": []}
    app.callbacks["html-page-context"](app, "chapters/40_pass_at_k-aime", "page.html", context, None)
    assert app.scripts == scripts


def test_references_are_items_of_their_list():
    app = App()
    setup(app)
    body = '<div role="list"><div class="citation" id="x" role="doc-biblioentry">A</div></div>'
    context: dict = {"body": body}
    app.callbacks["html-page-context"](app, "references", "page.html", context, None)
    assert context["body"] == '<div role="list"><div class="citation" id="x" role="listitem">A</div></div>'
