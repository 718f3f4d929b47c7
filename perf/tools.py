"""Load tools side by side on the sample service: floor, capacity, noise, and whether a cell tells what its tool does.

usage: perf/tools.py [--compare] [TOOL ...]     prints a table (not with --compare), then the cells' percentiles beside
those that k6 and wrk print; exit 1 when they differ by more than 2 %
"""

from __future__ import annotations

import json
import os
import re
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
# wrk sends as fast as it gets answers: it has no rate.
WRK = {"shape": "closed", "users": 2, "warm_up_s": 2, "duration_s": 10, "tool_version": None, "script": "say-p95.lua"}
# wrk prints no p95 itself; its own Lua interface gives it.
SAY_P95 = """
local file = io.open("{payload}", "rb")
local body = file:read("*a")
file:close()
function request()
  return wrk.format("POST", "/invoke/word-stats", {{["Content-Type"] = "application/json"}}, body)
end
function done(summary, latency, requests)
  print(string.format("own p95 %.0f us", latency:percentile(95)))
end
"""
PRINTED_P99 = re.compile(r"^\s+99%\s+([0-9.]+)(us|ms|s)$", re.MULTILINE)
OWN_P95 = re.compile(r"^own p95 (\d+) us$", re.MULTILINE)
IN_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


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


def benchmark_of(folder: Path) -> dict[str, Any]:
    """The workspace's benchmark."""
    return dict(yaml.safe_load((folder / "benchmark" / "benchmark.yaml").read_text()))


def ask(folder: Path, *arguments: str) -> dict[str, Any]:
    """What the command says as JSON."""
    command = [sys.executable, "-m", "pytest_staging", "calibrate", "--json", *arguments]
    environment = {**os.environ, "STAGING_STATE_FOLDER": str(folder / "state")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout))


def compare_k6(folder: Path) -> float:
    """A cell's p95 at 500 requests/s over what k6 prints for the same run."""
    prepare(folder, {**FIXED, "tool": "k6"})
    worst = 1.0
    for path in run_cells(folder, "fixed-k6"):
        cell = json.loads(path.read_text())
        printed = json.loads((path.parent / "k6-summary.json").read_text())
        theirs = next(value for value in find(printed, "p(95)") if value)
        worst = max(worst, told(f"k6 at 500 requests/s, {cell['platform_mode']}: p95", cell["metrics"]["p95"], theirs))
    return worst


def compare_wrk(folder: Path) -> float:
    """A cell's p95 and p99 over what wrk's own interface says and what it prints, in the log of the same run."""
    prepare(folder, {**WRK, "tool": "wrk"})
    payload = (ROOT / "benchmark" / benchmark_of(folder)["payloads"]["word-stats"]).resolve()
    (folder / "benchmark" / WRK["script"]).write_text(SAY_P95.format(payload=payload))
    worst = 1.0
    for path in run_cells(folder, "fixed-wrk"):
        cell, log = json.loads(path.read_text()), (path.parent / "load.log").read_text()
        # The warm-up is another run, which says nothing.
        value, unit = PRINTED_P99.findall(log)[-1]
        theirs = {"p95": int(OWN_P95.findall(log)[-1]) / 1000, "p99": float(value) * IN_MS[unit]}
        for name, ms in theirs.items():
            worst = max(worst, told(f"wrk, 2 users, {cell['platform_mode']}: {name}", cell["metrics"][name], ms))
    return worst


def run_cells(folder: Path, name: str) -> list[Path]:
    """Summaries of the candidate's cells in a campaign of one run."""
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "--staging-campaign", "--runs", "1"]
    command += ["--candidate", "nodelay", "--campaign-id", name]
    environment = {**os.environ, "STAGING_STATE_FOLDER": str(folder / "none")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    found = sorted(folder.glob(f"campaigns/{name}/runs/*/nodelay__*/cell-summary.json"))
    if not found or not all(json.loads(path.read_text())["metrics"]["p95"] for path in found):
        sys.exit(f"the campaign {name} measured nothing:\n{done.stdout[-3000:]}")
    return found


def told(what: str, ours: float, theirs: float) -> float:
    """Prints both; how much the larger one is larger."""
    print(f"{what}: the cell's {ours:.3f} ms, the tool's own {theirs:.3f} ms", flush=True)
    return max(ours / theirs, theirs / ours)


def find(data: Any, key: str) -> list[float]:
    """That percentile of the successful requests of the measured scenario, without the warm-up."""
    metrics = data.get("metrics", data)
    names = [name for name in metrics if name.startswith("http_req_duration{") and "scenario:" in name]
    chosen = [metrics[name] for name in names if "expected_response" in name]
    return [float(value) for one in chosen if (value := one.get("values", one).get(key))]


def main(words: list[str]) -> int:
    names, table = [word for word in words if word != "--compare"], "--compare" not in words
    with tempfile.TemporaryDirectory(prefix="staging-tools-") as name:
        folder = Path(name)
        if table:
            print("| tool | floor p50, p95 | capacity | load | sd of log p95 | runs to see 5 % in p95 |")
            print("| --- | --- | --- | --- | --- | --- |")
        for tool in (names or TOOLS) if table else ():
            prepare(folder, {**(CLOSED if tool == "wrk" else OPEN), "tool": tool})
            can = ask(folder, "--tool", tool)
            noise = ask(folder, "--noise", "--version", "nodelay", "--mode", "jvm", "--cells", str(CELLS))
            p95 = next(one for one in noise["noise"] if one["metric"] == "p95")
            load = "closed, 1 user" if tool == "wrk" else "open, 300/s"
            floor = f"{can['floor_ms']['p50']:.2f}, {can['floor_ms']['p95']:.2f} ms"
            print(f"| {tool} {can['tool_version']} | {floor} | {can['capacity_rps']:.0f}/s | {load} "
                  f"| {p95['deviation']:.2f} | {p95['runs']} |", flush=True)  # fmt: skip
        checks = {"k6": compare_k6, "wrk": compare_wrk}
        worst = max((check(folder) for tool, check in checks.items() if tool in (names or TOOLS)), default=1.0)
    return 1 if worst > 1 + LIMIT else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
