"""From what the user asked for to a whole, checked campaign; and from a campaign to its folder."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from pytest_staging import contract, durable, store
from pytest_staging.campaign.matrix import ORDERS, build_cells
from pytest_staging.campaign.runner import smoke_benchmark
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, Cell
from pytest_staging.model.errors import LoadUnfit, PinChanged, ToolMissing, UsageProblem, WorkspaceError
from pytest_staging.model.names import require_safe
from pytest_staging.model.ports import LoadTool, PinningTarget, PlannedTarget
from pytest_staging.model.version import Status, Version
from pytest_staging.stats import LOOKS
from pytest_staging.store import Workspace
from pytest_staging.throughput.conditions import presets_of

MAX_RUNS = 100_000


@dataclass(frozen=True, kw_only=True)
class CampaignRequest:
    """What the user asked for; None leaves the choice to the workspace."""

    runs: int
    looks: tuple[int, ...] = ()
    baseline: str | None = None
    candidates: Sequence[str] = ()
    campaign_id: str | None = None
    benchmark_path: Path | None = None
    seed: int | None = None
    order: str = ORDERS[0]
    smoke: bool = False
    hosts: str = ""
    required_modes: Collection[str] = field(default=contract.REQUIRED_MODES)
    policy_api: str | None = None
    policy_presets: tuple[str, Mapping[str, str]] | None = None


def parse_runs(text: str) -> tuple[int, tuple[int, ...]]:
    """A whole number of runs from 1 on; or `auto`, the stopping rule's last look and its looks. Raises UsageProblem."""
    if text == "auto":
        return LOOKS[-1], LOOKS
    try:
        runs = int(text)
    except ValueError:
        runs = 0
    if not 1 <= runs <= MAX_RUNS:
        raise UsageProblem(f"--runs {text}: needs a whole number from 1 to {MAX_RUNS} or auto, for example --runs 10.")
    return runs, ()


def parse_seed(text: str) -> int:
    """A whole number. Raises UsageProblem."""
    try:
        return int(text)
    except ValueError as error:
        raise UsageProblem(f"--staging-seed {text}: needs a whole number, for example --staging-seed 7.") from error


def plan_campaign(
    workspace: Workspace, request: CampaignRequest, tool_for: Callable[[str], LoadTool], target: PlannedTarget
) -> Campaign:
    """Checks everything that can be checked before anything runs. Raises UsageProblem of some kind; writes nothing."""
    path = request.benchmark_path or workspace.benchmark_path
    benchmark = store.load_benchmark(path, workspace.shown(path), request.required_modes)
    slugs = _choose_slugs(workspace, request)
    versions = [store.load_version(workspace, slug) for slug in slugs]
    _check_coverage(benchmark, versions, target)
    target.require_ready()
    tool = tool_for(benchmark.load.tool)
    if benchmark.load.warm_up and not tool.tells_live:
        raise LoadUnfit(
            f"{workspace.shown(path)}: load.warm_up: {tool.name} does not tell latencies while it runs. Give a fixed "
            "warm_up_s, or take locust."
        )
    if reason := tool.unfit_reason(benchmark.load, benchmark.selected_functions):
        raise LoadUnfit(f"{workspace.shown(path)}: load.tool: {tool.name} {reason}")
    now = datetime.now(timezone.utc)
    seed = random.SystemRandom().randrange(1, 1_000_000) if request.seed is None else request.seed
    campaign_id = request.campaign_id
    if campaign_id is None:
        campaign_id = f"{now:%Y%m%d-%H%M%S}-{seed % 0x10000:04x}{'-smoke' if request.smoke else ''}"
    if workspace.campaign_folder(campaign_id).exists():
        raise WorkspaceError(
            f"campaign {campaign_id!r} exists already in {workspace.campaigns_folder}. "
            f"Choose another id, or go on with it: --staging-resume {campaign_id}"
        )
    cells = build_cells(slugs, benchmark.platform_modes, request.runs, seed, request.order)
    _check_ids(cells)
    return Campaign(
        campaign_id=require_safe("campaign id", campaign_id),
        created_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        baseline_slug=slugs[0],
        candidate_slugs=tuple(slugs[1:]),
        platform_modes=tuple(benchmark.platform_modes),
        functions=benchmark.selected_functions,
        runs=request.runs,
        looks=request.looks,
        seed=seed,
        order=request.order,
        smoke=request.smoke,
        target=target.name,
        target_files=target.pin() if isinstance(target, PinningTarget) else {},
        hosts=request.hosts,
        benchmark_path=workspace.shown(path),
        benchmark_sha256=durable.hash_file(path),
        benchmark_files=pin_files(path.parent, store.benchmark_inputs(benchmark)),
        versions={version.slug: version.snapshot_fingerprint for version in versions},
        load_tool={"name": tool.name, "version": _tool_version(tool, benchmark)},
        cells=cells,
        policy_api=request.policy_api if request.policy_presets else None,
        policy_presets=presets_of(tuple(slugs), *request.policy_presets) if request.policy_presets else {},
    )


