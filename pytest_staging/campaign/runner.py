"""One cell: build or reuse, start, wait for health, warm up, load and sample, drain, stop. Fresh launch every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.campaign.health import unhealthy_reason
from pytest_staging.campaign.loading import RunningLoad
from pytest_staging.campaign.results import compute_metrics, why_unusable
from pytest_staging.campaign.service import LaunchedService, launch
from pytest_staging.campaign.warming import Warmed, await_steady
from pytest_staging.images.cache import BuiltImage, ImageCache
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.calibration import Calibration
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import HOST_GONE, CellFailure, LoadFailed, StagingError
from pytest_staging.model.observing import MetricSource
from pytest_staging.model.ports import (
    Deployment,
    LoadCommand,
    LoadRequest,
    LoadResult,
    LoadTool,
    PhaseListener,
    Process,
    Target,
)
from pytest_staging.model.sending import LoadSource
from pytest_staging.model.version import Version

UNTIL = "load-until"


@dataclass(frozen=True)
class CellRunner:
    """Runs cells of one campaign on one target. `benchmark_folder` is the campaign's own pinned copy."""

    campaign: Campaign
    benchmark: Benchmark
    benchmark_folder: Path
    campaign_folder: Path
    load_version: Callable[[str], Version]
    target: Target
    tool: LoadTool
    source: MetricSource
    images: ImageCache
    on_phase: PhaseListener
    keep_failed: bool = False
    calibration: Calibration | None = None
    generators: LoadSource | None = None
    conditions: Callable[[Cell], AbstractContextManager[None]] = lambda _: nullcontext()

    def run(self, cell: Cell, attempt: int, waited_s: float = 0.0) -> CellSummary:
        """Never raises for what goes wrong with the cell: the summary says it. Interrupts pass, after the clean-up."""
        folder = self.campaign_folder / cell.folder
        watch = _PhaseWatch(cell.cell_id, self.on_phase, {"lease": waited_s})
        started_at = _now()
        facts: dict[str, Any] = {"host": {}, "load_tool": dict(self.campaign.load_tool)}
        try:
            facts["host"] |= self.target.facts()
            with durable.storing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            outcome = {"outcome": "passed", **self._measure(cell, folder, watch, facts)}
        except HOST_GONE as error:
            outcome = {"outcome": "failed", "reason": str(error), "host_lost": True}
        except CellFailure as failure:
            tail = failure.log_tail or durable.read_tail(folder / "service.log")
            outcome = {"outcome": "failed", "reason": failure.reason, "log_tail": tail}
        except StagingError as error:
            outcome = {"outcome": "failed", "reason": str(error)}
        except OSError as error:
            outcome = {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
        return CellSummary(
            campaign_id=self.campaign.campaign_id,
            run_index=cell.run_index,
            version_slug=cell.version_slug,
            platform_mode=cell.platform_mode,
            attempt=attempt,
            started_at=started_at,
            finished_at=_now(),
            phases={name: round(seconds, 4) for name, seconds in watch.seconds.items()},
            benchmark_sha256=self.campaign.benchmark_sha256,
            smoke=self.campaign.smoke,
            **_with_all_metrics(outcome, self.benchmark),
            **facts,
        )

    def _measure(self, cell: Cell, folder: Path, watch: _PhaseWatch, facts: dict[str, Any]) -> dict[str, Any]:
        with watch("build"):
            version, built = self._built(cell, folder)
            facts["artifact"] = {"fingerprint": built.fingerprint, "ref": built.image.ref, "id": built.image.id}
        with ExitStack() as stack:
            with watch("start"):
                service = launch(self.target, self._deployment(cell, version, built, folder))
                # Runs after _stopping, and does something only when that was interrupted: no grace is left then.
                stack.callback(service.service.stop, 0.0)
                stack.enter_context(_stopping(service, watch, facts, self.keep_failed))
            stack.enter_context(self.conditions(cell))
            request = self._load_request(service, folder)
            with watch("warm_up"):
                request, load, generator = self._start_load(request, facts)
                stack.callback(generator.stop, 0.0)
                running = RunningLoad(load, generator, service.require_alive)
                ready_s = running.await_ready()
                sampling = self.source.observe(service.base_url, service.mode, service.service, folder / "samples.json")
                stack.callback(sampling.close)
                warmed = _warm_up(running, load, request, ready_s)
                facts["load_tool"] |= warmed.facts()
            with watch("load"):
                sampling.begin()
                until_s = warmed.at_s + request.load.duration_s
                use = running.watch_use(until_s)
                sampling.end()
            with watch("drain"):
                running.await_end()
                reading = sampling.finish()
                service.require_alive()
            result = self.tool.parse_output(request, warmed.at_s, until_s)
        facts["sources"] = dict(reading.sources)
        facts["load_tool"] |= _load_facts(result)
        _require_measured(result, self.tool.name, request.load.duration_s)
        facts["load_tool"] |= use.facts()
        for one in facts["load_tool"].get("generators", ()):
            one |= use.parts[one["name"]].facts() if one["name"] in use.parts else {}
        metrics = {**compute_metrics(result, request.load.duration_s), **reading.metrics}
        measured = {
            "metrics": metrics,
            "missing": {**result.missing, **reading.missing},
            "inapplicable": reading.inapplicable,
        }
        invalid = unhealthy_reason(result, use, request.load, self.calibration)
        return {**measured, "outcome": "invalid", "reason": invalid} if invalid else measured

    def _start_load(self, request: LoadRequest, facts: dict[str, Any]) -> tuple[LoadRequest, LoadCommand, Process]:
        """Beside pytest, or on generators."""
        if self.generators:
            request = self.generators.placed(request, self.benchmark_folder)
            facts["load_tool"]["generators"] = [dict(one) for one in self.generators.facts()]
        load = self.tool.build_command(request)
        started = self.generators.start(load, request) if self.generators else self.target.start(load.command)
        return request, load, started

    def _built(self, cell: Cell, folder: Path) -> tuple[Version, BuiltImage]:
        version = self.load_version(cell.version_slug)
        pinned = self.campaign.versions[cell.version_slug]
        if version.snapshot_fingerprint != pinned:
            raise CellFailure(f"the snapshot of {cell.version_slug} changed after the campaign began; start a new one")
        return version, self.images.ensure(version, cell.platform_mode, folder / "build.log")

    def _deployment(self, cell: Cell, version: Version, built: BuiltImage, folder: Path) -> Deployment:
        return Deployment(
            campaign_id=self.campaign.campaign_id,
            cell_id=cell.cell_id,
            image=built.image,
            mode=version.service.modes[cell.platform_mode],
            snapshot=self.images.snapshot(cell.version_slug),
            log=folder / "service.log",
            environment={
                "STAGING_CAMPAIGN": self.campaign.campaign_id,
                "STAGING_CELL": cell.cell_id,
                "STAGING_VERSION": cell.version_slug,
                "STAGING_MODE": cell.platform_mode,
            },
            limits=self.benchmark.containers,
        )

    def _load_request(self, service: LaunchedService, folder: Path) -> LoadRequest:
        load = self.benchmark.load
        bodies = {
            name: self.benchmark_folder / self.benchmark.payloads[name] for name in self.benchmark.selected_functions
        }
        script = self.benchmark_folder / load.script if load.script else None
        until = None
        if load.warm_up:  # the tool has to be able to run for as long as that may take
            load, until = replace(load, warm_up_s=load.warm_up.max_s), folder / UNTIL
            until.unlink(missing_ok=True)
        return LoadRequest(
            base_url=service.base_url, load=load, bodies=bodies, folder=folder, script=script, until=until
        )


def _warm_up(running: RunningLoad, load: LoadCommand, request: LoadRequest, ready_s: float) -> Warmed:
    spec = request.load.warm_up
    if spec is None or request.until is None:
        at_s = ready_s + request.load.warm_up_s
        running.await_instant(at_s)
        return Warmed(at_s, request.load.warm_up_s)
    warmed = await_steady(running, load.live, ready_s, spec)
    durable.write_text(request.until, repr(warmed.at_s + request.load.duration_s))
    return warmed


class _PhaseWatch:
    """Durations of the phases, in order, also of the one that failed."""

    def __init__(self, cell_id: str, listener: PhaseListener, seconds: dict[str, float]) -> None:
        self._cell_id = cell_id
        self._listener = listener
        self.seconds = seconds

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._listener(self._cell_id, phase)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - started


@contextmanager
def _stopping(service: LaunchedService, watch: _PhaseWatch, facts: dict[str, Any], keep_failed: bool) -> Iterator[None]:
    failed = False
    try:
        yield
    except Exception:  # not an interrupt: who stops a campaign does not ask for its remains
        failed = True
        raise
    finally:
        with watch("stop"):
            how = service.service.stop(service.mode.stop_timeout_s, keep=failed and keep_failed)
            facts["host"]["service_stop"] = how


def _load_facts(result: LoadResult) -> dict[str, Any]:
    pace = asdict(result.pace) if result.pace else None
    known = {"pace": pace, "requests": result.requests, "failures": result.failures, "first_error": result.first_error}
    return {key: value for key, value in {**known, **result.facts}.items() if value is not None}


def _require_measured(result: LoadResult, tool: str, duration_s: float) -> None:
    if result.requests == 0:
        raise LoadFailed(
            f"{tool} started no request in the load window of {duration_s:g} s; lengthen duration_s or raise the load"
        )
    if result.failures == result.requests:
        raise LoadFailed(f"every one of {result.requests} requests failed: {result.first_error}")


def _with_all_metrics(outcome: dict[str, Any], benchmark: Benchmark) -> dict[str, Any]:
    """Every metric of the benchmark is there: a value that can be compared, or null with the reason."""
    found = dict(outcome.get("metrics", {}))
    missing = dict(outcome.get("missing", {}))
    for name, spec in benchmark.metrics.items():
        if why := why_unusable(found.get(name), spec):
            found[name], missing[name] = None, why
    metrics = {name: found.get(name) for name in benchmark.metrics}
    if outcome["outcome"] == "passed":
        for name, value in metrics.items():
            if value is None:
                missing.setdefault(name, "no source of this campaign gives it")
    return {
        **outcome,
        "metrics": metrics,
        "missing": {name: missing[name] for name in metrics if name in missing},
        "inapplicable": tuple(name for name in outcome.get("inapplicable", ()) if name in metrics),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def smoke_benchmark(benchmark: Benchmark) -> Benchmark:
    """The same contract with about a second of load per cell: enough to see that everything is wired."""
    load = benchmark.load
    warm_up_s, duration_s = min(load.warm_up_s, 0.2), min(load.duration_s, 1.0)
    return replace(benchmark, load=replace(load, warm_up=None, warm_up_s=warm_up_s, duration_s=duration_s))
