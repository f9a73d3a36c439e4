"""Figures of the book: finished tables in, a matplotlib Figure out.

Colour and marker stand for an arm and are the same in every chapter. Every figure is one column wide, so that its
lettering stays readable on a phone, and shows the interval of what it estimates.
"""

from panelbook.publish.figures.bands import draw_band_shares, draw_joint_bands, draw_mixed_share
from panelbook.publish.figures.climb import (
    draw_accuracy_by_level,
    draw_heldout,
    draw_matched_climb,
    draw_pretraining,
    draw_training,
    draw_trajectory,
)
from panelbook.publish.figures.passk import draw_pass_curves
from panelbook.publish.figures.spread import draw_paired_spread, draw_spread_against_accuracy
from panelbook.publish.figures.style import (
    ARM_STYLES,
    BANDS,
    OTHER_ARM,
    WIDTH,
    use_theme,
)
from panelbook.publish.figures.tokens import draw_cost, draw_length_buckets, draw_length_pairs

__all__ = [
    "ARM_STYLES",
    "BANDS",
    "OTHER_ARM",
    "WIDTH",
    "draw_accuracy_by_level",
    "draw_band_shares",
    "draw_cost",
    "draw_heldout",
    "draw_joint_bands",
    "draw_length_buckets",
    "draw_length_pairs",
    "draw_matched_climb",
    "draw_mixed_share",
    "draw_paired_spread",
    "draw_pass_curves",
    "draw_pretraining",
    "draw_spread_against_accuracy",
    "draw_training",
    "draw_trajectory",
    "use_theme",
]
