"""A/A: the baseline against a copy of itself, again and again. Every regression it reports is a false one.

usage: perf/aa.py [TRIES] [RUNS]     exit 1 when any try reports a regression
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"warm_up_s": 0.5, "duration_s": 1.0}


def prepare(folder: Path) -> None:
    """The sample workspace with a `twin` of the baseline and short runs."""
    shutil.copytree(ROOT / "benchmark", folder / "benchmark")
    for slug, status in (("baseline", "baseline"), ("twin", "candidate")):
        shutil.copytree(ROOT / "versions" / "baseline" / "snapshot", folder / "versions" / slug / "snapshot")
        fields = {"slug": slug, "kind": "generic-service", "status": status, "parent": None}
        fields |= {"created_at": "2026-01-01T00:00:00Z"}
        (folder / "versions" / slug / "version.yaml").write_text(yaml.safe_dump(fields))
    path = folder / "benchmark" / "benchmark.yaml"
    data = yaml.safe_load(path.read_text())
    data["load"] |= SHORT
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def main(tries: int, runs: int) -> int:
    """Prints one line per try."""
    regressions = 0
    with tempfile.TemporaryDirectory(prefix="staging-aa-") as name:
        folder = Path(name)
        prepare(folder)
        for number in range(1, tries + 1):
            started = time.monotonic()
            command = [sys.executable, "-m", "pytest", "-q", "--rootdir", name, "--staging-campaign"]
            command += [f"--staging-root={name}", f"--runs={runs}", f"--campaign-id=try{number}"]
            subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=3600)
            result = json.loads((folder / "campaigns" / f"try{number}" / "aggregate-comparison.json").read_text())
            worst = min((row["p_holm"] for row in result["rows"] if row["p_holm"] is not None), default=1.0)
            regressions += result["verdict"] == "regression"
            print(
                f"try {number:2}: {result['verdict']:<12} smallest corrected p {worst:.3f}, "
                f"{result['cells_passed']}/{result['cells_planned']} cells, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    print(f"{regressions} regressions in {tries} tries of N = {runs}")
    return 1 if regressions else 0


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(numbers + [10, 10][len(numbers) :])))
