"""From a campaign's cells to `aggregate-comparison.json`: summaries, comparisons, verdicts. Pure.

The same cells give the same data. What is missing is said, never filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_staging.campaign.results import why_unusable
from pytest_staging.model.benchmark import Benchmark, Direction, MetricSpec
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.stats import (
    Comparison,
    Judgement,
    MetricVerdict,
    Verdict,
    campaign_verdict,
    compare,
    decide,
    judge,
    summarise,
)

AGGREGATE_SCHEMA_VERSION = 1
STATISTICS = ("median", "mean", "min", "max")
Summaries = Mapping[str, CellSummary]


@dataclass(frozen=True)
class Key:
    """What one row of the comparison is about."""

    candidate: str
    mode: str
    metric: str

    def __str__(self) -> str:
        return f"{self.candidate} {self.mode} {self.metric}"


@dataclass(frozen=True)
class Conclusion:
    """What the blocks up to run `runs` say. `stopped` is set when the stopping rule ended the campaign there."""

    runs: int
    judgement: Judgement
    comparisons: Mapping[str, Comparison]
    stopped: str | None = None


def keys_of(campaign: Campaign, benchmark: Benchmark) -> list[Key]:
    """Rows in the order of the files."""
    return [
        Key(candidate, mode, metric)
        for candidate in campaign.candidate_slugs
        for mode in campaign.platform_modes
        for metric in benchmark.metrics
    ]


def counted_comparisons(campaign: Campaign, benchmark: Benchmark) -> int:
    """How many comparisons the verdict is corrected for, before anything is known to be inapplicable."""
    return sum(not benchmark.metrics[key.metric].advisory for key in keys_of(campaign, benchmark))


def conclude(campaign: Campaign, benchmark: Benchmark, summaries: Summaries) -> Conclusion:
    """The verdict: with looks, at the first complete one whose decision is to stop; otherwise over all blocks."""
    keys = keys_of(campaign, benchmark)
    advisory = [str(key) for key in keys if benchmark.metrics[key.metric].advisory]
    for index, look in enumerate(campaign.looks):
        if not look_is_complete(campaign, summaries, look):
            break
        comparisons = _compare_all(keys, campaign, benchmark, summaries, look)
        absent = _inapplicable(keys, campaign, summaries, look)
        decision = decide(
            comparisons,
            index,
            counted_comparisons(campaign, benchmark),
            advisory=advisory,
            not_applicable=absent,
            looks=campaign.looks,
            futility=True,
        )
        if decision.stop:
            return Conclusion(look, decision.judgement, comparisons, decision.reason)
    comparisons = _compare_all(keys, campaign, benchmark, summaries, campaign.runs)
    absent = _inapplicable(keys, campaign, summaries, campaign.runs)
    judgement = judge(comparisons, advisory=advisory, not_applicable=absent, planned=campaign.runs)
    if campaign.looks:
        judgement = _withhold(judgement, _open_look(campaign, summaries))
    return Conclusion(campaign.runs, judgement, comparisons)


def _open_look(campaign: Campaign, summaries: Summaries) -> int:
    return next(look for look in campaign.looks if not look_is_complete(campaign, summaries, look))


def _withhold(judgement: Judgement, look: int) -> Judgement:
    """Between looks nothing is concluded: to judge there would be one more look, which the error rates do not cover."""
    verdicts = {name: _withheld(item, look) if item.counted else item for name, item in judgement.verdicts.items()}
    verdict, reason = campaign_verdict(verdicts)
    return Judgement(verdict, verdicts, f"the look at {look} runs is not reached; {reason}", judgement.notes)


def _withheld(item: MetricVerdict, look: int) -> MetricVerdict:
    reason = f"the look at {look} runs is not reached; so far {item.reason}"
    return replace(item, verdict=Verdict.INCONCLUSIVE, p_holm=None, reason=reason)


def look_is_complete(campaign: Campaign, summaries: Summaries, look: int) -> bool:
    """Whether every cell up to run `look` has its result."""
    return all(cell.cell_id in summaries for cell in campaign.cells if cell.run_index <= look)


def build_aggregate(campaign: Campaign, benchmark: Benchmark, summaries: Iterable[CellSummary]) -> dict[str, Any]:
    """The whole content of `aggregate-comparison.json`."""
    by_cell = {summary.cell.cell_id: summary for summary in summaries}
    conclusion = conclude(campaign, benchmark, by_cell)
    planned = [cell for cell in campaign.cells if cell.run_index <= conclusion.runs]
    used = {cell.cell_id: by_cell[cell.cell_id] for cell in planned if cell.cell_id in by_cell}
    return {
        "schema_version": AGGREGATE_SCHEMA_VERSION,
        "campaign_id": campaign.campaign_id,
        "baseline_slug": campaign.baseline_slug,
        "candidate_slugs": list(campaign.candidate_slugs),
        "smoke": campaign.smoke,
        "verdict": conclusion.judgement.verdict.value,
        "verdict_reason": conclusion.judgement.reason,
        "candidates": {
            slug: _verdict_of(slug, keys_of(campaign, benchmark), conclusion) for slug in campaign.candidate_slugs
        },
        "notes": list(conclusion.judgement.notes),
        "runs": conclusion.runs,
        "runs_planned": campaign.runs,
        "stopped": conclusion.stopped,
        "complete": all(one.cell_id in used and used[one.cell_id].passed for one in planned),
        "cells_planned": len(planned),
        "cells_passed": sum(summary.passed for summary in used.values()),
        "rows": [_row(key, campaign, benchmark, used, conclusion) for key in keys_of(campaign, benchmark)],
        "missing": _missing(planned, used, benchmark),
    }


def _verdict_of(slug: str, keys: list[Key], conclusion: Conclusion) -> dict[str, str]:
    """One candidate's verdict: its own rows, corrected together with those of the others."""
    own = {str(key): conclusion.judgement.verdicts[str(key)] for key in keys if key.candidate == slug}
    verdict, reason = campaign_verdict(own)
    return {"verdict": verdict.value, "reason": reason}


