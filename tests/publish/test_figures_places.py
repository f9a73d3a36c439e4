"""The map of rollouts: every draw once in each panel, at its place, in the colour of its kind."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from panelbook.publish import figures


@pytest.fixture(autouse=True)
def theme():
    with mpl.rc_context():
        figures.use_theme()
        yield


def places_table():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "x": rng.normal(size=30),
            "y": rng.normal(size=30),
            "arm": ["panel"] * 18 + ["think"] * 12,
            "correct": [True, False, False] * 10,
        }
    )


def points(ax):
    """Return the places of all points that an axes shows, and how many each colour has."""
    drawn = [c for c in ax.collections if len(c.get_offsets())]
    places = np.concatenate([np.asarray(c.get_offsets()) for c in drawn])
    return places, [len(c.get_offsets()) for c in drawn]


def test_every_draw_stands_at_its_place_in_both_panels():
    table = places_table()
    fig = figures.draw_places(table, (0.4, 0.1))
    for ax, counts in zip(fig.axes, ([18, 12], [10, 20]), strict=True):
        places, found = points(ax)
        assert found == counts
        assert sorted(map(tuple, places)) == sorted(zip(table["x"], table["y"], strict=True))


def test_axes_say_what_they_hold_and_nothing_where_there_is_nothing():
    top, bottom = figures.draw_places(places_table(), (0.4, 0.1)).axes
    assert bottom.get_xlabel() == "first axis (40% of the variance)"
    assert top.get_ylabel() == bottom.get_ylabel() == "second axis (10% of the variance)"
    alone = places_table().head(1).assign(x=0.0, y=0.0)
    assert figures.draw_places(alone, (float("nan"), float("nan"))).axes[1].get_xlabel() == "first axis"


def test_arms_have_their_own_colours_and_legends_name_every_kind():
    top, bottom = figures.draw_places(places_table(), (0.4, 0.1)).axes
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["panel", "think"]
    assert [text.get_text() for text in bottom.get_legend().get_texts()] == ["right", "not right"]
    shown = [mpl.colors.to_hex(c.get_facecolor()[0]) for c in top.collections if len(c.get_offsets())]
    assert shown == ["#0072b2", "#d55e00"]


def test_thousands_of_points_make_no_heavy_page_and_the_same_one():
    table = pd.concat([places_table()] * 100, ignore_index=True)

    def draw():
        stream = io.BytesIO()
        figures.draw_places(table, (0.4, 0.1)).savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()

    first = draw()
    assert len(first) < 400_000
    assert draw() == first
