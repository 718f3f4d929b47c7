"""Running campaigns as a user does: pytest in a process of its own, in a workspace of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from workspaces import CALM, SERVICE, make_version, make_workspace, write_benchmark

T = TypeVar("T")
DEADLINE_S = 300.0
# Variables of the pytest and the job in which this suite itself runs.
FOREIGN = ("PYTEST_", "STAGING_", "GITHUB_")
# Plugins that this suite needs and a campaign does not: they only cost start-up time here.
QUIET = ("-p", "no:locust", "-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:schemathesis")
# The page costs seconds of CPU; its own tests (test_session_page.py) draw it.
NO_PAGE = "[pytest]\nstaging_html_report = never\n"
ONE_MODE = f"{NO_PAGE}staging_required_modes = native\n"
QUICK_LOAD = Path(__file__).with_name("quick_load.py")
QUICK = {"tool": "command", "command": [sys.executable, "-I", "-S", "{script}", "{request}", "{ready}"],
         "script": QUICK_LOAD.name}


def make_small(root: Path, *, candidates: tuple[str, ...] = ("faster",), duration_s: float = 0.3,
               warm_up_s: float = 0.1, modes: tuple[str, ...] = ("native",), ini: str = ONE_MODE,
               locust: bool = False) -> Path:
    """A workspace whose campaign of one run has one cell per version.

    With `locust` the load is Locust's; then take a window that is longer than a busy machine may stand still.
    """
    root.mkdir(parents=True, exist_ok=True)
    make_workspace(root, candidates=candidates)
    load = {"shape": "closed", "users": 2, "warm_up_s": warm_up_s, "duration_s": duration_s, "generator_limits": CALM}
    path = write_benchmark(root, platform_modes=list(modes), load=load if locust else {**load, **QUICK})
    if not locust:
        shutil.copy(QUICK_LOAD, path.parent)
    (root / "pytest.ini").write_text(ini)
    return root


def make_bad(root: Path, slug: str, service: str = SERVICE, **changes: Any) -> Path:
    """A candidate of the workspace that misbehaves: its service, or keys of its modes."""
    return make_version(root, slug, "candidate", service, **changes)


def lease_of(root: Path) -> Path:
    """The folder in which campaigns of this workspace queue for the host; no other test's campaign waits for them."""
    return root.parent / f"{root.name}.lease"


def environment(root: Path, **extra: str) -> dict[str, str]:
    """This process's environment without pytest's own variables, which would change the run below."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    own = {"STAGING_LEASE_FOLDER": str(lease_of(root)), "STAGING_STATE_FOLDER": str(root / ".state")}
    return {**kept, **own, "COLUMNS": "160", **extra}


def run_pytest(root: Path, *arguments: str, env: Mapping[str, str] | None = None,
               timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    """pytest in the workspace, to its end."""
    command = [sys.executable, "-m", "pytest", *QUIET, *arguments]
    return subprocess.run(
        command, cwd=root, env=environment(root, **(env or {})), text=True, errors="replace", timeout=timeout_s,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )


def run_campaign(root: Path, *arguments: str, campaign_id: str = "c", env: Mapping[str, str] | None = None,
                 timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    """A campaign to its end; one run unless `arguments` say otherwise."""
    return run_pytest(root, *campaign_arguments(arguments, campaign_id), env=env, timeout_s=timeout_s)


@contextmanager
def started_campaign(root: Path, *arguments: str, campaign_id: str = "c",
                     log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A running campaign, in a process group of its own as a shell would start it; its output goes to `log`."""
    command = [sys.executable, "-m", "pytest", *QUIET, *campaign_arguments(arguments, campaign_id)]
    with (log or root / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command, cwd=root, env=environment(root), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_S)
            end_processes(marked_processes(root))


def campaign_arguments(arguments: Iterable[str], campaign_id: str) -> list[str]:
    """Options of a campaign with a fixed order, of one run unless `arguments` say otherwise."""
    given = list(arguments)
    runs = [] if any(one.split("=")[0] == "--runs" for one in given) else ["--runs=1"]
    return ["--staging-campaign", f"--campaign-id={campaign_id}", "--staging-seed=7", *runs, *given]


def await_that(condition: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Polls until `condition` gives something true; fails naming `what` after the deadline."""
    until = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.003)
    return found


def await_phase(root: Path, process: subprocess.Popen[str], slug: str, phase: str, campaign_id: str = "c") -> None:
    """Waits until a cell of version `slug` is in `phase`."""
    path = root / "campaigns" / campaign_id / ".phase"

    def reached() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the campaign ended before {phase}: {(root / 'output.txt').read_text()}")
        words = path.read_text().split() if path.exists() else []
        return len(words) >= 3 and words[0].endswith(f"-{slug}") and words[1] == phase

    await_that(reached, f"{slug} in phase {phase}")


def marked_processes(root: Path) -> list[int]:
    """Living processes that campaigns of this workspace started as services, load tools or builds."""
    wanted = f"STAGING_LEASE={lease_of(root) / 'local.lease'}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                environ = Path("/proc", entry, "environ").read_bytes().split(b"\0")
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if wanted in environ and state not in "ZX":
                found.append(int(entry))
    return found


def end_processes(pids: Iterable[int]) -> None:
    """Kills what a test left running, so that one failure stays one."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def folder_of(root: Path, campaign_id: str = "c") -> Path:
    """The campaign's folder."""
    return root / "campaigns" / campaign_id


def read_campaign(root: Path, campaign_id: str = "c") -> dict[str, Any]:
    """campaign.json."""
    return dict(json.loads((folder_of(root, campaign_id) / "campaign.json").read_text()))


def read_aggregate(root: Path, campaign_id: str = "c") -> dict[str, Any]:
    """aggregate-comparison.json."""
    return dict(json.loads((folder_of(root, campaign_id) / "aggregate-comparison.json").read_text()))


def read_summaries(root: Path, campaign_id: str = "c") -> dict[str, dict[str, Any]]:
    """Every cell-summary.json by the cell's id, in the order in which the cells ran."""
    paths = folder_of(root, campaign_id).glob("runs/*/*/cell-summary.json")
    found = sorted((json.loads(path.read_text()) for path in paths), key=lambda one: one["started_at"])
    return {f"run{one['run_index']:03d}-{one['platform_mode']}-{one['version_slug']}": one for one in found}


def cell_ids(root: Path, campaign_id: str = "c") -> list[str]:
    """Ids of the campaign's cells in its order."""
    return [cell["id"] for cell in read_campaign(root, campaign_id)["cells"]]


def give_up(reason: str) -> NoReturn:
    """Skips a test that this machine cannot run; fails it where STAGING_REQUIRE_LAB=1 promises that it can."""
    if os.environ.get("STAGING_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def mounted_tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `folder`; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        give_up(f"no mount: {error}")
    if done.returncode:
        give_up(f"this test mounts a small file system, and may not: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=60, check=True)