def _row(
    key: Key, campaign: Campaign, benchmark: Benchmark, summaries: Summaries, conclusion: Conclusion
) -> dict[str, Any]:
    spec = benchmark.metrics[key.metric]
    baseline = _statistics(_values(spec, summaries, campaign.baseline_slug, key, conclusion.runs))
    candidate = _statistics(_values(spec, summaries, key.candidate, key, conclusion.runs))
    comparison, verdict = conclusion.comparisons[str(key)], conclusion.judgement.verdicts[str(key)]
    return {
        "candidate_slug": key.candidate,
        "platform_mode": key.mode,
        "metric": key.metric,
        "unit": spec.unit,
        "baseline": baseline,
        "candidate": candidate,
        "delta": {name: _difference(baseline[name], candidate[name]) for name in STATISTICS},
        **comparison.to_dict(),
        "advisory": spec.advisory,
        "applicable": verdict.applicable,
        "p_holm": verdict.p_holm,
        "verdict": verdict.verdict.value if verdict.applicable else None,
        "reason": verdict.reason,
    }


def _compare_all(
    keys: list[Key], campaign: Campaign, benchmark: Benchmark, summaries: Summaries, runs: int
) -> dict[str, Comparison]:
    return {str(key): _compare(key, campaign, benchmark.metrics[key.metric], summaries, runs) for key in keys}


def _compare(key: Key, campaign: Campaign, spec: MetricSpec, summaries: Summaries, runs: int) -> Comparison:
    higher = spec.direction is Direction.HIGHER
    baseline = _values(spec, summaries, campaign.baseline_slug, key, runs)
    candidate = _values(spec, summaries, key.candidate, key, runs)
    # Several candidates share a block. A failed cell drops the block for the pairs it is part of.
    if spec.tolerance is None:
        allowed = spec.absolute_tolerance or 0.0
        return compare(baseline, candidate, tolerance=allowed, higher_is_better=higher, absolute=True)
    return compare(
        baseline,
        candidate,
        tolerance=spec.tolerance,
        higher_is_better=higher,
        absolute_tolerance=spec.absolute_tolerance,
    )


def _values(spec: MetricSpec, summaries: Summaries, slug: str, key: Key, runs: int) -> list[float | None]:
    """One value per run, None where the cell or the metric is missing, or a value cannot be compared."""
    cells = (summaries.get(Cell(run, key.mode, slug).cell_id) for run in range(1, runs + 1))
    found = [one.metrics.get(key.metric) if one is not None and one.passed else None for one in cells]
    return [None if why_unusable(value, spec) else value for value in found]


def _inapplicable(keys: list[Key], campaign: Campaign, summaries: Summaries, runs: int) -> list[str]:
    """Rows whose metric cannot exist: every measured cell of both versions says so, and there is one of each."""
    return [
        str(key)
        for key in keys
        if all(_says_inapplicable(summaries, slug, key, runs) for slug in (campaign.baseline_slug, key.candidate))
    ]


def _says_inapplicable(summaries: Summaries, slug: str, key: Key, runs: int) -> bool:
    found = [summaries.get(Cell(run, key.mode, slug).cell_id) for run in range(1, runs + 1)]
    passed = [one for one in found if one is not None and one.passed]
    return bool(passed) and all(
        key.metric in one.inapplicable and one.metrics.get(key.metric) is None for one in passed
    )


def _statistics(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    summary = summarise(known)
    return {**{name: getattr(summary, name, None) for name in STATISTICS}, "n": len(known)}


def _difference(baseline: float | None, candidate: float | None) -> float | None:
    return None if baseline is None or candidate is None else candidate - baseline


def _missing(planned: list[Cell], summaries: Summaries, benchmark: Benchmark) -> list[dict[str, Any]]:
    """Cells without a result, failed cells, and metrics that a passed cell does not have, in the order of the runs."""
    specs = benchmark.metrics
    missing: list[dict[str, Any]] = []
    for cell in sorted(planned):
        summary = summaries.get(cell.cell_id)
        if summary is None or not summary.passed:
            reason = summary.why if summary else "not run"
            missing.append({"cell": cell.cell_id, "metric": None, "reason": reason})
        else:
            unusable = {name: why for name in specs if (why := why_unusable(summary.metrics.get(name), specs[name]))}
            missing += [
                {"cell": cell.cell_id, "metric": metric, "reason": why}
                for metric, why in {**summary.missing, **unusable}.items()
            ]
    return missing
