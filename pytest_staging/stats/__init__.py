"""Summaries, comparisons, verdicts and the stopping rule: pure functions over numbers, standard library only.

The unit of every comparison is the block: one run index in one mode, all versions measured back to back. Percentiles
are computed inside a run, statistics over blocks.
"""

from __future__ import annotations

from .comparison import Comparison, compare, unusable_reason
from .power import ALPHA, SMALLEST_PASS, Detectable, detectable, runs_needed, smallest_regression
from .sequential import Decision, StoppingLevels, decide, stopping_levels
from .spending import LOOKS, nominal_levels
from .summary import Summary, percentile, summarise
from .verdict import Judgement, MetricVerdict, Verdict, campaign_verdict, judge

__all__ = [
    "ALPHA",
    "LOOKS",
    "SMALLEST_PASS",
    "Comparison",
    "Decision",
    "Detectable",
    "Judgement",
    "MetricVerdict",
    "StoppingLevels",
    "Summary",
    "Verdict",
    "campaign_verdict",
    "compare",
    "decide",
    "detectable",
    "judge",
    "nominal_levels",
    "percentile",
    "runs_needed",
    "smallest_regression",
    "stopping_levels",
    "summarise",
    "unusable_reason",
]
