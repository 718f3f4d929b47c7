"""The stopping rule of `--runs auto`: when to stop adding blocks, and the verdict then.

Each look compares the exact p-values of all data so far with nominal levels from `spending`: regressions spend
.05 / m for m comparisons (Bonferroni; Holm's steps have no simple counterpart over looks), passes .05 each. All
metrics must pass at the same look. Keeping a pass of an earlier look would hold the error rates too, but the verdict
would then depend on more than the data it is printed with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .comparison import Comparison
from .power import ALPHA
from .spending import LOOKS, nominal_levels
from .verdict import (
    Judgement,
    MetricVerdict,
    Verdict,
    campaign_verdict,
    counted_names,
    metric_verdict,
    not_applicable_verdict,
)


@dataclass(frozen=True)
class StoppingLevels:
    """Nominal one-sided levels per look for `comparisons` counted comparisons."""

    comparisons: int
    looks: tuple[int, ...]
    regression: tuple[float, ...]
    passing: tuple[float, ...]


@dataclass(frozen=True)
class Decision:
    """Whether to stop at `look` blocks, the verdict if so (else inconclusive so far), and why.

    `judgement` holds the verdict of every metric by the levels of this look. `next_look` is the number of blocks to
    go on to, None after a stop. `futile` marks a stop because more blocks are needed than the last look has.
    """

    stop: bool
    verdict: Verdict
    reason: str
    look: int
    next_look: int | None
    judgement: Judgement
    futile: bool = False


def stopping_levels(comparisons: int, looks: tuple[int, ...] = LOOKS) -> StoppingLevels:
    """The levels for a number of counted comparisons; none count as one. Raises ValueError for a negative number."""
    if comparisons < 0:
        raise ValueError(f"the number of comparisons must not be negative, got {comparisons}")
    regression = nominal_levels(ALPHA / max(comparisons, 1), looks)
    return StoppingLevels(comparisons, looks, regression, nominal_levels(ALPHA, looks))


def decide(
    comparisons: Mapping[str, Comparison],
    look_index: int,
    m: int | None = None,
    *,
    advisory: Collection[str] = (),
    not_applicable: Collection[str] = (),
    looks: tuple[int, ...] = LOOKS,
    futility: bool = False,
) -> Decision:
    """Decide at look `look_index` (from 0), with all blocks up to `looks[look_index]` compared.

    `m` is the number of counted comparisons planned for the whole campaign; without it those given are counted. It
    must be the same at every look. Stops when any counted metric regresses, when all pass, at the last look, and,
    with `futility`, when a metric that has not passed needs more blocks than the last look has. That stop is never
    a pass or a regression, so it cannot raise an error rate. Advisory metrics are judged without correction and do
    not stop anything.

    Raises ValueError for a look that is not there and an m below the number of counted comparisons.
    """
    if not 0 <= look_index < len(looks):
        raise ValueError(f"look {look_index} is not one of the {len(looks)} looks")
    counted = counted_names(comparisons, advisory, not_applicable)
    planned = len(counted) if m is None else m
    if planned < len(counted):
        raise ValueError(f"{len(counted)} comparisons are counted, but only {planned} were planned")
    verdicts = _verdicts(comparisons, counted, not_applicable, stopping_levels(planned, looks), look_index)
    verdict, reason = campaign_verdict(verdicts)
    judgement = Judgement(verdict, verdicts, reason)
    look = looks[look_index]
    if verdict is not Verdict.INCONCLUSIVE:
        return Decision(True, verdict, reason, look, None, judgement)
    if look_index == len(looks) - 1:
        return Decision(True, verdict, f"the last look is reached; {reason}", look, None, judgement)
    hopeless = _hopeless(comparisons, verdicts, looks[-1]) if futility else []
    if hopeless:
        stopped = f"more than {looks[-1]} blocks would be needed: {', '.join(hopeless)}"
        return Decision(True, verdict, stopped, look, None, judgement, futile=True)
    return Decision(False, verdict, reason, look, looks[look_index + 1], judgement)


def _verdicts(
    comparisons: Mapping[str, Comparison],
    counted: Collection[str],
    not_applicable: Collection[str],
    levels: StoppingLevels,
    index: int,
) -> dict[str, MetricVerdict]:
    verdicts: dict[str, MetricVerdict] = {}
    for name, comparison in comparisons.items():
        if name in not_applicable:
            verdicts[name] = not_applicable_verdict()
            continue
        level = levels.regression[index] if name in counted else levels.passing[index]
        verdicts[name] = metric_verdict(
            comparison,
            comparison.p_regression,
            name in counted,
            regression_level=level,
            pass_level=levels.passing[index],
            adjusted=False,
        )
    return verdicts


def _hopeless(comparisons: Mapping[str, Comparison], verdicts: Mapping[str, MetricVerdict], last: int) -> list[str]:
    return [
        name
        for name, item in verdicts.items()
        if item.counted and item.verdict is not Verdict.PASS and (comparisons[name].runs_needed or 0) > last
    ]
