"""How an interval is made: seed, number of resamples, confidence level.

Apart from `uncertainty`, which makes the intervals, so that parameters can be checked without loading numpy, pandas and
scipy: the command line completes names on the TAB key.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Resampling:
    """How to resample: passed in by the caller, so that a result depends on its arguments alone.

    Parameters
    ----------
    seed
        Non-negative seed of the generator; the same seed gives bit-identical results.
    n_resamples
        Number of resamples B, at least 100: with fewer the tails of a 95% interval are not resolved.
    confidence
        Nominal coverage, strictly between 0 and 1.
    """

    seed: int
    n_resamples: int = 4000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more; it is {self.seed}. Choose a non-negative integer.")
        if self.n_resamples < 100:
            raise ValueError(
                f"n_resamples must be 100 or more to resolve the tails; it is {self.n_resamples}. "
                "Use 4000 for a result to report, a few hundred for a rehearsal."
            )
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence must lie between 0 and 1, as 0.95 does; it is {self.confidence}.")

    def generator(self) -> "np.random.Generator":
        """Make a fresh generator from the seed."""
        import numpy as np

        return np.random.default_rng(self.seed)
