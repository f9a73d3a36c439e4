"""What a plan would spend, against sums done by hand."""

import dataclasses

import pytest
from typer.testing import CliRunner

from panelbook.pipeline import estimate
from panelbook.pipeline.cli import app
from panelbook.pipeline.estimate import (
    Cost,
    SpendingRefused,
    estimate_costs,
    find_price,
    is_self_hosted,
    list_spending,
)
from panelbook.pipeline.params import ProblemsParams, RolloutsParams, TrainParams
from panelbook.pipeline.stages import STAGES, StageRun, plan
from panelbook.project import Project
from panelbook.publish.prices import Price, PriceTable

PROJECT = Project.find()
PRICE = Price(
    prompt=1.0, completion=10.0, training=100.0, mean_tokens=500, tokens_per_s=50, source="x", as_of="x"
)
MODEL = {"engine": "tinker", "model": "Some/Model-30B", "problems": "runs/p/problems/aime/problems.parquet"}


def make_run(stage, params):
    return StageRun(STAGES[stage], "p", "g", params)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Estimate one run in an empty project, with its problems still to be drawn: two AIMEs, four held out."""
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    monkeypatch.setattr(
        estimate, "read_prices", lambda path: PriceTable(currency="USD", models={"Model": PRICE})
    )
    params = ProblemsParams(benchmark="aime", n_heldout_per_source=2)
    problems = dataclasses.replace(make_run("problems", params), group="aime")
    project = dataclasses.replace(PROJECT, root=tmp_path)

    def estimate_one(run):
        (cost,) = estimate_costs(project, [run], [problems, run])
        return cost

    return estimate_one


def test_rollouts_are_problems_times_draws(ask):
    cost = ask(make_run("rollouts", RolloutsParams(**MODEL, n_samples=5, max_tokens=2000)))
    n = 60 * 5
    assert cost == Cost(
        run="rollouts.g",
        n_draws=n,
        prompt_tokens=n * 300,
        expected_tokens=n * 500,
        most_tokens=n * 2000,
        expected_usd=pytest.approx((n * 300 * 1 + n * 500 * 10) / 1e6),
        most_usd=pytest.approx((n * 300 * 1 + n * 2000 * 10) / 1e6),
        hours=pytest.approx(n * 500 / 50 / 3600),
    )


def test_training_draws_reads_again_and_evaluates_every_checkpoint(ask):
    params = TrainParams(
        **MODEL,
        n_steps=10,
        groups_per_step=3,
        group_size=4,
        max_extra_groups=1,
        checkpoint_every=4,
        n_heldout_samples=2,
        kl_draws=5,
        max_tokens=400,
    )
    cost = ask(make_run("train", params))
    trained = 10 * (3 + 1) * 4
    evaluated = (1 + 3) * 4 * 2  # the start and steps 4, 8, 10; four held-out problems
    assert cost.n_draws == trained + evaluated
    assert (
        cost.expected_tokens == cost.most_tokens == (trained + evaluated) * 400
    )  # the limit is below the mean
    read = (trained + evaluated) * 300 + 10 * 5 * (300 + 400)
    assert cost.prompt_tokens == read
    assert cost.most_usd == pytest.approx(
        (read * 1 + cost.most_tokens * 10 + trained * (300 + 400) * 100) / 1e6
    )


def test_a_server_of_ones_own_costs_nothing(ask, monkeypatch):
    monkeypatch.setenv("TINKER_BASE_URL", "http://127.0.0.1:8123")
    cost = ask(make_run("rollouts", RolloutsParams(**MODEL)))
    assert cost.most_usd == 0
    assert cost.most_tokens > 0


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://localhost:1", True),
        ("http://[::1]:1", True),
        ("http://127.9.9.9", True),
        ("https://tinker.example", False),
        ("http://localhost.example", False),
        ("http://10.0.0.1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_ones_own(monkeypatch, url, own):
    monkeypatch.setenv("TINKER_BASE_URL", url)
    assert is_self_hosted() is own


def test_a_model_without_a_price_is_refused_unless_nobody_charges(monkeypatch):
    table = PriceTable(
        currency="USD", models={"Model": PRICE, "Model-30B": PRICE.model_copy(update={"training": None})}
    )
    assert find_price(table, "Some/Model-7B") is PRICE
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    for model in ("Other/Thing", "Some/Model-30B"):
        with pytest.raises(SpendingRefused, match=f"no complete row for '{model}'"):
            find_price(table, model)
    monkeypatch.setenv("TINKER_BASE_URL", "http://localhost:8000")
    assert find_price(table, "Other/Thing").completion == 0


def test_the_local_engine_spends_nothing():
    assert list_spending(PROJECT, plan(PROJECT, "miniature")) == []


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def no_key(self, monkeypatch):
        monkeypatch.delenv("TINKER_API_KEY", raising=False)
        monkeypatch.delenv("TINKER_BASE_URL", raising=False)

    def test_a_dry_run_needs_no_key_and_says_what_every_run_costs(self):
        done = CliRunner().invoke(app, ["build", "--profile", "tinker", "--dry-run"])
        assert done.exit_code == 0
        for run in plan(PROJECT, "tinker"):
            if run.stage.name in ("train", "rollouts"):
                assert run.id in done.output
        assert "USD" in done.output

    def test_nothing_is_spent_where_nobody_can_agree(self):
        for command in (
            ["build", "--profile", "tinker"],
            ["run", "rollouts.aime_panel", "--profile", "tinker"],
        ):
            done = CliRunner().invoke(app, command)
            assert isinstance(done.exception, SpendingRefused)
            assert "add --yes" in str(done.exception)

    def test_a_budget_below_the_most_it_may_cost_is_refused_even_with_yes(self):
        done = CliRunner().invoke(app, ["build", "--profile", "tinker", "--yes", "--budget", "1"])
        assert isinstance(done.exception, SpendingRefused)
        assert "--budget allows 1.00" in str(done.exception)

    def test_without_a_key_what_is_agreed_to_ends_in_one_line(self, panelbook):
        status, _, told = panelbook("run", "rollouts.aime_panel", "--profile", "tinker", "--yes")
        assert status == 1
        assert "TINKER_API_KEY is not set" in told
        assert "Traceback" not in told
