"""What the report says in words: the verdict, who was compared where, what failed, all inputs, how to repeat it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pytest_staging.contract.sources import COMMON, OF_KIND
from pytest_staging.model.benchmark import LoadShape, MetricSpec, SourceSpec
from pytest_staging.model.campaign import Campaign, CellSummary
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.html.forest import ICONS
from pytest_staging.wording import number_of

TAILS_SHOWN = 40
TAIL_LENGTH = 4000
CELLS_LISTED = 200
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
WORDS = {"pass": "Pass", "regression": "Regression", "inconclusive": "Inconclusive", "smoke": "No verdict"}


@dataclass(frozen=True)
class Verdict:
    """`kind` is pass, regression, inconclusive or smoke; `sentence` says it in words that need no colour."""

    kind: str
    sentence: str
    reason: str

    @property
    def icon(self) -> str:
        return ICONS.get(self.kind, "○")

    @property
    def word(self) -> str:
        return WORDS[self.kind]


@dataclass(frozen=True)
class FailedCell:
    """A cell that gave no values. `tail` is the end of the log that explains it."""

    cell_id: str
    outcome: str
    reason: str
    detail: str
    tail: str


@dataclass(frozen=True)
class Failures:
    """`cells` with log tails, `listed` without, `not_listed` how many more; `metrics` are (metric, reason, cells)."""

    cells: Sequence[FailedCell]
    listed: Sequence[FailedCell]
    not_listed: int
    metrics: Sequence[tuple[str, str, int]]
    outcomes: Mapping[str, int]


def state_verdict(record: CampaignRecord) -> Verdict:
    """The campaign's, as a sentence."""
    found, baseline = record.aggregate, record.campaign.baseline_slug
    slugs = " and ".join(record.campaign.candidate_slugs)
    if found["smoke"]:
        return Verdict("smoke", "A smoke campaign shows that the wiring works, and nothing else.", "")
    sentence = {
        "pass": f"{slugs} may replace {baseline}: every counted metric is shown to be within its tolerance.",
        "regression": f"{_worse(record)} is worse than {baseline} by more than is tolerated.",
        "inconclusive": f"Not enough is known to say whether {slugs} may replace {baseline}.",
    }[found["verdict"]]
    return Verdict(found["verdict"], sentence, found["verdict_reason"])


def _worse(record: CampaignRecord) -> str:
    worse = [slug for slug, one in record.aggregate["candidates"].items() if one["verdict"] == "regression"]
    return " and ".join(worse) or "A candidate"


def state_candidates(record: CampaignRecord) -> Iterator[tuple[str, Verdict]]:
    """Each candidate with its own verdict."""
    for slug, one in record.aggregate["candidates"].items():
        kind = "smoke" if record.aggregate["smoke"] else one["verdict"]
        yield slug, Verdict(kind, "", "" if kind == "smoke" else one["reason"])


def state_notes(record: CampaignRecord) -> list[str]:
    """What a reader must know before trusting the verdict."""
    found = record.aggregate
    notes = [f"{note}." for note in found["notes"]]
    if found["stopped"]:
        notes.append(
            f"Stopped by the rule after {found['runs']} of up to {found['runs_planned']} runs: {found['stopped']}."
        )
    without = found["cells_planned"] - found["cells_passed"]
    if without:
        notes.append(f"{without} of {found['cells_planned']} cells have no passed result; a promotion needs every one.")
    return notes


