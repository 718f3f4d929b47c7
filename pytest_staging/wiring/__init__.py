"""The only place that chooses adapters: a name-to-import table. Nothing is imported before it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pytest_staging import store
from pytest_staging.campaign.fleet import HostFleet
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.images.cache import ImageCache
from pytest_staging.model.benchmark import Benchmark, SourceKind
from pytest_staging.model.building import Builder
from pytest_staging.model.campaign import Campaign
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import GeneratorSpec, HostSpec
from pytest_staging.model.observing import MetricSource
from pytest_staging.model.ports import HostTarget, PhaseListener, PlannedTarget, Target
from pytest_staging.model.script import Takes
from pytest_staging.store import Workspace
from pytest_staging.wiring.loads import (
    calibration_of,
    calibration_there,
    load_tools,
    make_generator,
    make_generators,
    make_load_tool,
)
from pytest_staging.wiring.policies import conditions_of, make_policy_poller, make_policy_watch
from pytest_staging.wiring.tables import (
    BUILDERS,
    HOST_TARGETS,
    LOAD_TOOLS,
    METRIC_SOURCES,
    TARGETS,
    load_adapter,
    require_known,
)

__all__ = [
    "BUILDERS",
    "HOST_TARGETS",
    "LOAD_TOOLS",
    "METRIC_SOURCES",
    "TARGETS",
    "Seat",
    "calibration_of",
    "calibration_there",
    "images_here",
    "load_tools",
    "make_control",
    "make_fleet",
    "make_generator",
    "make_generators",
    "make_image_cache",
    "make_images",
    "make_load_tool",
    "make_policy_poller",
    "make_policy_watch",
    "make_runner",
    "make_source",
    "make_target",
    "needs_hosts",
    "runner_of",
]

TARGET_OPTION = "--staging-target"
Seat = tuple[str, HostSpec]
"""A host slot of the inventory: its name, and how it is reached."""


def needs_hosts(target: str) -> bool:
    """Whether cells of that target run on hosts of the inventory. Raises UsageProblem for an unknown target."""
    require_known(TARGETS, TARGET_OPTION, _kind(target))
    return target in HOST_TARGETS


def make_target(
    workspace: Workspace,
    name: str,
    seat: Seat | None = None,
    pins: Mapping[str, str] | None = None,
    option: str = TARGET_OPTION,
) -> Target:
    """Raises UsageProblem naming the known targets. `seat` is needed where the target needs hosts.

    `pins` are the files of the target that a campaign pinned; none where it is only planned. By `option` it was named.
    """
    make = load_adapter(TARGETS, option, _kind(name))
    if _kind(name) == "compose":
        return _make_compose_target(workspace, name, make, pins)
    if name == "script":
        from pytest_staging.targets.local import LocalTarget

        return cast(Target, make(LocalTarget(), store.load_script_target(workspace), workspace.root))
    if name not in HOST_TARGETS:
        return cast(Target, make())
    if seat is None:
        raise UsageProblem(f"{option} {name} needs the hosts of targets.yaml, or E2E_VM_HOST.")
    return cast(Target, make(*seat))


def _kind(target: str) -> str:
    """`compose` of `compose:scale-out`; no other target takes more than its name."""
    return "compose" if target.startswith("compose:") else target


def _make_compose_target(
    workspace: Workspace, name: str, make: Callable[..., Any], pins: Mapping[str, str] | None
) -> Target:
    from pytest_staging.capacity.choosing import parse_choice
    from pytest_staging.operating.describing import load_description

    description = load_description(workspace)
    choice = parse_choice(name.partition(":")[2], description.capacity)
    return cast(Target, make(name, description, choice, pins))


def make_fleet(workspace: Workspace, name: str, seats: Mapping[str, HostSpec]) -> PlannedTarget:
    """What a campaign is planned for: the target itself, or all of its hosts. Raises UsageProblem."""
    if not needs_hosts(name):
        return make_target(workspace, name)
    return HostFleet({seat[0]: cast(HostTarget, make_target(workspace, name, seat)) for seat in seats.items()})


def make_source(benchmark: Benchmark, folder: Path) -> MetricSource:
    """All metric sources of the benchmark as one. Raises UsageProblem for an environment variable that is not set.

    `folder` holds the benchmark's files.
    """
    from pytest_staging.metrics.combined import CombinedMetrics

    made = []
    for spec in benchmark.sources:
        make = load_adapter(METRIC_SOURCES, "metric source", spec.kind.value)
        made.append(make(spec, folder) if spec.kind is SourceKind.COMMAND else make(spec))
    return CombinedMetrics(made)


def make_images(workspace: Workspace, name: str, seat: Seat | None = None, option: str = TARGET_OPTION) -> ImageCache:
    """The cache of what the target of that name runs from. Raises as `make_target`."""
    require_known(TARGETS, option, _kind(name))
    if name == "ssh":
        if seat is None:
            raise UsageProblem(f"{option} ssh: each host builds its own files, in the campaign that measures there.")
        return _make_remote_images(workspace, make_target(workspace, name, seat))
    if name == "local" or (name == "script" and store.load_script_target(workspace).takes is Takes.FILES):
        return make_image_cache(workspace, "artifact")
    from pytest_staging.images.buildkit import wants_buildkit

    return make_image_cache(workspace, "buildkit" if wants_buildkit() else "docker")


def images_here(workspace: Workspace, name: str) -> ImageCache | None:
    """As `make_images`; None for a target whose hosts keep what they run."""
    return None if name == "ssh" else make_images(workspace, name)


def _make_remote_images(workspace: Workspace, target: Any) -> ImageCache:
    from pytest_staging.images.remote import RemoteArtifactBuilder

    builder = RemoteArtifactBuilder(workspace.versions_folder, target.host, target.runner)
    return ImageCache(workspace.versions_folder, builder)


def make_image_cache(workspace: Workspace, builder: str) -> ImageCache:
    """The cache of what one builder makes, by the name that stands in the manifest."""
    from pytest_staging.engine import Engine
    from pytest_staging.targets.local import LocalTarget

    given: dict[str, Callable[[], dict[str, Any]]] = {
        "artifact": lambda: {"runner": LocalTarget()},
        "docker": lambda: {"engine": Engine()},
        "buildkit": lambda: {"engine": Engine(), "runner": LocalTarget()},
    }
    make = load_adapter(BUILDERS, "builder", builder)
    made = cast(Builder, make(versions_folder=workspace.versions_folder, **given[builder]()))
    return ImageCache(workspace.versions_folder, made)


def make_control(
    workspace: Workspace, description: Any, invocation: Any, say: Callable[[str], None], dry_run: bool = False
) -> Any:
    """What the commands on a capacity profile work with."""
    from pytest_staging.operating.control import Control
    from pytest_staging.targets.compose_program import Unleased, find_compose

    return Control(workspace, description, invocation, say, lambda: find_compose(Unleased()), dry_run=dry_run)


def make_runner(
    workspace: Workspace,
    campaign: Campaign,
    folder: Path,
    on_phase: PhaseListener,
    keep_failed: bool = False,
    seat: Seat | None = None,
    generators: Mapping[str, GeneratorSpec] | None = None,
) -> CellRunner:
    """Everything a cell needs, from the campaign's own pins. The seat's host is loaded by those that it names."""
    benchmark = load_pinned_benchmark(folder, campaign)
    runner = runner_of(workspace, campaign, benchmark, folder / "benchmark", folder, on_phase, keep_failed, seat)
    if not seat or not seat[1].generators:
        return runner
    loading = make_generators(seat[1].generators, generators or {}, runner.tool, campaign.load_tool["version"])
    calibration = calibration_there(loading, campaign.load_tool, benchmark.load.processes)
    return replace(runner, generators=loading, calibration=calibration)


def runner_of(
    workspace: Workspace,
    campaign: Campaign,
    benchmark: Benchmark,
    benchmark_folder: Path,
    folder: Path,
    on_phase: PhaseListener,
    keep_failed: bool = False,
    seat: Seat | None = None,
) -> CellRunner:
    """The same with a benchmark of the caller's; `benchmark_folder` holds its files."""
    target = make_target(workspace, campaign.target, seat, campaign.target_files)
    on_host = campaign.target == "ssh"
    images = _make_remote_images(workspace, target) if on_host else make_images(workspace, campaign.target)
    return CellRunner(
        campaign=campaign,
        benchmark=benchmark,
        benchmark_folder=benchmark_folder,
        campaign_folder=folder,
        load_version=lambda slug: store.load_version(workspace, slug, indexed=True),
        target=target,
        tool=make_load_tool(benchmark.load.tool),
        source=make_source(benchmark, benchmark_folder),
        images=images,
        on_phase=on_phase,
        keep_failed=keep_failed,
        calibration=calibration_of(campaign.load_tool, benchmark.load.processes),
        **conditions_of(campaign),
    )
