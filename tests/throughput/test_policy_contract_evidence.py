"""Judging evidence: complete or not, triggers, KPIs, the way back; each rule by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from policies import make_policy

from pytest_staging.model.errors import EvidenceMissing
from pytest_staging.throughput.bundle import load_bundle
from pytest_staging.throughput.judging import Answer, Gathered, judge_evidence, worsening

API = "http://127.0.0.1:8642"
POLICY_EVIDENCE: dict[str, Any] = {
    "kpis": [{"metric": "p95", "improve_by": 0.05}],
    "queue_metrics": ["queue_drain_time"],
    "rollback_triggers": [
        {"name": "latency-worse", "metric": "p95", "worse_by": 0.1},
        {"name": "errors", "metric": "fail_rate", "above": 0.01},
        {"name": "idle", "metric": "throughput", "below": 50},
        {"name": "still-critical", "when": "after", "pressure": "critical"},
        {"name": "blind", "when": "during", "fail_safe": True},
    ],
}
POLICY = make_policy(evidence=POLICY_EVIDENCE)


def row(metric: str, baseline: float | None, candidate: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "candidate_slug": "tuned", "platform_mode": "jvm", "metric": metric, "unit": "u", "applicable": True,
        "baseline_median": baseline, "candidate_median": candidate, "higher_is_better": metric == "throughput",
        "p_two_sided": 0.01, "verdict": "pass", "reason": "", **changes,
    }  # fmt: skip


def snapshot(phase: str, preset: str = "balanced", previous: str | None = None, override: bool = False,
             **status: Any) -> dict[str, Any]:  # fmt: skip
    shown = {"fail_safe": False, "fail_safe_reason": None, "queue_pressure_level": "normal", **status}
    return {"phase": phase, "at": "2026-01-01T00:00:00.000Z", "api_base": API, "status": shown,
            "preset": {"preset": preset, "previous_preset": previous}, "override": {"active": override}}  # fmt: skip


CRITICAL_AFTER = snapshot("after", queue_pressure_level="critical")
FROM_ZERO = [(0.0, 0.0, 0.0), (0.0, 1.0, float("inf")), (2.0, 1.0, -0.5)]


def gathered(rows: list[dict[str, Any]] | None = None, snapshots: list[dict[str, Any]] | None = None,
             drain: float | None = 3.0, **comparison: Any) -> Gathered:  # fmt: skip
    good = [row("p95", 100, 80), row("fail_rate", 0, 0), row("throughput", 100, 100)]
    whole = {"campaign_id": "c1", "candidate_slugs": ["tuned"], "complete": True, "smoke": False, "cells_passed": 4,
             "cells_planned": 4, "rows": good if rows is None else rows, **comparison}  # fmt: skip
    told = [snapshot("before"), snapshot("during"), snapshot("after")] if snapshots is None else snapshots
    return Gathered(comparison=whole, drain=[{"metrics": {"queue_drain_time": drain}}], snapshots=told)


def changed(metric: str, *values: Any, **more: Any) -> list[dict[str, Any]]:
    """The good rows with one replaced."""
    rows = [one for one in gathered().comparison["rows"] if one["metric"] != metric]
    return [*rows, row(metric, *values, **more)]


def test_good_evidence_is_accepted() -> None:
    """TP-05: complete, no regression, and an improvement in a declared KPI."""
    finding = judge_evidence(POLICY, gathered())
    assert (finding.answer, finding.missing, finding.breaches) == (Answer.ACCEPT, (), ())
    assert "better by 20.0%" in finding.improved[0]


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (gathered(complete=False, cells_passed=3), "3 of 4 cells"),
        (gathered(smoke=True), "smoke campaign"),
        (gathered(rows=[]), "no row"),
        (gathered(drain=None), "0 of 1 cells have queue_drain_time"),
        (gathered(snapshots=[snapshot("before"), snapshot("after")]), "taken during the campaign"),
        (gathered(snapshots=[snapshot("before"), snapshot("during")]), "taken after the campaign"),
        (gathered(snapshots=[]), "taken before the campaign"),
        (gathered(snapshots=[snapshot("before"), snapshot("during"), snapshot("after"),
                             {"phase": "during", "at": "x", "error": "refused"}]), "1 of 2 policy statuses during"),
        (gathered(changed("p95", 100, None)), "latency-worse cannot be evaluated"),
        (gathered([row("p95", 100, 80), row("fail_rate", 0, 0)]), "does not measure throughput"),
        (gathered(changed("fail_rate", 0, 0, applicable=False)), "does not measure fail_rate"),
    ],
)  # fmt: skip
def test_what_is_missing_is_never_accepted(evidence: Gathered, said: str) -> None:
    """TP-05: each part is demanded, and what is missing is named."""
    finding = judge_evidence(POLICY, evidence)
    assert finding.answer is Answer.INCOMPLETE
    assert said in "; ".join(finding.missing)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (gathered(changed("p95", 100, 111)), "latency-worse: tuned jvm p95 is worse by 11.0%"),
        (gathered(changed("fail_rate", 0, 0.02)), "errors: tuned jvm fail_rate is 0.02"),
        (gathered(changed("throughput", 100, 40)), "idle: tuned jvm throughput is 40"),
        (gathered(snapshots=[snapshot("before"), snapshot("during"), CRITICAL_AFTER]),
         "still-critical: the queue pressure was critical"),
        (gathered(snapshots=[snapshot("before"), snapshot("after"), snapshot("during", fail_safe=True)]), "blind: "),
    ],
)  # fmt: skip
def test_a_breach_is_a_rollback(evidence: Gathered, said: str) -> None:
    """TP-06: every trigger is mandatory; one breach outweighs an improvement."""
    finding = judge_evidence(POLICY, evidence)
    assert finding.answer is Answer.ROLL_BACK
    assert said in "; ".join(finding.breaches)
    assert finding.revert


def test_a_breach_counts_also_when_something_is_missing() -> None:
    """TP-06: what is known to be bad does not wait for the rest."""
    evidence = gathered(changed("p95", 100, 200), drain=None)
    assert judge_evidence(POLICY, evidence).answer is Answer.ROLL_BACK


def test_a_regression_is_a_rollback() -> None:
    """TP-05: no critical regression."""
    rows = [*gathered().comparison["rows"], row("heap_peak", 1, 2, verdict="regression", reason="is worse")]
    assert judge_evidence(POLICY, gathered(rows)).answer is Answer.ROLL_BACK


def test_a_regression_of_an_advisory_metric_is_none() -> None:
    """TP-05: it is shown and not counted, as in the campaign's own verdict."""
    more = {"verdict": "regression", "reason": "is worse", "advisory": True}
    finding = judge_evidence(POLICY, gathered([*gathered().comparison["rows"], row("gc_pause", 1, 2, **more)]))
    assert (finding.answer, finding.regressions) == (Answer.ACCEPT, ())


