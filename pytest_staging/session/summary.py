"""What a person reads: before the campaign what it can show, after it the verdict, the table and what to do next."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_staging.campaign.comparing import counted_comparisons
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.campaign import Campaign
from pytest_staging.reports.markdown import render_headline, render_missing
from pytest_staging.reports.terminal import render_fitted, wrap, wrap_command
from pytest_staging.stats import detectable
from pytest_staging.wording import number_of

MISSING_SHOWN = 10
CAMPAIGN = "--staging-campaign"
LONGEST_TITLE = 50
FILES = ("aggregate-comparison.md", "aggregate-comparison.json", "campaign.json")


def render_header(campaign: Campaign, benchmark: Benchmark, finished: int) -> list[str]:
    """Who against whom, how many cells, and what this number of runs can and cannot show."""
    one = campaign
    kind = "smoke campaign" if one.smoke else "campaign"
    again = f", {finished} finished before" if finished else ""
    runs = number_of(one.runs, "run")
    if one.looks:
        runs = f"up to {runs} (looks at {', '.join(map(str, one.looks))})"
    return [
        f"staging: {kind} {one.campaign_id}: {', '.join(one.candidate_slugs)} against {one.baseline_slug}",
        f"staging: {runs} × modes {', '.join(one.platform_modes)} × {len(one.slugs)} versions = {len(one.cells)} cells"
        f"{again}, seed {one.seed}, {one.load_tool['name']} {one.load_tool['version']}, target {one.target}",
        f"staging: {render_power(campaign, benchmark)}",
    ]


def render_generator(campaign: Campaign, calibration: Calibration | None) -> str:
    """What is known of the load tool on this machine."""
    name = campaign.load_tool["name"]
    if calibration is None:
        return f"staging: {name} is not calibrated here: {program('staging-manager')} calibrate --tool {name}"
    floor = calibration.floor_ms.get("p50")
    known = "" if floor is None else f" floor p50 {floor:.2g} ms,"
    return (
        f"staging: {name} calibrated {calibration.measured_at[:10]}:{known} {calibration.capacity_rps:.0f} requests/s"
    )


def render_power(campaign: Campaign, benchmark: Benchmark) -> str:
    """What the number of runs can and cannot show, whatever the noise turns out to be."""
    able = detectable(campaign.runs, counted_comparisons(campaign, benchmark))
    runs, over = number_of(campaign.runs, "run"), f"over {number_of(able.comparisons, 'comparison')}"
    if campaign.smoke:
        return "a smoke campaign gives no verdict"
    if able.can_regress:
        return f"{runs} can show a pass (from {able.pass_needs}) and a regression {over} (from {able.regression_needs})"
    if able.can_pass:
        return f"{runs} can show a pass; a regression {over} needs at least {able.regression_needs}"
    return (
        f"{runs} can show neither: a pass needs at least {able.pass_needs}, a regression {over} {able.regression_needs}"
    )


def render_title(campaign: Campaign) -> str:
    """Of the section; a long id is shortened there, and stands whole below."""
    name = campaign.campaign_id
    return f"staging campaign {name if len(name) <= LONGEST_TITLE else name[: LONGEST_TITLE - 3] + '...'}"


def render_summary(
    campaign: Campaign, aggregate: Mapping[str, Any], folder: Path, width: int | None = None, page: str = ""
) -> Iterator[str]:
    """The summary section's lines, without colour: the verdict, the table, what is missing, the files, what to do next.

    No line is longer than `width`, the terminal's; None stands for a pipe or a file, which takes lines as they are.
    """
    for line in render_headline(aggregate):
        yield from wrap(line, width)
    yield ""
    yield from render_fitted(aggregate, width)
    missing = render_missing(aggregate["missing"])
    if missing:
        yield from ("", "Missing:")
        for line in missing[:MISSING_SHOWN]:
            yield from wrap(line, width, "  ")
        if len(missing) > MISSING_SHOWN:
            yield from wrap(f"and {len(missing) - MISSING_SHOWN} more, all in aggregate-comparison.md", width, "  ")
    yield ""
    for name in FILES:
        yield from wrap(f"wrote {shown(folder / name)}", width)
    if page:
        yield from wrap(page, width)
    words, command = follow_up(campaign, aggregate)
    yield ""
    if len(campaign.candidate_slugs) > 1 and not campaign.smoke:
        yield from wrap("; ".join(f"{slug}: {one['verdict']}" for slug, one in aggregate["candidates"].items()), width)
    yield from wrap(words, width)
    yield from wrap_command("next: ", command, width)


def follow_up(campaign: Campaign, aggregate: Mapping[str, Any]) -> tuple[str, str]:
    """What the result means for the reader, in plain words, and the exact command that follows from it."""
    identity = shlex.quote(campaign.campaign_id)
    lacking = aggregate["cells_planned"] - aggregate["cells_passed"]
    cells = "1 cell has" if lacking == 1 else f"{lacking} cells have"
    if campaign.smoke:
        works = f"{cells} no result: put that right first." if lacking else "The wiring works."
        return f"{works} Only a campaign without --staging-smoke judges.", f"{program('pytest')} {CAMPAIGN} --runs 10"
    if not aggregate["complete"]:
        again = f"{program('pytest')} {CAMPAIGN} --staging-resume {identity}"
        if any(one["metric"] is None and one["reason"] == "not run" for one in aggregate["missing"]):
            return "Not every cell has been run. Go on where it stopped; what is measured is kept.", again
        return f"{cells} no result: see why above, then try again.", f"{again} --staging-retry-failed"
    verdicts = {slug: one["verdict"] for slug, one in aggregate["candidates"].items()}
    manager, about = program("staging-manager"), f"--campaign-id {identity}"
    for slug, verdict in verdicts.items():
        if verdict == "pass":
            words = f"{slug} is within every tolerance, so it may replace {campaign.baseline_slug}."
            return words, f"{manager} promote --candidate {shlex.quote(slug)} {about}"
    for slug, verdict in verdicts.items():
        if verdict == "regression":
            words = f"{slug} is worse than {campaign.baseline_slug} by more than is tolerated: reject it, or mend it."
            return words, f"{manager} reject {shlex.quote(slug)} {about}"
    slugs = [f"--baseline {shlex.quote(campaign.baseline_slug)}"]
    slugs += [f"--candidate {shlex.quote(slug)}" for slug in campaign.candidate_slugs]
    words = "This number of runs does not tell; a new campaign with more of them may."
    return words, f"{program('pytest')} {CAMPAIGN} {' '.join(slugs)} --runs {_more_runs(aggregate)}"


def program(name: str) -> str:
    """How the user can call it: by its name where PATH leads to this environment's own, else by its path."""
    here = Path(sys.executable).parent / name
    found = shutil.which(name)
    own = found is not None and Path(found).resolve() == here.resolve()
    return name if own or not here.is_file() else shlex.quote(shown(here))


def shown(path: Path) -> str:
    """Relative to where the user stands, when it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _more_runs(aggregate: Mapping[str, Any]) -> int:
    """Enough for the metric that is still open and needs most, and for any verdict at all."""
    open_rows = [row for row in aggregate["rows"] if row["verdict"] == "inconclusive" and not row["advisory"]]
    needed = [row["runs_needed"] for row in open_rows if row["runs_needed"]]
    counted = sum(row["applicable"] and not row["advisory"] for row in aggregate["rows"])
    least = detectable(0, counted).regression_needs
    return int(max([*needed, aggregate["runs"] + 5, least]))
