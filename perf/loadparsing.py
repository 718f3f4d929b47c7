"""What parsing k6's raw points costs, against Python's own json reading of the same file line by line.

usage: perf/loadparsing.py [POINTS]     exit 1 when a limit is broken
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pytest_staging.loadtools.k6_points import read_points

POINTS = 1_000_000
ROUNDS = 5
RATIO_LIMIT = 1.5
MEMORY_LIMIT_MIB = 32.0
"""Eight bytes for each latency, and what an array keeps in reserve; no line outlives its reading."""
METRICS = ("http_req_blocked", "http_req_connecting", "http_req_tls_handshaking", "http_req_sending",
           "http_req_waiting", "http_req_receiving", "http_req_failed", "http_reqs", "data_sent",
           "data_received", "iteration_duration", "iterations")  # fmt: skip


SUCCEEDED = (
    '{"expected_response":"true","group":"","method":"POST","name":"echo","proto":"HTTP/1.1",'
    '"scenario":"measured","status":"200","url":"http://127.0.0.1:18080/invoke/echo"}'
)
FAILED = SUCCEEDED.replace('"expected_response":"true"', '"error_code":"1404","expected_response":"false"')


def main(points: int) -> int:
    """Three files: only requests, which k6 never writes; only failed ones; and all metrics, as k6 writes them."""
    broken = False
    for what, metrics, tags in (
        ("requests only", (), SUCCEEDED),
        ("failed requests only", (), FAILED),
        ("all 13 metrics", METRICS, SUCCEEDED),
    ):
        with tempfile.TemporaryDirectory(prefix="staging-perf-") as name:
            path = Path(name) / "k6-points.json"
            requests = write_points(path, points, metrics, tags)
            ratio, own_s = compare(path, requests)
            memory_mib = measure_memory(path)
        broken |= ratio > RATIO_LIMIT or memory_mib > MEMORY_LIMIT_MIB
        print(f"{points:,} points, {what}: {ratio:.2f} x json (limit {RATIO_LIMIT} x), {own_s:.2f} s")
        print(f"{points:,} points, {what}: peak {memory_mib:.1f} MiB (limit {MEMORY_LIMIT_MIB:.0f} MiB)")
    return int(broken)


def compare(path: Path, requests: int) -> tuple[float, float]:
    """The median ratio of paired rounds, which forgives a disturbance of one, and our median seconds."""
    ratios, seconds = [], []
    for number in range(ROUNDS + 1):
        json_s, _ = timed(lambda: read_json(path))
        own_s, found = timed(lambda: read_points(path, 0.0, 1e12))
        assert found.requests == requests, found.requests
        if number:  # the first round warms the disk's cache
            ratios.append(own_s / json_s)
            seconds.append(own_s)
    return statistics.median(ratios), statistics.median(seconds)


def measure_memory(path: Path) -> float:
    """MiB at the worst moment, of Python's own allocations, in a program of its own."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; import loadparsing; loadparsing.print_memory({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=600
    )
    return float(done.stdout)


def print_memory(path: str) -> None:
    tracemalloc.start()
    read_points(Path(path), 0.0, 1e12)
    print(tracemalloc.get_traced_memory()[1] / 2**20)


def read_json(path: Path) -> None:
    """The measure: each line decoded and forgotten."""
    with path.open("rb") as file:
        for line in file:
            json.loads(line)


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def write_points(path: Path, points: int, others: tuple[str, ...], tags: str) -> int:
    """A file in the shape that k6 1.1 writes; returns how many requests are in it."""
    requests = 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(points):
            turn = number % (len(others) + 1)
            metric = others[turn - 1] if turn else "http_req_duration"
            requests += not turn
            ms = number // 10
            clock = f"{12 + ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
            at = f"2026-01-31T{clock}123456Z"
            value = 1.0 if metric == "iterations" else 0.2 + number % 9973 / 1000
            file.write(
                f'{{"metric":"{metric}","type":"Point","data":{{"time":"{at}","value":{value:g},"tags":{tags}}}}}\n'
            )
    return requests


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else POINTS))
