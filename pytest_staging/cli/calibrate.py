"""`calibrate`: what the load tool can do on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, workspace_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_staging.campaign.noise import Noise
    from pytest_staging.model.benchmark import Benchmark
    from pytest_staging.model.calibration import Calibration
    from pytest_staging.model.ports import LoadTool

LEASE_TIMEOUT_S = 60.0
DURATION_S, CELLS = 5.0, 12


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "calibrate",
        "measure the load tool's own floor and capacity on this machine, or on a generator",
        "staging-manager calibrate --tool locust",
        calibrate,
    )
    parser.add_argument("--generator", metavar="NAME", help="what it can do on that generator of targets.yaml")
    parser.add_argument("--tool", help="load tool (default: the benchmark's)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help=f"of each load (default: {DURATION_S:g})")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument(
        "--noise", action="store_true", help="measure equal cells of your own service instead, and propose"
    )
    parser.add_argument("--version", metavar="SLUG", help="with --noise: the version (default: the baseline)")
    parser.add_argument("--mode", metavar="MODE", help="with --noise: the build mode (default: the first)")
    parser.add_argument("--cells", type=int, metavar="N", help=f"with --noise: how many cells (default: {CELLS})")


def calibrate(options: argparse.Namespace) -> int:
    from pytest_staging.model.errors import UsageProblem

    if options.noise and options.generator:
        raise UsageProblem("--noise measures with load from this machine; leave --generator out.")
    if options.noise and options.duration is not None:
        raise UsageProblem("--duration: --noise measures cells as the benchmark has them; see its load.duration_s.")
    given = [name for name in ("version", "mode", "cells") if getattr(options, name) is not None]
    if given and not options.noise:
        raise UsageProblem(f"--{given[0]} goes with --noise, which measures a service of yours.")
    return study_noise(options) if options.noise else measure_tool(options)


def measure_tool(options: argparse.Namespace) -> int:
    from pytest_staging import store, wiring
    from pytest_staging.calibrations import save_calibration, state_folder
    from pytest_staging.campaign.calibrating import Calibrating, LocalSite, machine_of
    from pytest_staging.model.errors import UsageProblem
    from pytest_staging.targets.local import LocalTarget
    from pytest_staging.targets.procfs import machine_busy_seconds

    duration_s = DURATION_S if options.duration is None else options.duration
    if not 0 < duration_s <= 3600:
        raise UsageProblem(f"--duration {duration_s:g}: needs seconds from above 0 to 3600, for example 5.")
    workspace, target = workspace_of(options), LocalTarget()
    path = workspace.benchmark_path
    benchmark = store.load_benchmark(path, workspace.shown(path), required_modes=())
    tool = wiring.make_load_tool(options.tool or benchmark.load.tool)
    if options.generator:
        found = _measure_there(options, tool, benchmark, path.parent, duration_s)
    else:
        with target.lease("calibrate", LEASE_TIMEOUT_S):
            measuring = Calibrating(
                tool, benchmark, path.parent, LocalSite(target.start, machine_busy_seconds), duration_s
            )
            found = measuring.measure(machine_of(target.facts()), _say)
    saved = save_calibration(found, state_folder())
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        _print(found)
        print(f"wrote {saved}")
    return 0


def _measure_there(
    options: argparse.Namespace, tool: LoadTool, benchmark: Benchmark, folder: Path, duration_s: float
) -> Calibration:
    """On a generator, under its lease."""
    from pytest_staging import store, wiring
    from pytest_staging.campaign.calibrating import Calibrating
    from pytest_staging.inventory import require_generator

    inventory = store.load_inventory(workspace_of(options))
    name = require_generator(inventory, options.generator)
    there = wiring.make_generators([name], inventory.generators, tool)
    try:
        version = there.check()[name].version
        with there.lease("calibrate", LEASE_TIMEOUT_S):
            measuring = Calibrating(tool, benchmark, folder, there, duration_s, version)
            return replace(measuring.measure(there.hosts[0].machine, _say), generator=name)
    finally:
        there.close()


def _print(found: Calibration) -> None:
    floor = ", ".join(f"{name} {value:.3g} ms" for name, value in found.floor_ms.items())
    print(f"{found.tool} {found.tool_version} on {found.machine}")
    print(f"  floor, with one user: {floor}")
    print(f"  capacity: {found.capacity_rps:.0f} requests/s with {found.capacity_cpus:.2f} CPUs")
    print("Cells that come near to either are invalid from now on: they would measure the tool.")


def study_noise(options: argparse.Namespace) -> int:
    """Raises UsageProblem for what cannot be studied, CellFailure for a cell that failed."""
    import tempfile
    from pathlib import Path

    from pytest_staging import store, wiring
    from pytest_staging.campaign.noise import (
        LONG_S,
        MIN_CELLS,
        MIN_RUNS,
        Study,
        lacking_reason,
        make_study,
        noise_of,
        propose,
    )
    from pytest_staging.model.errors import UsageProblem

    count = CELLS if options.cells is None else options.cells
    if not MIN_CELLS <= count <= 1000:
        raise UsageProblem(f"--cells {count}: needs a whole number from {MIN_CELLS} to 1000, for example {CELLS}.")
    workspace = workspace_of(options)
    path = workspace.benchmark_path
    benchmark = store.load_benchmark(path, workspace.shown(path), required_modes=())
    if options.tool and options.tool != benchmark.load.tool:
        # Script and command are in the other tool's language.
        load = replace(benchmark.load, tool=options.tool, tool_version=None, script=None, command=())
        benchmark = replace(benchmark, load=load)
    tool = wiring.make_load_tool(benchmark.load.tool)
    if reason := tool.unfit_reason(benchmark.load, benchmark.selected_functions):
        raise UsageProblem(f"{tool.name} {reason}")
    version = store.load_version(workspace, options.version or store.find_baseline(workspace))
    mode = options.mode or benchmark.platform_modes[0]
    if mode not in version.service.modes:
        raise UsageProblem(f"--mode {mode}: version {version.slug} has {', '.join(version.service.modes)}.")
    campaign = make_study(version, mode, count, benchmark, path, tool)
    with tempfile.TemporaryDirectory(prefix="staging-noise-") as name:
        silent = lambda cell_id, phase: None  # noqa: E731
        runner = wiring.runner_of(workspace, campaign, benchmark, path.parent, Path(name), silent)
        study = Study(runner, _say)
        with runner.target.lease("calibrate --noise", LEASE_TIMEOUT_S):
            warm_up_s = study.warm_up_s()
            cells, other_s = study.measure()
            halves = study.halves(cells)
    found = noise_of([one.metrics for one in cells])
    p95 = next((one for one in found if one.metric == "p95"), None)
    proposal = propose(halves, p95, benchmark.load.duration_s, other_s) if halves and p95 else None
    lacking = None if proposal else lacking_reason(halves, p95)
    if options.json:
        data: dict[str, Any] = {
            "tool": tool.name,
            "version": version.slug,
            "mode": mode,
            "cells": len(cells),
            "cells_invalid": count - len(cells),
            "warm_up_s": warm_up_s,
        }
        data["noise"] = [asdict(one) for one in found]
        data |= {"proposal": asdict(proposal) if proposal else None, "no_proposal": lacking}
        print(json.dumps(data, indent=2))
    else:
        load = benchmark.load
        counted = f"{len(cells)} of {count} equal cells of {load.duration_s:g} s, the others are invalid"
        counted = counted if len(cells) < count else f"{count} equal cells of {load.duration_s:g} s"
        print(f"{tool.name} on {version.slug} in mode {mode}, {counted}:")
        _print_noise(found, warm_up_s, tool.tells_live)
        if proposal:
            warm_s = warm_up_s if warm_up_s is not None else LONG_S if tool.tells_live else load.warm_up_s
            print(f"proposal: warm_up_s {warm_s:g}, duration_s {proposal.duration_s:g}, --runs {proposal.runs} "
                  f"(sees 5 % in p95; about {proposal.total_s / 60:.0f} min for each mode)")  # fmt: skip
        else:
            runs = (
                f"; with cells of {load.duration_s:g} s: --runs {max(MIN_RUNS, p95.runs)}" if p95 and p95.runs else ""
            )
            print(f"no proposal: {lacking}{runs}")
    return 0


def _print_noise(found: list[Noise], warm_up_s: float | None, told: bool) -> None:
    from tabulate import tabulate

    rows = [[one.metric, f"{one.deviation:.3f}", one.runs or "-"] for one in found]
    print(tabulate(rows, ["metric", "sd of the log ratio", "runs to see 5 %"], tablefmt="github"))
    if warm_up_s is not None:
        print(f"warm-up: steady {warm_up_s:g} s after the first request")
    elif told:
        print("warm-up: not steady within 30 s; what lasts that long is part of what is measured")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
