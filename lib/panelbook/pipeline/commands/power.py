"""`panelbook power`: plan a comparison of two arms."""

from typing import Annotated

import typer
from rich.table import Table

from panelbook.pipeline.commands.terminal import console


def power(
    pass_first: Annotated[
        float, typer.Option(help="Expected share of right draws of the first arm, such as 0.30.")
    ],
    pass_second: Annotated[
        float, typer.Option(help="Expected share of right draws of the second arm, such as 0.35.")
    ],
    problems: Annotated[int, typer.Option(help="Problems that both arms answer.")],
    draws: Annotated[int, typer.Option(help="Draws of each problem, for each arm.")],
    effect: Annotated[
        float | None,
        typer.Option(help="Difference to be seen, such as 0.05. By default that of the two shares."),
    ] = None,
    wanted: Annotated[float, typer.Option("--power", help="Wanted chance to see it.")] = 0.8,
    correlation: Annotated[
        float, typer.Option(help="Of the two arms' success rates over problems, from -1 to 1.")
    ] = 0.5,
    sd_problems: Annotated[
        float | None,
        typer.Option(
            help="How much success rates differ between problems (standard deviation). "
            "By default 0.7 of the most they can, about what the published benchmarks show."
        ),
    ] = None,
) -> None:
    """Plan a comparison of two arms: what a design can see, and how many problems or draws it takes.

    Both arms answer the same problems, several times each. A difference of shares has two sources of noise:
    problems differ in how much they favour an arm, and draws of one problem differ by chance. More draws
    help against the second only. For example: [bold]panelbook power --pass-first 0.30 --pass-second 0.35
    --problems 100 --draws 8[/bold].
    """
    from panelbook.measure.power import assess, plan_from_rates
    from panelbook.pipeline.params import ParamError

    seen = pass_second - pass_first if effect is None else effect
    try:
        design = plan_from_rates(seen, pass_first, pass_second, problems, draws, correlation, sd_problems)
        found = assess(design, wanted)
    except ValueError as error:
        raise ParamError(str(error)) from None
    table = Table("question", "answer", title=f"{problems:,} problems, {draws:,} draws each, both arms")
    needed = "more than ten million" if found.problems is None else f"{found.problems:,}"
    rows = (
        (f"chance to see a difference of {seen:+.3g}", f"{found.power:.1%}"),
        (f"smallest difference seen with {wanted:.0%} chance", f"{found.detectable:.3f}"),
        (f"problems needed for {seen:+.3g}, with {draws:,} draws each", needed),
        (
            f"draws needed for {seen:+.3g}, with {problems:,} problems",
            found.draws_note or f"{found.draws:,}",
        ),
        ("share of the variance that is between problems", f"{design.between / design.variance:.0%}"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print("Two-sided t-test over problems at 5%, arms paired by problem.", highlight=False)
