"""Load tools side by side on the sample service: floor, capacity, noise, and whether a cell tells what its tool does.

usage: perf/tools.py [TOOL ...]     prints a table; exit 1 when a cell's p95 is not what its tool prints
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("locust", "k6", "wrk", "h2load")
CELLS = 10
OPEN = {"shape": "open", "rate": 300, "users": 8, "warm_up_s": 3, "duration_s": 4, "tool_version": None}
CLOSED = {"shape": "closed", "users": 1, "warm_up_s": 3, "duration_s": 4, "tool_version": None}
FIXED = {"shape": "open", "rate": 500, "users": 8, "warm_up_s": 2, "duration_s": 10, "tool_version": None}
LIMIT = 0.02


def prepare(folder: Path, load: dict[str, Any]) -> None:
    """The sample workspace with that load on one function, which every tool can send."""
    for name in ("versions", "benchmark"):
        ignored = shutil.ignore_patterns("images", ".lock")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    path = folder / "benchmark" / "benchmark.yaml"
    data = yaml.safe_load(path.read_text())
    data |= {"function_profile": "subset", "functions": ["word-stats"]}
    data["load"] |= load
    data["load"] = {key: value for key, value in data["load"].items() if value is not None}
    if load["shape"] == "closed":
        data["load"].pop("rate", None)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def ask(folder: Path, *arguments: str) -> dict[str, Any]:
    """What the command says as JSON."""
    command = [sys.executable, "-m", "pytest_staging", "calibrate", "--json", *arguments]
    environment = {**os.environ, "STAGING_STATE_FOLDER": str(folder / "state")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout))


def compare(folder: Path) -> float:
    """A cell's p95 at 500 requests/s over what k6 prints in the cell's own log."""
    prepare(folder, {**FIXED, "tool": "k6"})
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "--staging-campaign", "--runs", "1"]
    command += ["--candidate", "nodelay", "--campaign-id", "fixed"]
    environment = {**os.environ, "STAGING_STATE_FOLDER": str(folder / "none")}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=900, check=False)
    worst = 1.0
    for path in folder.glob("campaigns/fixed/runs/*/nodelay__*/cell-summary.json"):
        cell = json.loads(path.read_text())
        printed = json.loads((path.parent / "k6-summary.json").read_text())
        theirs = next(value for value in find(printed, "p(95)") if value)
        ratio = cell["metrics"]["p95"] / theirs
        ours = cell["metrics"]["p95"]
        print(f"k6 at 500 requests/s, {cell['platform_mode']}: the cell's p95 {ours:.3f} ms, k6's {theirs:.3f} ms")
        worst = max(worst, ratio, 1 / ratio)
    return worst


def find(data: Any, key: str) -> list[float]:
    """That percentile of the successful requests of the measured scenario, without the warm-up."""
    metrics = data.get("metrics", data)
    names = [name for name in metrics if name.startswith("http_req_duration{") and "scenario:" in name]
    chosen = [metrics[name] for name in names if "expected_response" in name]
    return [float(value) for one in chosen if (value := one.get("values", one).get(key))]


def main(names: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="staging-tools-") as name:
        folder = Path(name)
        print("| tool | floor p50, p95 | capacity | load | sd of log p95 | runs to see 5 % in p95 |")
        print("| --- | --- | --- | --- | --- | --- |")
        for tool in names or TOOLS:
            prepare(folder, {**(CLOSED if tool == "wrk" else OPEN), "tool": tool})
            can = ask(folder, "--tool", tool)
            noise = ask(folder, "--noise", "--version", "nodelay", "--mode", "jvm", "--cells", str(CELLS))
            p95 = next(one for one in noise["noise"] if one["metric"] == "p95")
            load = "closed, 1 user" if tool == "wrk" else "open, 300/s"
            floor = f"{can['floor_ms']['p50']:.2f}, {can['floor_ms']['p95']:.2f} ms"
            print(f"| {tool} {can['tool_version']} | {floor} | {can['capacity_rps']:.0f}/s | {load} "
                  f"| {p95['deviation']:.2f} | {p95['runs']} |", flush=True)  # fmt: skip
        worst = compare(folder)
    return 1 if worst > 1 + LIMIT else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
