"""The project's speed limits, each a ratio against a named peer, or a limit, within one run. Prints a table.

usage: perf/limits.py [NAME ...]     exit 1 when a limit is broken
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_staging.model.record import CampaignRecord

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull]
MEASURING = ("start", "warm_up", "load")
HEAVY = ("yaml", "paramiko", "tabulate", "pydantic", "rich")


@dataclass(frozen=True)
class Result:
    """One figure and its limit; below or equal is good, and with `at_least` above or equal."""

    what: str
    figure: float
    limit: float
    unit: str
    detail: str = ""
    at_least: bool = False

    @property
    def good(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


def ordinary_run() -> Iterator[Result]:
    """An ordinary pytest run with the plugin against `-p no:staging`: CPU seconds of the whole process, in pairs."""
    with workspace() as folder:
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        command = [*PYTEST, "-q", "test_one.py"]
        ratios = []
        for number in range(41):
            pair = (command, [*command, "-p", "no:staging"])
            first, second = pair if number % 2 else reversed(pair)
            seconds = {len(one): cpu_seconds(one, folder) for one in (first, second)}
            if number:  # the first pair warms the disk's cache
                ratios.append(seconds[len(command)] / seconds[len(command) + 2])
        figure = statistics.median(ratios)
        yield Result("ordinary pytest run, with plugin / without", figure, 1.02, "x", "40 pairs, CPU")
        code = (
            "import sys, pytest\n"
            "class Probe:\n"
            "    def pytest_unconfigure(self):\n"
            "        print('MODULES', *sorted(m for m in sys.modules))\n"
            f"pytest.main(['-q', '-p', 'no:cacheprovider', '-c', {os.devnull!r}, 'test_one.py'], plugins=[Probe()])\n"
        )
        printed = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        modules = next(line for line in printed.stdout.splitlines() if line.startswith("MODULES")).split()
        ours = [name for name in modules if name.split(".")[0] == "pytest_staging"]
        yield Result("modules of ours imported by it", len(ours), 4, "", " ".join(ours))
        code = "import sys, pytest_staging.plugin; print(*sys.modules)"
        alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        heavy = [name for name in HEAVY if name in alone]
        yield Result("heavy modules imported by the plugin", len(heavy), 0, "", " ".join(heavy))


def orchestration() -> Iterator[Result]:
    """Wall time from one cell's start to the next's, less service start, warm-up and load. Real sample service."""
    yield from orchestrated("local", 100)


def orchestrated(target: str, limit_ms: float) -> Iterator[Result]:
    """The median over the cells of a campaign on that target."""
    with sample_workspace(warm_up_s=0.3, duration_s=0.5) as folder:
        run = [*PYTEST, "-q", "--rootdir", str(folder), "--staging-campaign", "--staging-root", str(folder)]
        run += ["--runs", "5", "--campaign-id", "perf", "--candidate", "nodelay", "--staging-target", target]
        subprocess.run(run, cwd=folder, check=False, capture_output=True, timeout=600)
        cells = [json.loads(path.read_text()) for path in folder.glob("campaigns/perf/runs/*/*/cell-summary.json")]
        cells = sorted((cell for cell in cells if cell["outcome"] == "passed"), key=lambda cell: cell["started_at"])
        overheads = [
            (instant(following) - instant(cell) - sum(cell["phases"][name] for name in MEASURING)) * 1000
            for cell, following in itertools.pairwise(cells)
            if cell["run_index"] > 1  # the first run builds
        ]
        figure = statistics.median(overheads)
        yield Result(f"orchestration per cell, {target}", figure, limit_ms, "ms", f"{len(overheads)} cells")


def containers() -> Iterator[Result]:
    """As orchestration, with each cell in a container of a real engine."""
    yield from orchestrated("docker", 400)


def images() -> Iterator[Result]:
    """A cache hit against a no-change build by the docker client: the sample service, and a snapshot of 5,000 files.

    Each against the builder that built it. BuildKit keeps what it was sent, so with many files it is far quicker than
    the classic builder, and the limit is not for it.
    """
    for files, what in ((0, "the sample"), (5000, "5,000 files")):
        for builder in ("classic", "buildkit"):
            with sample_workspace() as folder:
                ratios, detail = hit_ratios(folder, files, builder)
                limit = 0.2 if files and builder == "buildkit" else 0.05
                yield Result(f"image hit / no-change {builder}, {what}", statistics.median(ratios), limit, "x", detail)


def hit_ratios(folder: Path, files: int, builder: str) -> tuple[list[float], str]:
    """Pairs of a hit and a build, in seconds; both find everything as it is."""
    from pytest_staging import store, wiring

    many = folder / "versions" / "baseline" / "snapshot" / "java" / "many"
    many.mkdir()
    for number in range(files):
        (many / f"{number}.txt").write_text(f"{number}\n" * 300)
    space = store.Workspace(folder)
    version = store.load_version(space, "baseline")
    cache = wiring.make_image_cache(space, "docker" if builder == "classic" else builder)
    context = cache.snapshot("baseline")
    build = ["build", "--quiet", "--file", str(context / "Dockerfile.jvm"), str(context)]
    command = [*docker_client(builder, build, folder), *build]
    wall_seconds(command, folder)
    cache.ensure(version, "jvm", folder / "build.log")
    pairs = []
    for _ in range(9):
        started = time.perf_counter()
        assert cache.ensure(version, "jvm", folder / "build.log").hit
        pairs.append((time.perf_counter() - started, wall_seconds(command, folder)))
    hit, took = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    return [ours / theirs for ours, theirs in pairs], f"{hit:.1f} ms, {took:.0f} ms"


def docker_client(builder: str, build: list[str], folder: Path) -> list[str]:
    """The first docker client that can build that way: newer ones need buildx for BuildKit."""
    os.environ["DOCKER_BUILDKIT"] = "0" if builder == "classic" else "1"
    for path in os.get_exec_path():
        client = os.path.join(path, "docker")
        if not os.access(client, os.X_OK):
            continue
        if subprocess.run([client, *build], cwd=folder, capture_output=True, check=False).returncode == 0:
            if builder == "buildkit":
                os.environ["PATH"] = path + os.pathsep + os.environ["PATH"]  # for our own builds too
            return [client]
    sys.exit(f"no docker client here builds with {builder}")


def fingerprint() -> Iterator[Result]:
    """A second fingerprint of 5,000 files against the first."""
    from fingerprints import fingerprints

    yield from fingerprints()


def collect() -> Iterator[Result]:
    """Collecting 10,000 cells against pytest collecting 10,000 parametrized no-ops."""
    with sample_workspace() as folder:
        ours = [*PYTEST, "-q", "--collect-only", "--staging-campaign", "--staging-root", str(folder)]
        ours += ["--runs", "2500", "--candidate", "nodelay"]
        (folder / "test_many.py").write_text(
            "import pytest\n@pytest.mark.parametrize('n', range(10_000))\ndef test_noop(n):\n    pass\n"
        )
        theirs = [*PYTEST, "-q", "--collect-only", "test_many.py"]
        ratios = [wall_seconds(ours, folder) / wall_seconds(theirs, folder) for _ in range(5)]
        yield Result("collecting 10,000 cells / 10,000 no-ops", statistics.median(ratios), 1.5, "x", "5 pairs")


def journal() -> Iterator[Result]:
    """Writing and aggregating 10,000 cells against 1,000."""
    # Three small ones on each side: a cell costs two fsyncs, and their price drifts with what the disk has to do.
    before = [write_and_aggregate(250) for _ in range(3)]
    large = write_and_aggregate(2500)
    small = statistics.mean([*before, *(write_and_aggregate(250) for _ in range(3))])
    yield Result("write and aggregate 10,000 cells / 1,000", large / small, 12, "x", f"{small:.2f} s, {large:.2f} s")


def write_and_aggregate(runs: int) -> float:
    """Seconds for four cells per run."""
    from pytest_staging import store, wiring
    from pytest_staging.campaign.comparing import build_aggregate
    from pytest_staging.campaign.planning import CampaignRequest, create_folder, load_pinned_benchmark, plan_campaign
    from pytest_staging.campaign.records import Journal
    from pytest_staging.model.campaign import CellSummary

    with sample_workspace() as folder:
        space = store.Workspace(folder)
        request = CampaignRequest(runs=runs, candidates=["nodelay"], campaign_id="perf", seed=1)
        campaign = plan_campaign(space, request, wiring.make_load_tool, wiring.make_target(space, "local"))
        home = create_folder(space, campaign)
        benchmark = load_pinned_benchmark(home, campaign)
        template = CellSummary(
            campaign_id="perf", run_index=1, version_slug="baseline", platform_mode="jvm", attempt=1, outcome="passed",
            started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z", metrics={},
        )  # fmt: skip
        recorder = Journal(home, campaign)
        started = time.perf_counter()
        for number, cell in enumerate(campaign.cells):
            metrics = dict.fromkeys(benchmark.metrics, 10.0 + (number * 7919 % 100) / 100)
            recorder.record(
                replace(template, run_index=cell.run_index, version_slug=cell.version_slug,
                        platform_mode=cell.platform_mode, metrics=metrics)
            )  # fmt: skip
        store.write_json(home / "aggregate-comparison.json", build_aggregate(campaign, benchmark, recorder.finished()))
        return time.perf_counter() - started


def contracts() -> Iterator[Result]:
    """The contract gate over all documents: CPU seconds beyond those of a pytest run with as many empty tests."""
    command = [sys.executable, "-m", "pytest", "-q", "--staging-contracts", "-k", "not run:"]
    seconds = []
    listed = subprocess.run([*command, "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    count = sum("::" in line for line in listed.splitlines())
    with workspace() as folder:
        (folder / "test_many.py").write_text(
            f"import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test_noop(n):\n    pass\n"
        )
        for _ in range(5):
            seconds.append(cpu_seconds(command, ROOT) - cpu_seconds([*PYTEST, "-q", "test_many.py"], folder))
    detail = f"{count} checks, CPU, 5 pairs"
    yield Result("contract gate over all documents, of its own", statistics.median(seconds), 2, "s", detail)


def policy() -> Iterator[Result]:
    """The throughput policy's API and its clients: perf/policy.py."""
    import policy as measured

    for measure in measured.LIMITS.values():
        yield from measure()


