"""The price table: what is read, and what is refused with a way out."""

import pytest
import yaml

from panelbook.errors import BookError
from panelbook.pipeline.params import BudgetParams, ParamError
from panelbook.project import Project
from panelbook.publish.prices import Price, find_price, read_prices

ROW = {"prompt": 0.5, "completion": 2, "source": "a list", "as_of": "today"}
TABLE = {"currency": "USD", "models": {"m": ROW}}


def write(folder, content):
    path = folder / "prices.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_reads_a_table(tmp_path):
    table = read_prices(write(tmp_path, TABLE))
    assert table.currency == "USD"
    assert find_price(table, "m") == Price(prompt=0.5, completion=2.0, source="a list", as_of="today")


def test_the_tracked_table_has_what_the_profiles_ask_for():
    project = Project.find()
    table = read_prices(project.params / "prices.yml")
    for model in (BudgetParams().priced_as, "miniature"):
        price = find_price(table, model)
        assert price.completion > 0
        assert "assumed" in price.source or "nominal" in price.source


def without(key):
    return TABLE | {"models": {"m": {k: v for k, v in ROW.items() if k != key}}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("models: [", "is not valid YAML"),
        ("", "the file"),
        ({"models": {"m": ROW}}, "currency"),
        (TABLE | {"models": {}}, "models"),
        (TABLE | {"extra": 1}, "extra"),
        (without("prompt"), "models.m.prompt"),
        (without("as_of"), "models.m.as_of"),
        (TABLE | {"models": {"m": ROW | {"prompt": -1}}}, "models.m.prompt"),
        (TABLE | {"models": {"m": ROW | {"prompt": float("inf")}}}, "models.m.prompt"),
        (TABLE | {"models": {"m": ROW | {"completion": "cheap"}}}, "'cheap'"),
        (TABLE | {"models": {"m": ROW | {"speed": 1}}}, "models.m.speed"),
        (TABLE | {"models": {"m": ROW | {"training": -1}}}, "models.m.training"),
        (TABLE | {"models": {"m": ROW | {"tokens_per_s": 0}}}, "models.m.tokens_per_s"),
        (TABLE | {"models": {"m": ROW | {"source": ""}}}, "models.m.source"),
    ],
)
def test_refuses_a_broken_table_and_says_where(tmp_path, content, words):
    with pytest.raises(BookError) as refusal:
        read_prices(write(tmp_path, content))
    assert words in str(refusal.value)
    assert "prices.yml" in str(refusal.value)


def test_a_date_without_quotation_marks_is_answered_with_how_to_write_it(tmp_path):
    path = write(tmp_path, yaml.safe_dump(TABLE).replace("today", "2026-01-31"))
    with pytest.raises(BookError, match="quotation marks"):
        read_prices(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BookError, match=r"nowhere\.yml cannot be read"):
        read_prices(tmp_path / "nowhere.yml")


def test_an_unknown_model_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(BookError, match="no model 'n'; it has m"):
        find_price(read_prices(write(tmp_path, TABLE)), "n")


def test_a_coverage_that_is_no_share_is_refused():
    with pytest.raises(ParamError, match=r"coverage must be in \(0, 1\]"):
        BudgetParams(coverage=1.5)