def test_evidence_that_is_not_there_says_how_to_collect_it(tmp_path: Path) -> None:
    """TP-05: by the command that whoever asks knows to be about the same place."""
    with pytest.raises(EvidenceMissing, match=r"manifest\.json\. Collect it again: the command$"):
        load_bundle(tmp_path / "elsewhere", "the command")


@pytest.mark.parametrize(
    ("values", "more", "said"),
    [((100, 97), {}, "5.0% are needed"), ((100, 80), {"p_two_sided": 0.2}, "may be chance"),
     ((100, 80), {"p_two_sided": None}, "no p"), ((100, 104), {}, "better by -4.0%")],
)  # fmt: skip
def test_no_improved_kpi_is_no_acceptance(values: tuple[float, float], more: dict[str, Any], said: str) -> None:
    """TP-05: at least one declared KPI has to be better, by enough, and not by chance."""
    finding = judge_evidence(POLICY, gathered(changed("p95", *values, **more)))
    assert finding.answer is Answer.ROLL_BACK
    assert said in finding.not_improved[0]


@pytest.mark.parametrize(
    ("kpis", "rows", "said"),
    [
        (["p59"], None, "the KPI p59: the campaign does not measure it"),
        (["p95", "p59"], None, "the KPI p59: the campaign does not measure it"),
        (["gc_pause"], [row("gc_pause", None, None, applicable=False)], "gc_pause: the campaign does not measure it"),
        (["gc_pause"], [row("gc_pause", 5, None)], "the KPI tuned jvm gc_pause has no value"),
    ],
)
def test_a_kpi_that_is_not_known_is_missing(kpis: list[str], rows: list[dict[str, Any]] | None, said: str) -> None:
    """TP-05: a misspelt KPI, or one without a value, is no reason to go back, and none to accept."""
    declared = {**POLICY_EVIDENCE, "kpis": [{"metric": name, "improve_by": 0.05} for name in kpis]}
    finding = judge_evidence(make_policy(evidence=declared), gathered(gathered().comparison["rows"] + (rows or [])))
    assert finding.answer is Answer.INCOMPLETE
    assert said in "; ".join(finding.missing)
    breached = gathered(changed("p95", 100, 200))
    assert judge_evidence(make_policy(evidence=declared), breached).answer is Answer.ROLL_BACK