def ssh() -> Iterator[Result]:
    """Commands, files and output over SSH: perf/ssh.py."""
    import ssh as measured

    for measure in measured.LIMITS.values():
        yield from measure()


def hosts() -> Iterator[Result]:
    """A campaign over four hosts against the same over one: perf/hosts.py."""
    import hosts as measured

    yield from measured.speedup()


def report() -> Iterator[Result]:
    """Rendering the HTML report of 10,000 cells against that of 40: what is drawn must not grow with the cells."""
    from pytest_staging.reports.html import render_html

    few, many = made_up_record(10), made_up_record(2500)
    render_html(few)  # the drawing program starts with the first plot
    seconds = {}
    for record in (few, many):
        started = time.process_time()
        page = render_html(record)
        seconds[len(record.campaign.cells)] = time.process_time() - started
    detail = f"CPU {seconds[40]:.1f} s, {seconds[10_000]:.1f} s, {len(page.encode()) / 1e6:.1f} MB"
    yield Result("HTML report of 10,000 cells / of 40", seconds[10_000] / seconds[40], 4, "x", detail)


def made_up_record(runs: int) -> CampaignRecord:
    """A campaign of the sample with four cells per run, of made-up values, that was never on disk."""
    from pytest_staging import store, wiring
    from pytest_staging.campaign.comparing import build_aggregate
    from pytest_staging.campaign.planning import CampaignRequest, plan_campaign
    from pytest_staging.model.campaign import CellSummary
    from pytest_staging.model.record import CampaignRecord

    with sample_workspace() as folder:
        space = store.Workspace(folder)
        request = CampaignRequest(runs=runs, candidates=["nodelay"], campaign_id="perf", seed=1)
        campaign = plan_campaign(space, request, wiring.make_load_tool, wiring.make_target(space, "local"))
        benchmark = store.load_benchmark(space.benchmark_path, "benchmark.yaml")
    cells = [
        CellSummary(
            campaign_id="perf", run_index=cell.run_index, version_slug=cell.version_slug,
            platform_mode=cell.platform_mode, attempt=1, outcome="passed", started_at="2026-01-01T00:00:00Z",
            finished_at="2026-01-01T00:00:01Z", phases={"load": 1.0},
            metrics=dict.fromkeys(benchmark.metrics, 10.0 + number * 7919 % 101 / 100),
        )
        for number, cell in enumerate(campaign.cells)
    ]  # fmt: skip
    aggregate = build_aggregate(campaign, benchmark, cells)
    return CampaignRecord(
        folder=folder, campaign=campaign, benchmark=benchmark, summaries=cells, aggregate=aggregate
    )