def create_folder(workspace: Workspace, campaign: Campaign) -> Path:
    """Makes campaigns/<id>/ with campaign.json and the pinned copy of the benchmark, whole or not at all."""
    final = workspace.campaign_folder(campaign.campaign_id)
    source = workspace.root / campaign.benchmark_path
    with durable.new_folder(final) as folder:
        for name in ("benchmark.yaml", *campaign.benchmark_files):
            original = source if name == "benchmark.yaml" else source.parent / name
            copy = folder / "benchmark" / name
            with durable.storing(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(original, copy)
        # A file that changed since it was pinned must not make a campaign.
        load_pinned_benchmark(folder, campaign)
        store.save_campaign(folder, campaign)
    return final


def load_pinned_benchmark(folder: Path, campaign: Campaign) -> Benchmark:
    """The campaign's own benchmark, with smoke's short load. Raises PinChanged naming each file that changed."""
    pinned = {"benchmark.yaml": campaign.benchmark_sha256, **campaign.benchmark_files}
    changed = [name for name, digest in pinned.items() if _digest(folder / "benchmark" / name) != digest]
    if changed:
        raise PinChanged(
            f"campaign {campaign.campaign_id}: the benchmark cannot change within a campaign, and "
            f"{', '.join(changed)} in {folder / 'benchmark'} did. Restore it, or start a new campaign."
        )
    path = folder / "benchmark" / "benchmark.yaml"
    benchmark = store.load_benchmark(path, str(path), required_modes=())
    return smoke_benchmark(benchmark) if campaign.smoke else benchmark


def pin_files(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file."""
    return {name: durable.hash_file(folder / name) for name in names}


def _digest(path: Path) -> str | None:
    return durable.hash_file(path) if path.is_file() else None


def _choose_slugs(workspace: Workspace, request: CampaignRequest) -> list[str]:
    """Baseline first. Raises WorkspaceError or UsageProblem."""
    baseline = request.baseline or store.find_baseline(workspace)
    candidates = list(request.candidates)
    if not candidates:
        found = [one.slug for one in store.load_all_metadata(workspace) if one.status is Status.CANDIDATE]
        candidates = [slug for slug in found if slug != baseline]
    if not candidates:
        where = workspace.versions_folder
        raise WorkspaceError(f"no version in {where} has status candidate. Name one with --candidate.")
    if baseline in candidates:
        raise UsageProblem(f"--candidate {baseline} is the baseline too; a version is not compared with itself.")
    double = sorted({slug for slug in candidates if candidates.count(slug) > 1})
    if double:
        raise UsageProblem(f"--candidate {double[0]} is given twice.")
    return [baseline, *candidates]


def _check_ids(cells: Sequence[Cell]) -> None:
    """Mode `jvm` of version `graal-x` and mode `jvm-graal` of version `x` would be one test name."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.cell_id, cell)
        if other != cell:
            raise WorkspaceError(
                f"version {cell.version_slug!r} in mode {cell.platform_mode!r} and version {other.version_slug!r} "
                f"in mode {other.platform_mode!r} would have the same test name {cell.cell_id}. Rename one of them."
            )


def _check_coverage(benchmark: Benchmark, versions: Sequence[Version], target: PlannedTarget) -> None:
    """Every version must have every mode and every function of the benchmark, and every mode what the target needs."""
    for version in versions:
        where = f"versions/{version.slug}/snapshot/service.yaml"
        for mode in benchmark.platform_modes:
            if mode not in version.service.modes:
                known = ", ".join(version.service.modes)
                raise WorkspaceError(f"{where}: mode {mode!r} of the benchmark is missing; it has {known}.")
            if reason := target.unfit_reason(version.service.modes[mode]):
                raise WorkspaceError(f"{where}: mode {mode!r} {reason}, which the target {target.name} needs.")
        for function in benchmark.selected_functions:
            if function not in version.service.functions:
                known = ", ".join(version.service.functions)
                raise WorkspaceError(f"{where}: function {function!r} of the benchmark is missing; it has {known}.")


def _tool_version(tool: LoadTool, benchmark: Benchmark) -> str:
    version, wanted = tool.version(), benchmark.load.tool_version
    if wanted:
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(wanted).contains(version, prereleases=True):
            raise ToolMissing(
                f"the benchmark asks for {tool.name} {wanted}, and {version} is installed. Install one that fits."
            )
    return version
