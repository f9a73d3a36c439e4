"""Claims: a published figure against its recomputed value, and a verdict by a rule that was written down first.

A claim names what must be true of the recomputed numbers. *Figures* must lie within a tolerance of the published
ones, usually one unit of the last digit that was printed. *Conditions* are what the claim asserts beyond its figure:
a direction holds when the 95% interval lies beyond the reference, and not merely the value. *Requirements* say what the
files must hold for the claim to be tested at all.

The four verdicts, in the order in which they are tried: *not recomputable* if nothing is tracked or a requirement
fails; *contradicted by the tracked data* if a figure or a condition fails; *holds from aggregates only* if what is
tracked are sums; *holds* otherwise.

Not handled: several claims at once. With 41 claims at 95% one or two conditions may fail by chance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from panelbook.measure.uncertainty import ROUNDING, Estimate

HOLDS = "holds"
AGGREGATES = "holds from aggregates only"
CONTRADICTED = "contradicted by the tracked data"
NOT_RECOMPUTABLE = "not recomputable"
VERDICTS = (HOLDS, AGGREGATES, CONTRADICTED, NOT_RECOMPUTABLE)

Tracked = Literal["rows", "sums", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published figure and how near the recomputed one must come.

    Attributes
    ----------
    value
        Name of the estimate that recomputes it.
    published
        The figure as printed.
    within
        Largest distance that counts as agreement.
    style
        How it is written.
    """

    value: str
    published: float
    within: float
    style: str

    def holds(self, evidence: Mapping[str, Estimate]) -> bool:
        """Tell whether the recomputed value agrees."""
        return abs(evidence[self.value].value - self.published) <= self.within + ROUNDING


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What must be true of one estimate: its whole interval above, or below, a number; without one, its value.

    Attributes
    ----------
    value
        Name of the estimate.
    above, below
        The reference; exactly one of the two.
    style
        How it is written.
    """

    value: str
    above: float | None = None
    below: float | None = None
    style: str = "number"

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(
                f"a condition on {self.value!r} needs either above or below, not both or neither."
            )

    def holds(self, evidence: Mapping[str, Estimate]) -> bool:
        """Tell whether the estimate lies on the right side, its interval included."""
        estimate = evidence[self.value]
        if self.above is not None:
            return (estimate.value if estimate.low is None else estimate.low) > self.above
        assert self.below is not None
        return (estimate.value if estimate.high is None else estimate.high) < self.below


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of the ledger.

    Attributes
    ----------
    id
        Letter of the topic and a number.
    claim
        What is claimed, in our words.
    published
        The figure as the study prints it; empty if the claim has none.
    files
        Published files that it is recomputed from.
    function, arguments
        Function of `evidence` and what it is called with; no function where nothing is tracked.
    tracked
        What the files hold: rows by problem, sums over problems, or nothing.
    figures, conditions, requires
        What must be true; see the module.
    shown
        Further estimates that the row displays: name -> style.
    why
        The reason in one sentence, with recomputed numbers in braces.
    concedes
        What the study itself says against the claim, if anything.
    chapter
        Run whose page shows more, as `stage.group`.
    agrees
        Estimates that the chapter states too: name -> name in the chapter's results.
    headline
        The claim in a few words, if the front page shows it.
    """

    id: str
    claim: str
    why: str
    tracked: Tracked
    published: str = ""
    files: list[str] = field(default_factory=list)
    function: str = ""
    arguments: dict[str, object] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    requires: list[Condition] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    concedes: str = ""
    chapter: str = ""
    agrees: dict[str, str] = field(default_factory=dict)
    headline: str = ""

    def __post_init__(self) -> None:
        if (self.tracked == "nothing") == bool(self.function):
            raise ValueError(
                f"claim {self.id}: a function is needed exactly where something is tracked; tracked is "
                f"{self.tracked!r} and the function {self.function!r}."
            )
        if self.function and not (self.figures or self.conditions):
            raise ValueError(
                f"claim {self.id}: nothing is asked of the numbers. Give a figure or a condition."
            )

    @property
    def styles(self) -> dict[str, str]:
        """Estimates that the row displays, in order, and how each is written."""
        asked: list[Figure | Condition] = [*self.figures, *self.conditions, *self.requires]
        return {part.value: part.style for part in asked} | self.shown


def judge(claim: Claim, evidence: Mapping[str, Estimate]) -> str:
    """Return the verdict on a claim.

    Parameters
    ----------
    claim
        The claim with its rule.
    evidence
        What its function returned; empty where nothing is tracked.

    Raises
    ------
    ValueError
        If the rule names an estimate that the function does not return.

    Examples
    --------
    >>> claim = Claim(id="X1", claim="", why="", tracked="rows", function="f",
    ...               figures=[Figure(value="gain", published=0.15, within=0.01, style="points")])
    >>> judge(claim, {"gain": Estimate(0.1, 0.05, 0.15, 20, 80, "")})
    'contradicted by the tracked data'
    """
    if claim.tracked == "nothing":
        return NOT_RECOMPUTABLE
    unknown = [name for name in claim.styles if name not in evidence]
    if unknown:
        raise ValueError(f"{claim.function} returns no {unknown[0]!r}; it returns {', '.join(evidence)}.")
    if not all(need.holds(evidence) for need in claim.requires):
        return NOT_RECOMPUTABLE
    asked: list[Figure | Condition] = [*claim.figures, *claim.conditions]
    if not all(part.holds(evidence) for part in asked):
        return CONTRADICTED
    return AGGREGATES if claim.tracked == "sums" else HOLDS


def reaches_beyond(claim: Claim, evidence: Mapping[str, Estimate]) -> bool | None:
    """Tell whether the first number of a claim is told apart from no effect; None where it has no interval.

    No effect is 1 for a ratio and 0 otherwise. A figure can be right for the problems that were drawn and yet say
    nothing of others like them.

    Parameters
    ----------
    claim
        The claim.
    evidence
        What its function returned.
    """
    name, style = next(iter(claim.styles.items()), ("", ""))
    estimate = evidence.get(name)
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    nothing = 1.0 if style == "ratio" else 0.0
    return not estimate.low <= nothing <= estimate.high