LIMITS: dict[str, Callable[[], Iterator[Result]]] = {
    "import": ordinary_run,
    "orchestration": orchestration,
    "containers": containers,
    "images": images,
    "fingerprint": fingerprint,
    "collect": collect,
    "journal": journal,
    "contracts": contracts,
    "policy": policy,
    "ssh": ssh,
    "hosts": hosts,
    "report": report,
}


@contextmanager
def workspace() -> Iterator[Path]:
    """An empty folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="staging-perf-") as name:
        yield Path(name)


@contextmanager
def sample_workspace(**load: float) -> Iterator[Path]:
    """A copy of the sample workspace; `load` replaces values of the benchmark's load."""
    import yaml

    with workspace() as folder:
        for name in ("versions", "benchmark"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("images", ".lock"))
        path = folder / "benchmark" / "benchmark.yaml"
        data = yaml.safe_load(path.read_text())
        data["load"] |= load
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        (folder / "campaigns").mkdir()
        yield folder


def instant(cell: dict[str, str]) -> float:
    """Epoch seconds of a cell's start."""
    return datetime.fromisoformat(cell["started_at"].replace("Z", "+00:00")).timestamp()


def cpu_seconds(command: list[str], folder: Path) -> float:
    """User and system seconds of a whole process."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime


def wall_seconds(command: list[str], folder: Path) -> float:
    """Wall seconds of a command that must succeed."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    return time.perf_counter() - started


def main(names: list[str]) -> int:
    """Measures what is named, or everything."""
    unknown = [name for name in names if name not in LIMITS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}. Known: {', '.join(LIMITS)}", file=sys.stderr)
        return 2
    print(f"{'what':<48} {'figure':>10} {'limit':>8}  ")
    broken = 0
    for name in names or LIMITS:
        for one in LIMITS[name]():
            broken += not one.good
            figure, limit = f"{one.figure:.3g} {one.unit}".strip(), f"{one.limit:g} {one.unit}".strip()
            limit, verdict = f">= {limit}" if one.at_least else limit, "ok" if one.good else "BROKEN"
            print(f"{one.what:<48} {figure:>10} {limit:>8}  {verdict}  {one.detail}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
