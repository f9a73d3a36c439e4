"""What a command says and asks before it spends anything at a service."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from panelbook.pipeline.commands.terminal import console
from panelbook.project import Project

if TYPE_CHECKING:
    from panelbook.pipeline.estimate import Cost
    from panelbook.pipeline.stages import StageRun


def agree_to_spend(
    project: Project,
    runs: "Sequence[StageRun]",
    every: "Sequence[StageRun]",
    *,
    yes: bool,
    budget: float | None = None,
    screen: Console = console,
) -> None:
    """Print what `runs` would spend and ask whether to go on; nothing where nothing is spent.

    Raises
    ------
    SpendingRefused
        If the answer is no, nobody can answer, or the most that may be spent is above `budget`.
    ServiceError
        If there is no key, or the service does not answer or refuses it.
    """
    from panelbook.engine.service import Watch
    from panelbook.pipeline.estimate import estimate_costs, is_self_hosted, list_spending

    costs = estimate_costs(project, list_spending(project, runs), every)
    if not costs:
        return
    print_costs(project, costs, screen)
    most = sum(cost.most_usd for cost in costs)
    if not is_self_hosted():
        _agree(most, yes=yes, budget=budget, screen=screen)
    Watch.from_environment().connect()  # a key that is refused is one line here, and a failed stage later


def _agree(most: float, *, yes: bool, budget: float | None, screen: Console) -> None:
    """Return if `most` may be spent."""
    from panelbook.pipeline.estimate import SpendingRefused

    if budget is not None and most > budget:
        raise SpendingRefused(
            f"this may cost up to {most:,.2f}, and --budget allows {budget:,.2f}. Nothing was executed: raise it, run "
            "single stages, or lower n_samples, n_steps or budget_tokens in the profile."
        )
    if yes:
        return
    if not screen.is_terminal:
        raise SpendingRefused(
            f"this may cost up to {most:,.2f}. Nothing was executed: add --yes if that is meant."
        )
    if not typer.confirm("Go on?"):
        raise SpendingRefused("Nothing was executed.")


def print_costs(project: Project, costs: "Sequence[Cost]", screen: Console = console) -> None:
    """Print one row for each run and their sum."""
    from panelbook.pipeline.estimate import PROMPT_TOKENS, is_self_hosted
    from panelbook.publish.prices import read_prices

    currency = read_prices(project.params / "prices.yml").currency
    table = Table(title="Asked of a service (in brackets: at most)", title_justify="left", show_footer=True)
    headings = ("rollouts", "M tokens", "hours", currency)
    table.add_column("run", footer="all", no_wrap=True)
    for heading, whole in zip(headings, _cells(costs), strict=True):
        table.add_column(heading, justify="right", footer=whole, no_wrap=True)
    for cost in costs:
        table.add_row(cost.run, *_cells([cost]))
    screen.print(table)
    screen.print(
        "A server of your own: it costs nothing."
        if is_self_hosted()
        else "Prices, mean length and rate are assumptions of params/prices.yml, yours to edit; tokens are those "
        f"drawn, a prompt counts as {PROMPT_TOKENS}. What an interrupted run has kept is not asked for again.",
        highlight=False,
        soft_wrap=True,
    )


def _cells(costs: "Sequence[Cost]") -> tuple[str, str, str, str]:
    """Write the sums of some costs: rollouts, tokens drawn, hours, money."""
    drawn, most = (
        sum(tokens) / 1e6 for tokens in zip(*((c.expected_tokens, c.most_tokens) for c in costs), strict=True)
    )
    money, most_money = (sum(usd) for usd in zip(*((c.expected_usd, c.most_usd) for c in costs), strict=True))
    return (
        f"{sum(cost.n_draws for cost in costs):,}",
        f"{drawn:,.1f} ({most:,.1f})",
        f"{sum(cost.hours for cost in costs):,.1f}",
        f"{money:,.2f} ({most_money:,.2f})",
    )