def state_setting(record: CampaignRecord) -> list[tuple[str, str, str]]:
    """(what, in short, more) of the first screen."""
    one, found, load = record.campaign, record.aggregate, record.benchmark.load
    hosts = Counter(str(cell.host.get("name")) for cell in record.summaries if cell.host.get("name"))
    cpus = sorted({str(cell.host["cpu"]) for cell in record.summaries if cell.host.get("cpu")})
    rate = f"{load.rate:g} requests/s" if load.shape is LoadShape.OPEN and load.rate else "as fast as answers come"
    where = ", ".join(list(hosts)[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")
    return [
        ("Compared", f"{', '.join(one.candidate_slugs)} against {one.baseline_slug}",
         f"in {' and '.join(one.platform_modes)}; functions {', '.join(one.functions)}"),
        ("Where", f"{one.target}: {where or 'no host yet'}", ", ".join(cpus)),
        ("Load", f"{one.load_tool['name']} {one.load_tool['version']}",
         f"{number_of(load.users, 'user')}, {rate}, {load.duration_s:g} s a cell"),
        ("Measured", f"{found['cells_passed']} of {found['cells_planned']} cells",
         f"{number_of(found['runs'], 'run')}, {_span(record.summaries)}"),
    ]  # fmt: skip


def _span(summaries: Sequence[CellSummary]) -> str:
    """From the first cell's start to the last one's end."""
    try:
        started = [datetime.fromisoformat(one.started_at.replace("Z", "+00:00")) for one in summaries]
        finished = [datetime.fromisoformat(one.finished_at.replace("Z", "+00:00")) for one in summaries]
        seconds = (max(finished) - min(started)).total_seconds()
    except (ValueError, TypeError):  # no cell, or an instant that somebody has edited: not worth losing the report
        return "time not known"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def gather_failures(record: CampaignRecord) -> Failures:
    """Failed and invalid cells with log tails, cells that never ran, metrics that passed cells do not have."""
    failed = [_failed(one) for one in record.summaries if not one.passed]
    known = {one.cell_id for one in failed}
    gone = [one for one in record.aggregate["missing"] if one["metric"] is None and one["cell"] not in known]
    failed += [FailedCell(str(one["cell"]), "not run", str(one["reason"]), "", "") for one in gone]
    told = [one for one in failed if one.outcome != "not run"][:TAILS_SHOWN]
    shown = {one.cell_id for one in told}
    rest = [one for one in failed if one.cell_id not in shown]
    metrics = Counter(
        (str(one["metric"]), str(one["reason"])) for one in record.aggregate["missing"] if one["metric"] is not None
    )
    return Failures(
        cells=told,
        listed=rest[:CELLS_LISTED],
        not_listed=max(len(rest) - CELLS_LISTED, 0),
        metrics=[(metric, reason, count) for (metric, reason), count in metrics.items()],
        outcomes=Counter(one.outcome for one in failed),
    )


def _failed(one: CellSummary) -> FailedCell:
    tail = plain(one.log_tail)
    cut = "…\n" if len(tail) > TAIL_LENGTH else ""
    detail = f"attempt {one.attempt} on {one.host.get('name') or 'no host'}, {one.started_at}"
    return FailedCell(
        one.cell.cell_id, one.outcome, plain(one.reason or "no reason given"), detail, cut + tail[-TAIL_LENGTH:]
    )


def plain(text: str) -> str:
    """Without terminal colours and control characters, which a log may hold."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def list_inputs(record: CampaignRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that was resolved when the campaign was planned or run, as tables of names and values."""
    one, benchmark = record.campaign, record.benchmark
    looks = f"looks at {', '.join(map(str, one.looks))}" if one.looks else "fixed"
    return [
        ("Campaign", [
            ("id", one.campaign_id), ("created", one.created_at), ("seed", str(one.seed)), ("order", one.order),
            ("runs", f"{one.runs} ({looks})"), ("target", one.target), *_hosts_named(record),
            ("functions", ", ".join(one.functions)),
            ("smoke", "yes" if one.smoke else "no"), ("schema version", str(one.schema_version)),
        ]),
        ("Benchmark", [
            ("name", benchmark.name), (one.benchmark_path, f"sha256 {one.benchmark_sha256}"),
            *[(name, f"sha256 {digest}") for name, digest in one.benchmark_files.items()],
        ]),
        ("Target's files", [(name, f"sha256 {digest}") for name, digest in one.target_files.items()]),
        ("Throughput policy", [
            *([("API", one.policy_api)] if one.policy_api else []),
            *[(f"preset of {slug}", preset) for slug, preset in one.policy_presets.items()],
        ]),
        ("Snapshots", [(slug, f"sha256 {digest}") for slug, digest in one.versions.items()]),
        ("Builds", list(_builds(record))),
        ("Load", [("tool", f"{one.load_tool['name']} {one.load_tool['version']}"), *_load(record)]),
        ("Metrics", [(name, _metric(spec)) for name, spec in benchmark.metrics.items()]),
        ("Metric sources", [(source.title, _source(source)) for source in benchmark.sources]),
    ]  # fmt: skip


def _hosts_named(record: CampaignRecord) -> list[tuple[str, str]]:
    return [("hosts asked for", record.campaign.hosts)] if record.campaign.hosts else []


def _builds(record: CampaignRecord) -> Iterator[tuple[str, str]]:
    """What ran, per version and mode: more than one line when it changed within the campaign or between hosts."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for one in record.summaries:
        if one.artifact:
            text = ", ".join(f"{name} {value}" for name, value in one.artifact.items())
            found.setdefault((one.version_slug, one.platform_mode), {})[text] = None
    for (slug, mode), texts in sorted(found.items()):
        yield from ((f"{slug} · {mode}", text) for text in texts)


def _load(record: CampaignRecord) -> Iterator[tuple[str, str]]:
    for name, value in asdict(record.benchmark.load).items():
        if name != "tool" and value not in (None, (), False):
            yield name, _flat(value)
    for name, value in asdict(record.benchmark.containers).items():
        if value is not None:
            yield f"containers.{name}", _flat(value)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, (tuple, list)):
        return shlex.join(map(str, value))
    return str(getattr(value, "value", value))


def _metric(spec: MetricSpec) -> str:
    allowed = [f"{spec.tolerance * 100:g} %"] if spec.tolerance is not None else []
    allowed += [f"{spec.absolute_tolerance:g} {spec.unit}"] if spec.absolute_tolerance is not None else []
    advisory = "; advisory, not counted" if spec.advisory else ""
    return f"{spec.unit}, {spec.direction.value} is better, tolerance {' or '.join(allowed) or 'none'}{advisory}"


def _source(spec: SourceSpec) -> str:
    """Every field that goes with its kind; of credentials only the names of their variables are there."""
    fields = sorted((COMMON | OF_KIND[spec.kind.value]) - {"kind"})
    return _flat({name: value for name, value in asdict(spec).items() if name in fields})


def list_hosts(record: CampaignRecord) -> tuple[list[str], list[list[str]]]:
    """The hosts as a table: its heads, and a row per host as it described itself. Loads vary, so they are ranges."""
    names = ("name", "cpu", "cpus", "kernel", "machine", "memory_bytes")
    found: dict[tuple[str, ...], list[CellSummary]] = {}
    for one in record.summaries:
        if one.host:
            found.setdefault(tuple(str(one.host.get(name, "")) for name in names), []).append(one)
    rows = []
    for key, cells in sorted(found.items()):
        loads = [float(one.host["load_average_1min"]) for one in cells if _number(one.host.get("load_average_1min"))]
        memory = f"{int(key[5]) / 2**30:.1f} GiB" if key[5].isdigit() else key[5]
        rows.append([*key[:5], memory, f"{min(loads):.2f} to {max(loads):.2f}" if loads else "", str(len(cells))])
    return ["host", "CPU", "CPUs", "kernel", "machine", "memory", "load average before", "cells"], rows


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _presets(one: Campaign) -> str:
    """As the option takes them: the baseline's for all, and each version that has another."""
    default = one.policy_presets[one.baseline_slug]
    others = [f"{slug}={preset}" for slug, preset in one.policy_presets.items() if preset != default]
    return ",".join([default, *others])


def list_commands(record: CampaignRecord) -> list[tuple[str, str]]:
    """(what it does, the exact command): to check, to repeat, to compare, to promote."""
    one = record.campaign
    words = ["pytest", "--staging-campaign", "--baseline", one.baseline_slug]
    for slug in one.candidate_slugs:
        words += ["--candidate", slug]
    words += ["--runs", "auto" if one.looks else str(one.runs), "--staging-seed", str(one.seed)]
    words += ["--staging-order", one.order, "--staging-target", one.target, "--benchmark-path", one.benchmark_path]
    words += ["--staging-hosts", one.hosts] if one.hosts else []
    words += ["--staging-smoke"] if one.smoke else []
    if one.policy_presets:
        words += ["--staging-policy-api", one.policy_api or "", "--staging-policy-preset", _presets(one)]
    identity = shlex.quote(one.campaign_id)
    checks = [f"{one.benchmark_sha256}  campaigns/{one.campaign_id}/benchmark/benchmark.yaml"]
    checks += [
        f"{digest}  campaigns/{one.campaign_id}/benchmark/{name}" for name, digest in one.benchmark_files.items()
    ]
    listed = " ".join(shlex.quote(line) for line in checks)
    return [
        ("Measure the same again, in the same order, from the workspace's folder", shlex.join(words)),
        (
            "Check that the campaign's copy of the benchmark is what it pinned",
            f"printf '%s\\n' {listed} | sha256sum --check",
        ),
        ("Make this report again from the campaign's folder", f"staging-manager report {identity} --format html"),
        ("Put another campaign beside this one", f"staging-manager compare {identity} OTHER"),
    ]
