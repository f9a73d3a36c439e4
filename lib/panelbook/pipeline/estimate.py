"""What a plan would spend at a service, before anything is spent: rollouts, tokens, hours and money.

The number of rollouts is known from the parameters. Lengths are not: *at most* takes every completion at its limit,
*expected* takes the mean length that `params/prices.yml` assumes of the model, as it assumes the prices and the rate.
All of these are the reader's to edit. Prompts are counted at `PROMPT_TOKENS`, each once for every draw.

A server of one's own, at a loopback address in TINKER_BASE_URL, costs nothing.

Not handled: what is kept from an interrupted run, which makes a run cheaper than it is said to be here; and discounts
for prompts that a service remembers; and the hard limit of a run, which is its parameter `budget_tokens`.
"""

import ipaddress
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from panelbook.errors import BookError
from panelbook.pipeline.params import EngineParams, ModelParams, ProblemsParams, RolloutsParams, TrainParams
from panelbook.pipeline.run import StageFailed, is_current, stage_key
from panelbook.pipeline.stages import StageRun
from panelbook.project import Project
from panelbook.publish.prices import Price, PriceTable, read_prices

PROMPT_TOKENS = 300
"""Tokens of a prompt, frame included: more than the frames with all but the longest questions of the pools take."""

SIZES = {
    "gsm8k_train": (7473, 1),
    "gsm8k_test": (1319, 1),
    "math_train": (7500, 7),
    "math_heldout": (4500, 7),
    "math500": (500, 7),
    "aime": (60, 2),
    "olympiad": (877, 4),
    "svamp": (1000, 1),
    "mawps": (562, 1),
}
"""Problems and sources of each benchmark, as its authors state them: for plans whose problems are not drawn yet."""


UNPRICED = Price(
    prompt=0,
    completion=0,
    training=0,
    mean_tokens=1000,
    tokens_per_s=100,
    source="a server of one's own, at which nobody charges; length and rate are guesses",
    as_of="not dated",
)
"""What is reckoned with for a model of one's own server that the price table does not have."""


class SpendingRefused(BookError):
    """Nothing was executed, because it would cost more than was agreed to."""


@dataclass(frozen=True)
class Cost:
    """What one run would spend.

    Parameters
    ----------
    run
        Its stage and group.
    n_draws
        Completions.
    prompt_tokens
        Read by the model, those of the divergence from the start included.
    expected_tokens, most_tokens
        Completion tokens.
    expected_usd, most_usd
        In the currency of the price table.
    hours
        At the assumed rate, with the expected lengths.
    """

    run: str
    n_draws: int
    prompt_tokens: int
    expected_tokens: int
    most_tokens: int
    expected_usd: float
    most_usd: float
    hours: float


def is_self_hosted() -> bool:
    """Return whether TINKER_BASE_URL names this machine."""
    host = urlsplit(os.environ.get("TINKER_BASE_URL", "")).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def list_spending(project: Project, runs: Iterable[StageRun]) -> list[StageRun]:
    """Return the runs that ask a service and are not up to date."""
    return [run for run in runs if _asks_service(run) and not is_made(project, run)]


def estimate_costs(project: Project, runs: Sequence[StageRun], every: Sequence[StageRun]) -> list[Cost]:
    """Estimate what each of `runs` spends.

    Parameters
    ----------
    runs
        As `list_spending` returns them.
    every
        All runs of the profile: they say which problems are asked.

    Raises
    ------
    SpendingRefused
        If the price table has no row for a model.
    """
    drawing = [run for run in runs if isinstance(run.params, ModelParams)]
    if not drawing:
        return []
    table = read_prices(project.params / "prices.yml")
    return [_estimate(project, run, every, table) for run in drawing]


def find_price(table: PriceTable, model: str) -> Price:
    """Return the price of a service's model: the row whose name is part of its name, the longest one.

    Raises
    ------
    SpendingRefused
        If there is none, or it lacks a price that is needed.
    """
    rows = [name for name in table.models if name.lower() in model.lower()]
    price = table.models[max(rows, key=len)] if rows else None
    if is_self_hosted() and price is None:
        return UNPRICED
    if price is None or price.training is None or price.tokens_per_s is None or price.mean_tokens is None:
        raise SpendingRefused(
            f"params/prices.yml has no complete row for {model!r}, so what it costs cannot be said. Add one with "
            "prompt, completion, training, mean_tokens and tokens_per_s."
        )
    return price


def _asks_service(run: StageRun) -> bool:
    return isinstance(run.params, EngineParams) and run.params.engine == "tinker"


def is_made(project: Project, run: StageRun) -> bool:
    """Return whether a run is up to date."""
    try:
        return is_current(project.root / run.folder, stage_key(project, run))
    except StageFailed:  # what it reads is not there yet
        return False


def _estimate(project: Project, run: StageRun, every: Sequence[StageRun], table: PriceTable) -> Cost:
    params = run.params
    assert isinstance(params, ModelParams)
    price = find_price(table, params.model)
    n_all, n_heldout = _count_problems(project, params.problems, every)
    trained_draws = read_again = 0
    if isinstance(params, RolloutsParams):
        n_draws = n_all * params.n_samples
    elif isinstance(params, TrainParams):
        trained_draws = (
            params.n_steps * (params.groups_per_step + params.max_extra_groups) * params.group_size
        )
        n_checkpoints = 1 + math.ceil(params.n_steps / params.checkpoint_every)
        n_draws = trained_draws + n_checkpoints * n_heldout * params.n_heldout_samples
        read_again = params.n_steps * params.kl_draws
    else:
        n_draws = 0

    def spend(length: float) -> tuple[float, float, float]:
        """Return (tokens read, tokens drawn, money) if every completion has this length."""
        read = n_draws * PROMPT_TOKENS + read_again * (PROMPT_TOKENS + length)
        drawn, trained = n_draws * length, trained_draws * (PROMPT_TOKENS + length)
        assert price.training is not None  # `find_price` has made sure
        money = (read * price.prompt + drawn * price.completion + trained * price.training) / 1e6
        return read, drawn, 0.0 if is_self_hosted() else money

    assert price.mean_tokens is not None
    assert price.tokens_per_s is not None
    read, drawn, money = spend(min(price.mean_tokens, params.max_tokens))
    _, most_drawn, most_money = spend(params.max_tokens)
    hours = drawn / price.tokens_per_s / 3600
    return Cost(run.full_id, n_draws, round(read), round(drawn), round(most_drawn), money, most_money, hours)


def _count_problems(project: Project, path: str, every: Sequence[StageRun]) -> tuple[int, int]:
    """Return how many problems a file holds, or will hold at most, and how many of them are held out."""
    if project.path(path).is_file():
        import pandas as pd

        split = pd.read_parquet(project.path(path), columns=["split"])["split"]
        return len(split), int((split == "heldout").sum())
    makers = [run.params for run in every if path.startswith(f"{run.folder.as_posix()}/")]
    if not makers or not isinstance(makers[0], ProblemsParams):
        raise SpendingRefused(
            f"no run of the profile writes {path}, so what is asked of it cannot be counted."
        )
    maker = makers[0]
    n, n_sources = SIZES.get(maker.benchmark, (0, 0))
    if not n:  # the exercises of the miniature: seven families, three levels
        n, n_sources = 21 * maker.n_per_level, 7
    n_heldout = min(n, n_sources * maker.n_heldout_per_source)
    n_train = n - n_heldout
    if maker.n_train_per_source:
        n_train = min(n_train, n_sources * maker.n_train_per_source)
    return n_heldout + n_train, n_heldout
