"""The throughput policy's limits: status reads at a fixed rate, overrides that reach workers, the cost of a check.

usage: perf/policy.py [NAME ...]     exit 1 when a limit is broken
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import limits
from limits import ROOT, Result

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "throughput")]
from serving import Served, fake_broker, quick_policy, served  # noqa: E402

from pytest_staging.throughput.admission import Admission, Limits  # noqa: E402

RATE, SECONDS, CONNECTIONS = 1000, 10, 20
WORKERS, OVERRIDES = 20, 5
SCRIPT = """
import http from 'k6/http';
import { check } from 'k6';
export const options = {
  discardResponseBodies: true,
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
  scenarios: { reads: { executor: 'constant-arrival-rate', rate: %(rate)d, timeUnit: '1s', duration: '%(seconds)ds',
                        preAllocatedVUs: %(connections)d, maxVUs: %(connections)d } },
};
export default function () { check(http.get('%(url)s'), { ok: (one) => one.status === 200 }); }
"""


def reads() -> Iterator[Result]:
    """Status reads at an open rate by k6 on this machine's CPUs, while telemetry is polled ten times a second."""
    with serving() as api:
        summary = k6(f"{api.url}/workflows/throughput-policy/status")
    metrics = summary["metrics"]
    made, latency = metrics["http_reqs"], metrics["http_req_duration"]
    failed = metrics["http_req_failed"]["passes"] + metrics.get("dropped_iterations", {}).get("count", 0)
    detail = f"{made['rate']:.0f}/s, median {latency['med']:.2f} ms, max {latency['max']:.0f} ms"
    yield Result(f"p99 of status reads at {RATE}/s", latency["p(99)"], 50, "ms", detail)
    yield Result("reads failed or not sent in time, share", failed / (RATE * SECONDS), 0.001, "", f"{failed} of them")


def overrides() -> Iterator[Result]:
    """From the PUT of an override until the last of many workers' clients has it; the worst of several."""
    seconds = []
    with serving() as api:
        clients = [Admission(api.url) for _ in range(WORKERS)]
        try:
            await_limit(clients, 6)
            for _ in range(OVERRIDES):
                began_s = time.monotonic()
                api.call("PUT", "override", {"preset": "conservative", "ttl_seconds": 600})
                await_limit(clients, 2)
                seconds.append(time.monotonic() - began_s)
                api.call("DELETE", "override")
                await_limit(clients, 6)
        finally:
            for client in clients:
                client.close()
    yield Result(f"an override at {WORKERS} workers", max(seconds), 1, "s", f"worst of {OVERRIDES}")


def checks() -> Iterator[Result]:
    """One cached admission check, in a tight loop; the median of many loops."""
    with serving() as api:
        client = Limits(api.url)
        if not client.ask():
            raise RuntimeError(client.problem)
        costs = []
        for _ in range(50):
            began = time.perf_counter()
            for _ in range(10_000):
                client.admits("heavy", 3)
            costs.append((time.perf_counter() - began) / 10_000 * 1e6)
    yield Result("admission check, cached", statistics.median(costs), 5, "us", "50 loops of 10,000")


@contextmanager
def serving() -> Iterator[Served]:
    """The real program with a broker that answers at once."""
    with tempfile.TemporaryDirectory(prefix="staging-perf-") as name, fake_broker() as broker:
        policy = quick_policy(broker.url, telemetry={"url": broker.url, "interval_s": 0.1, "max_age_s": 10})
        with served(Path(name), policy) as api:
            deadline = time.monotonic() + 20
            while api.status()["fail_safe"]:
                if time.monotonic() > deadline:
                    raise RuntimeError("the policy stays in its fail-safe")
                time.sleep(0.05)
            yield api


def k6(url: str) -> dict[str, dict[str, dict[str, float]]]:
    """Runs it and returns its summary."""
    found = Path(sys.executable).with_name("k6")
    program = str(found) if found.exists() else shutil.which("k6")
    if not program:
        raise RuntimeError("k6 is not installed; it is one of the extras test")
    with tempfile.TemporaryDirectory(prefix="staging-perf-") as name:
        script, summary = Path(name) / "script.js", Path(name) / "summary.json"
        settings = {"rate": RATE, "seconds": SECONDS, "connections": CONNECTIONS, "url": url}
        script.write_text(SCRIPT % settings)
        command = [program, "run", "--quiet", "--no-usage-report", f"--summary-export={summary}", str(script)]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS + 60)
        return dict(json.loads(summary.read_text()))


def await_limit(clients: list[Admission], wanted: int) -> None:
    """Until every client says so."""
    deadline = time.monotonic() + 20
    while any(client.limit("heavy") != wanted for client in clients):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not every worker heard of {wanted} jobs within 20 s")
        time.sleep(0.002)


LIMITS = {"policy-reads": reads, "policy-overrides": overrides, "policy-checks": checks}

if __name__ == "__main__":
    limits.LIMITS = LIMITS
    sys.exit(limits.main(sys.argv[1:]))
