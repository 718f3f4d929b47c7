"""Four hosts against one: how much sooner a campaign ends whose load is light. Real SSH hosts of the lab.

usage: perf/hosts.py     exit 1 when the limit is broken
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import limits
from limits import ROOT, Result

sys.path[:0] = [str(ROOT / "tests" / name) for name in ("session", "ssh", ".")]

from hosting import make_key, remove_hosts  # noqa: E402
from remote import Lab, make_remote, start_lab, write_inventory  # noqa: E402
from running import run_campaign  # noqa: E402
from workspaces import CALM, write_benchmark  # noqa: E402

HOSTS, RUNS, LOAD_S, LIMIT = 4, 8, 12.0, 3.5
LIGHT = {"shape": "open", "rate": 20, "users": 2, "warm_up_s": 1.0, "duration_s": LOAD_S, "generator_limits": CALM}


def measure(folder: Path, lab: Lab, count: int) -> float:
    """Wall seconds of the campaign over the first `count` hosts, each with everything built already."""
    root = make_remote(folder / f"hosts-{count}", lab)
    write_benchmark(root, duration_s=LOAD_S, platform_modes=["native"], load=LIGHT)
    names = list(lab.hosts)[:count]
    write_inventory(root, {name: lab.entry(name) for name in names}, generator_slots=count)
    given = ("--staging-target", "ssh", "-n", "auto", f"--runs={RUNS}")
    for campaign, more in (("warm", ("--staging-smoke",)), ("measured", ())):
        began = time.monotonic()
        result = run_campaign(root, *given, *more, campaign_id=campaign, timeout_s=900)
        if result.returncode not in (0, 1) or " failed" in result.stdout:
            sys.exit(result.stdout)
    return time.monotonic() - began


def speedup() -> Iterator[Result]:
    """Both campaigns, one after the other."""
    for script in ("start-engine.sh", "hosts.sh"):
        subprocess.run([ROOT / "scripts/lab" / script], check=True, stdout=subprocess.DEVNULL, timeout=900)
    os.environ.pop("SSH_AUTH_SOCK", None)
    with tempfile.TemporaryDirectory(prefix="staging-perf-") as name:
        folder = Path(name)
        lab = start_lab(HOSTS, make_key(folder / "key"), folder)
        try:
            one, four = measure(folder, lab, 1), measure(folder, lab, HOSTS)
        finally:
            remove_hosts([host.container for host in lab.hosts.values()])
    what, detail = f"campaign of {2 * RUNS} cells, {HOSTS} hosts / 1, speed", f"{one:.0f} s, {four:.0f} s"
    yield Result(what, one / four, LIMIT, "x", detail, at_least=True)


if __name__ == "__main__":
    limits.LIMITS = {"hosts": speedup}
    sys.exit(limits.main(sys.argv[1:]))
