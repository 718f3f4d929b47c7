"""What the evidence of a change says: complete or not, breached triggers, improved KPIs, and how to go back. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pytest_staging.model.throughput import Kpi, Level, Phase, ThroughputPolicy, Trigger
from pytest_staging.throughput.machine import ORDER

SURE = 0.05
Row = Mapping[str, Any]
Snapshot = Mapping[str, Any]


class Answer(str, Enum):
    """accept; roll back; or incomplete, when nothing speaks against it but something is missing."""

    ACCEPT = "accept"
    ROLL_BACK = "roll back"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What was gathered of one campaign. `drain` has the queue metrics of each cell."""

    comparison: Mapping[str, Any]
    drain: Sequence[Mapping[str, Any]]
    snapshots: Sequence[Snapshot]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer with its reasons, and the commands that undo the change."""

    answer: Answer
    missing: tuple[str, ...] = ()
    regressions: tuple[str, ...] = ()
    breaches: tuple[str, ...] = ()
    improved: tuple[str, ...] = ()
    not_improved: tuple[str, ...] = ()
    revert: tuple[str, ...] = field(default=())


def judge_evidence(
    policy: ThroughputPolicy, gathered: Gathered, candidates: Sequence[str] = (), root: Sequence[str] = ()
) -> Finding:
    """Of all candidates of the campaign, or of those that are named. `root` are the words that name the workspace."""
    rows = [row for row in gathered.comparison.get("rows", ()) if not candidates or row["candidate_slug"] in candidates]
    missing = [*_absent(policy, gathered, rows)]
    # An advisory metric is shown and not counted, here as in the verdict; a trigger may name it all the same.
    counted = [row for row in rows if not row.get("advisory")]
    regressions = [_named(row, row["reason"]) for row in counted if row["verdict"] == "regression"]
    breaches: list[str] = []
    for trigger in policy.evidence.rollback_triggers:
        found, unknown = _breach(trigger, rows, gathered.snapshots)
        breaches += [f"{trigger.name}: {one}" for one in found]
        missing += [f"the trigger {trigger.name} cannot be evaluated: {one}" for one in unknown]
    improved, not_improved, unknown = _judge_kpis(policy.evidence.kpis, rows)
    missing += unknown
    answer = Answer.ACCEPT
    if breaches or regressions:
        answer = Answer.ROLL_BACK
    elif missing:
        answer = Answer.INCOMPLETE
    elif not improved:
        answer = Answer.ROLL_BACK
    return Finding(
        answer=answer,
        missing=tuple(dict.fromkeys(missing)),
        regressions=tuple(regressions),
        breaches=tuple(breaches),
        improved=tuple(improved),
        not_improved=tuple(not_improved),
        revert=tuple(revert_commands(gathered, root)),
    )


def _absent(policy: ThroughputPolicy, gathered: Gathered, rows: Sequence[Row]) -> Iterator[str]:
    comparison = gathered.comparison
    if not rows:
        yield "the comparison has no row"
    elif not comparison.get("complete"):
        passed, planned = comparison.get("cells_passed"), comparison.get("cells_planned")
        yield f"the comparison: {passed} of {planned} cells have a result that passed"
    if comparison.get("smoke"):
        yield "the comparison: it is that of a smoke campaign"
    for name in policy.evidence.queue_metrics:
        values = [cell["metrics"].get(name) for cell in gathered.drain]
        if not values or any(value is None for value in values):
            have = sum(value is not None for value in values)
            yield f"queue-drain metrics: {have} of {len(values)} cells have {name}"
    for phase in Phase:
        taken = [one for one in gathered.snapshots if one["phase"] == phase.value]
        failed = [one for one in taken if "status" not in one]
        if not taken:
            yield f"no policy status was taken {phase.value} the campaign"
        elif failed:
            why = failed[0].get("error", "it holds no status")
            yield f"{len(failed)} of {len(taken)} policy statuses {phase.value} the campaign: {why}"


def _breach(trigger: Trigger, rows: Sequence[Row], snapshots: Sequence[Snapshot]) -> tuple[list[str], list[str]]:
    """What breaches it, and why it cannot be told."""
    if trigger.metric is None:
        told = [one for one in snapshots if trigger.when and one["phase"] == trigger.when.value and "status" in one]
        return [text for one in told if (text := _status_breach(trigger, one))][:1], []
    own = [row for row in rows if row["metric"] == trigger.metric and row["applicable"]]
    if not own:
        return [], [f"the campaign does not measure {trigger.metric}"]
    found, unknown = [], []
    for row in own:
        if row["baseline_median"] is None or row["candidate_median"] is None:
            unknown.append(_named(row, "has no value"))
        elif text := _metric_breach(trigger, row):
            found.append(text)
    return found, unknown


def _metric_breach(trigger: Trigger, row: Row) -> str:
    value, unit = row["candidate_median"], row["unit"]
    if trigger.worse_by is not None:
        worse = worsening(row)
        if worse is not None and worse > trigger.worse_by:
            return _named(row, f"is worse by {worse:.1%}, the limit is {trigger.worse_by:.1%}")
        return ""
    if trigger.above is not None and value > trigger.above:
        return _named(row, f"is {value:g} {unit}, the limit is {trigger.above:g} {unit}")
    if trigger.below is not None and value < trigger.below:
        return _named(row, f"is {value:g} {unit}, at least {trigger.below:g} {unit} are needed")
    return ""


def _status_breach(trigger: Trigger, snapshot: Snapshot) -> str:
    status, at = snapshot["status"], snapshot["at"]
    if trigger.fail_safe and status["fail_safe"]:
        return f"the policy was in its fail-safe at {at}: {status['fail_safe_reason']}"
    level = Level(status["queue_pressure_level"])
    if trigger.pressure and level in ORDER and ORDER.index(level) >= ORDER.index(trigger.pressure):
        return f"the queue pressure was {level.value} at {at}"
    return ""


def worsening(row: Row) -> float | None:
    """By which share of the baseline the candidate's median is worse; negative when it is better.

    None when the two are not known. A baseline of zero makes any worsening infinite.
    """
    baseline, candidate = row["baseline_median"], row["candidate_median"]
    if baseline is None or candidate is None:
        return None
    worse = float(baseline - candidate if row["higher_is_better"] else candidate - baseline)
    if baseline == 0:
        return 0.0 if worse == 0 else float("inf") if worse > 0 else float("-inf")
    return worse / abs(float(baseline))


def _judge_kpis(kpis: Sequence[Kpi], rows: Sequence[Row]) -> tuple[list[str], list[str], list[str]]:
    """What is improved, what is not, and why it cannot be told of the rest."""
    improved, not_improved, unknown = [], [], []
    for kpi in kpis:
        own = [row for row in rows if row["metric"] == kpi.metric and row["applicable"]]
        if not own:
            unknown.append(f"the KPI {kpi.metric}: the campaign does not measure it")
        for row in own:
            worse, p = worsening(row), row["p_two_sided"]
            if worse is None:
                unknown.append(f"the KPI {_named(row, 'has no value')}")
            elif -worse < kpi.improve_by:
                not_improved.append(_named(row, f"is better by {-worse:.1%}, {kpi.improve_by:.1%} are needed"))
            elif p is None or p > SURE:
                shown = "no p" if p is None else f"p = {p:.3g}"
                not_improved.append(_named(row, f"is better by {-worse:.1%}, which may be chance ({shown})"))
            else:
                improved.append(_named(row, f"is better by {-worse:.1%} (p = {p:.3g})"))
    return improved, not_improved, unknown


def revert_commands(gathered: Gathered, root: Sequence[str] = ()) -> Iterator[str]:
    """What undoes the change of the policy, from what the campaign saw; else what keeps the version out."""
    told = [one for one in gathered.snapshots if "preset" in one and "override" in one]
    first, last = (told[0], told[-1]) if told else ({}, {})
    found = False
    if last and last["override"].get("active"):
        found = True
        yield _policy_command(last, "clear")
    if last:
        now, before = last["preset"].get("preset"), first["preset"].get("preset")
        back = before if before != now else last["preset"].get("previous_preset")
        if back and back != now:
            found = True
            yield _policy_command(last, "set", "--preset", back)
    if not found:
        campaign_id = str(gathered.comparison.get("campaign_id"))
        for slug in gathered.comparison.get("candidate_slugs", ()):
            yield shlex.join(["staging-manager", *root, "reject", slug, "--campaign-id", campaign_id])


def _policy_command(snapshot: Snapshot, *words: str) -> str:
    return shlex.join(["staging-manager", "policy", *words, "--api-base", str(snapshot.get("api_base"))])


def _named(row: Row, text: str) -> str:
    return f"{row['candidate_slug']} {row['platform_mode']} {row['metric']} {text}"