def test_only_the_named_candidates_count() -> None:
    """TP-05: a promotion asks about one version."""
    rows = [*gathered().comparison["rows"], row("p95", 1, 9, candidate_slug="other")]
    assert judge_evidence(POLICY, gathered(rows), ["tuned"]).answer is Answer.ACCEPT
    assert judge_evidence(POLICY, gathered(rows)).answer is Answer.ROLL_BACK


@pytest.mark.parametrize(
    ("snapshots", "commands"),
    [
        ([snapshot("before", "balanced"), snapshot("after", "aggressive")],
         [f"staging-manager policy set --preset balanced --api-base {API}"]),
        ([snapshot("before", "aggressive", "balanced"), snapshot("after", "aggressive", "balanced")],
         [f"staging-manager policy set --preset balanced --api-base {API}"]),
        ([snapshot("before"), snapshot("after", override=True)], [f"staging-manager policy clear --api-base {API}"]),
        ([snapshot("before"), snapshot("after")], ["staging-manager reject tuned --campaign-id c1"]),
        ([], ["staging-manager reject tuned --campaign-id c1"]),
    ],
)  # fmt: skip
def test_the_way_back_is_exact(snapshots: list[dict[str, Any]], commands: list[str]) -> None:
    """TP-06: the command goes back to the preset before, ends an override, or keeps the version out."""
    from pytest_staging.cli import build_parser

    found = judge_evidence(POLICY, gathered(snapshots=snapshots)).revert
    assert list(found) == commands
    for command in found:
        build_parser().parse_args(command.split()[1:])


def test_the_way_back_leads_to_the_workspace() -> None:
    """TP-06: a version is rejected where it is; a policy is wherever its API is."""
    kept_out = judge_evidence(POLICY, gathered(snapshots=[]), root=("--root", "else where")).revert
    assert kept_out == ("staging-manager --root 'else where' reject tuned --campaign-id c1",)
    ended = judge_evidence(POLICY, gathered(snapshots=[snapshot("after", override=True)]), root=("--root", "x")).revert
    assert ended == (f"staging-manager policy clear --api-base {API}",)


@pytest.mark.parametrize(("baseline", "candidate", "worse"), FROM_ZERO)
def test_a_baseline_of_zero(baseline: float, candidate: float, worse: float) -> None:
    """TP-06: from nothing to something is no small change."""
    assert worsening(row("p95", baseline, candidate)) == worse
