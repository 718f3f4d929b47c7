"""`calibrate`: what the load tool can do on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_staging.cli.command import add_command, workspace_of

if TYPE_CHECKING:
    from pytest_staging.model.calibration import Calibration

LEASE_TIMEOUT_S = 60.0


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "calibrate",
        "measure the load tool's own floor and capacity on this machine",
        "staging-manager calibrate --tool locust",
        calibrate,
    )
    parser.add_argument("--tool", help="load tool (default: the benchmark's)")
    parser.add_argument("--duration", type=float, default=5.0, metavar="SECONDS", help="of each load (default: 5)")
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def calibrate(options: argparse.Namespace) -> int:
    from pytest_staging import store, wiring
    from pytest_staging.calibrations import save_calibration, state_folder
    from pytest_staging.campaign.calibrating import Calibrating, machine_of
    from pytest_staging.model.errors import UsageProblem
    from pytest_staging.targets.local import LocalTarget

    if not 0 < options.duration <= 3600:
        raise UsageProblem(f"--duration {options.duration:g}: needs seconds from above 0 to 3600, for example 5.")
    workspace, target = workspace_of(options), LocalTarget()
    path = workspace.benchmark_path
    benchmark = store.load_benchmark(path, workspace.shown(path), required_modes=())
    tool = wiring.make_load_tool(options.tool or benchmark.load.tool)
    with target.lease("calibrate", LEASE_TIMEOUT_S):
        measuring = Calibrating(tool, benchmark, path.parent, target.start, options.duration)
        found = measuring.measure(machine_of(target.facts()), lambda line: print(line, file=sys.stderr, flush=True))
    saved = save_calibration(found, state_folder())
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        _print(found)
        print(f"wrote {saved}")
    return 0


def _print(found: Calibration) -> None:
    floor = ", ".join(f"{name} {value:.3g} ms" for name, value in found.floor_ms.items())
    print(f"{found.tool} {found.tool_version} on {found.machine}")
    print(f"  floor, with one user: {floor}")
    print(f"  capacity: {found.capacity_rps:.0f} requests/s with {found.capacity_cpus:.2f} CPUs")
    print("Cells that come near to either are invalid from now on: they would measure the tool.")
