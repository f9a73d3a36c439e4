"""Figures of the book: finished tables in, a matplotlib Figure out.

Colour and marker stand for an arm and are the same in every chapter. Every figure is one column wide, so that its
lettering stays readable on a phone, and shows the interval of what it estimates.
"""

from panelbook.publish.figures.bands import (
    draw_band_shares,
    draw_difference_parts,
    draw_group_sizes,
    draw_joint_bands,
    draw_matched_strata,
    draw_mixed_share,
)
from panelbook.publish.figures.climb import (
    draw_accuracy_by_level,
    draw_heldout,
    draw_matched_climb,
    draw_objectives,
    draw_pretraining,
    draw_training,
    draw_trajectory,
    draw_warmup,
)
from panelbook.publish.figures.multiverse import (
    draw_explained,
    draw_frontier,
    draw_measures,
    draw_specification_curve,
    draw_strata,
)
from panelbook.publish.figures.nulls import draw_hard_problems, draw_null_closure
from panelbook.publish.figures.passk import (
    draw_envelopes,
    draw_model_curves,
    draw_pass_curves,
    draw_summary_differences,
)
from panelbook.publish.figures.places import draw_places
from panelbook.publish.figures.simulation import draw_coverage, draw_power, power_sizes
from panelbook.publish.figures.spread import draw_paired_spread, draw_spread_against_accuracy
from panelbook.publish.figures.style import (
    ARM_STYLES,
    BANDS,
    OTHER_ARM,
    WIDTH,
    use_theme,
)
from panelbook.publish.figures.tokens import (
    draw_budget_curves,
    draw_cap_sensitivity,
    draw_cost,
    draw_length_buckets,
    draw_length_pairs,
    draw_mean_lengths,
)

__all__ = [
    "ARM_STYLES",
    "BANDS",
    "OTHER_ARM",
    "WIDTH",
    "draw_accuracy_by_level",
    "draw_band_shares",
    "draw_budget_curves",
    "draw_cap_sensitivity",
    "draw_cost",
    "draw_coverage",
    "draw_difference_parts",
    "draw_envelopes",
    "draw_explained",
    "draw_frontier",
    "draw_group_sizes",
    "draw_hard_problems",
    "draw_heldout",
    "draw_joint_bands",
    "draw_length_buckets",
    "draw_length_pairs",
    "draw_matched_climb",
    "draw_matched_strata",
    "draw_mean_lengths",
    "draw_measures",
    "draw_mixed_share",
    "draw_model_curves",
    "draw_null_closure",
    "draw_objectives",
    "draw_paired_spread",
    "draw_pass_curves",
    "draw_places",
    "draw_power",
    "draw_pretraining",
    "draw_specification_curve",
    "draw_spread_against_accuracy",
    "draw_strata",
    "draw_summary_differences",
    "draw_training",
    "draw_trajectory",
    "draw_warmup",
    "power_sizes",
    "use_theme",
]
