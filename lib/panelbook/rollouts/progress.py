"""Progress of long work inside a notebook: one line that the runner shows, and the notebook does not keep.

A notebook's own output must not change from run to run, and rates do. So progress goes to the file that
`PANELBOOK_PROGRESS` names, which the runner reads; in a notebook opened by hand it goes to the terminal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the runner needs one name of this module, and no engine
    from panelbook.rollouts.sample import Progress
    from panelbook.rollouts.store import Record

VARIABLE = "PANELBOOK_PROGRESS"


def tell(line: str) -> None:
    """Say how far the work has come."""
    target = os.environ.get(VARIABLE)
    if target is None:
        print(line, file=sys.__stderr__)
        return
    partial = Path(f"{target}.partial")
    partial.write_text(line, encoding="utf-8")
    partial.replace(target)


def tell_sampling(progress: Progress) -> None:
    """Say how many draws are done, at what rate, and how long the rest will take."""
    left = f", {progress.left_s:,.0f} s left" if progress.n_done > progress.n_reused else ""
    tell(
        f"{progress.n_done:,} of {progress.n_total:,} draws, {progress.tokens_per_s:,.0f} tokens/s{left}"
        if progress.n_tokens
        else f"{progress.n_done:,} of {progress.n_total:,} draws, {progress.n_reused:,} of them kept from before"
    )


def tell_step(metrics: Record, n_steps: int) -> None:
    """Say how training goes."""
    tell(
        f"step {metrics['step'] + 1} of {n_steps}: reward {metrics['reward']:.2f}, "
        f"{metrics['tokens_total']:,} tokens so far"
    )
