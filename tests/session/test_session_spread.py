"""Load that comes from other hosts: real campaigns whose generators are lab hosts of their own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from remote import NOTICE_S, PYTHON, Lab, call, make_key, remove_hosts, run_lab_script, start_host
from running import (
    DEADLINE_S,
    await_that,
    folder_of,
    give_up,
    make_small,
    read_aggregate,
    read_summaries,
    run_campaign,
    run_pytest,
    started_campaign,
)
from workspaces import CALM, write_benchmark

from pytest_staging import store, wiring
from pytest_staging.cli import main

SSH = ("--staging-target", "ssh", "-p", "no:cacheprovider")
LIBRARIES = "/opt/lib"
K6 = Path(sys.executable).parent / "k6"
AHEAD_S = 600
SHIFT = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {{
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(id, at);
  if (id == CLOCK_REALTIME) at->tv_sec += {AHEAD_S};
  return status;
}}
int gettimeofday(struct timeval *at, void *zone) {{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}}
"""
NAMES = ("vm-1", "gen-1", "gen-2")


@pytest.fixture(scope="module")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made: list[str] = []

    def make(*names: str, mounts: Callable[[], list[str]] = list) -> Lab:
        with ThreadPoolExecutor() as pool:
            place = folder / str(len(made))
            options = {name: mounts() if name.startswith("gen") else [] for name in names}
            starts = {name: pool.submit(start_host, key, place / name, options=options[name]) for name in names}
        hosts = {name: start.result() for name, start in starts.items()}
        made.extend(host.container for host in hosts.values())
        return Lab(hosts, key)

    yield make
    remove_hosts(made)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(*NAMES, mounts=python_mounts)


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's agent nor its user's ~/.ssh has a say."""
    (tmp_path / "home").mkdir()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def python_mounts() -> list[str]:
    """So that a lab host has the Python of these tests, with Locust, at the same path."""
    folders = {path: path for path in (sys.prefix, sys.base_prefix) if path != "/usr"}
    mounts = {**folders, f"/usr/lib/{platform.machine()}-linux-gnu": LIBRARIES}
    return [word for source, target in mounts.items() for word in ("-v", f"{source}:{target}:ro")]


def k6_mount() -> list[str]:
    """So that a lab host has this machine's k6, which then need not be sent."""
    return ["-v", f"{K6}:/usr/bin/k6:ro"]


def give_python(lab: Lab, name: str, *settings: str) -> str:
    """An interpreter there that has Locust."""
    libraries = f"{sys.base_prefix}/lib:{LIBRARIES}"
    script = f'#!/bin/sh\nexec env LD_LIBRARY_PATH={libraries} {" ".join(settings)} {sys.executable} "$@"\n'
    lab.hosts[name].sh("cat >/usr/bin/load-python && chmod 755 /usr/bin/load-python", script.encode())
    return "/usr/bin/load-python"


def give_program(lab: Lab, name: str, program: str) -> None:
    """This machine's, which finds its libraries there."""
    path = shutil.which(program)
    if path is None:
        give_up(f"{program} is not installed")
    lab.hosts[name].sh(f"cat >/opt/{program} && chmod 755 /opt/{program}", Path(path).read_bytes())
    script = f'#!/bin/sh\nexec env LD_LIBRARY_PATH={LIBRARIES} /opt/{program} "$@"\n'
    lab.hosts[name].sh(f"cat >/usr/bin/{program} && chmod 755 /usr/bin/{program}", script.encode())


def shift_clock(lab: Lab, name: str, folder: Path) -> str:
    """What gives a program there another clock; all containers share that of this machine."""
    if not shutil.which("cc"):
        give_up("no C compiler")
    (folder / "shift.c").write_text(SHIFT)
    call("cc", "-shared", "-fPIC", "-o", folder / "shift.so", folder / "shift.c")
    lab.hosts[name].sh("cat >/usr/lib/shift.so", (folder / "shift.so").read_bytes())
    return "LD_PRELOAD=/usr/lib/shift.so"


def generator_entry(lab: Lab, name: str, **changes: object) -> dict[str, object]:
    """A lab host as generator: the others reach it in the engine's network."""
    entry = lab.entry(name)
    return {"peer_address": entry.pop("service_address"), **entry, **changes}


def make_spread(root: Path, lab: Lab, load: dict[str, Any], generators: tuple[str, ...] = ("gen-1", "gen-2"),
                **changes: object) -> Path:
    """A workspace whose one host is loaded by generators."""
    make_small(root)
    given = {"shape": "closed", "users": 4, "warm_up_s": 0.5, "duration_s": 1.0, "generator_limits": CALM, **load}
    write_benchmark(root, platform_modes=["native"], load=given)
    for path in root.glob("versions/*/snapshot/service.yaml"):
        data = json.loads(path.read_text())
        for mode in data["modes"].values():
            mode["start"] = PYTHON
        path.write_text(json.dumps(data))
    entries = {name: generator_entry(lab, name, **changes) for name in generators}
    inventory = {"hosts": {"vm-1": {**lab.entry("vm-1"), "generator": list(generators)}}, "generators": entries}
    (root / "targets.yaml").write_text(yaml.safe_dump(inventory, sort_keys=False))
    return root


def left(lab: Lab) -> list[str]:
    """What of ours still runs on hosts and generators."""
    words = ("service.py", "driver.py", "k6-", "locust")
    return [line for host in lab.hosts.values() for word in words for line in host.processes(word)]


def loads(root: Path) -> list[Path]:
    """One for each cell whose load is on, or was."""
    return list(folder_of(root).glob("runs/*/*/load-ready"))


def require_k6() -> None:
    if not K6.exists():
        give_up("k6 is not installed")


def run_until_paced(root: Path, *arguments: str) -> str:
    """A campaign whose machine let the generators keep their pace; cells that fell behind are invalid, and repeated."""
    result = run_campaign(root, *SSH, "--runs=1", *arguments)
    for _ in range(3):
        behind = [one["reason"] for one in read_summaries(root).values() if one["outcome"] == "invalid"]
        if not behind or not all(one.startswith("the load generator sent") for one in behind):
            break
        given = ("--staging-campaign", "--staging-resume", "c", "--staging-retry-failed", *arguments)
        result = run_pytest(root, *given)
    assert result.returncode in (0, 1), result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def with_k6(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign whose open load two k6 sent from two hosts."""
    require_k6()
    load = {"tool": "k6", "shape": "open", "rate": 60, "users": 6, "warm_up_s": 1.0, "duration_s": 2.0}
    root = make_spread(tmp_path_factory.mktemp("k6") / "w", lab, load)
    shown = run_until_paced(root, "-n", "auto")
    assert "staging: load from gen-1, gen-2" in shown
    reasons = [one["reason"] for one in read_summaries(root).values() if one["outcome"] != "passed"]
    assert reasons == [], shown
    return root


def test_two_k6_on_two_hosts(with_k6: Path, lab: Lab) -> None:
    """XP-06: one load by execution segments from two hosts; together they keep the rate, and all is measured raw."""
    assert read_aggregate(with_k6)["complete"]
    for one in read_summaries(with_k6).values():
        tool = one["load_tool"]
        assert [generator["name"] for generator in tool["generators"]] == ["gen-1", "gen-2"]
        assert tool["processes"] == 2
        assert tool["pace"]["achieved_rps"] == pytest.approx(60, rel=0.05)
        assert tool["requests"] == pytest.approx(120, abs=4)
        for generator in tool["generators"]:
            assert generator["version"] == tool["version"]
            assert abs(generator["clock_offset_s"]) <= generator["clock_uncertainty_s"] + 0.001 < 1
            assert 0 < generator["cpus"] <= generator["cpus_usable"] == generator["cpu_count"]
    assert left(lab) == []


def test_locust_on_two_hosts(lab: Lab, tmp_path: Path) -> None:
    """XP-06: Locust's own master on one host and workers on two: one schedule, each request recorded once.

    The clock of one is ten minutes off, which is found and allowed for.
    """
    load = {"tool": "locust", "shape": "open", "rate": 40, "users": 4, "warm_up_s": 0.5, "duration_s": 2.0}
    give_python(lab, "gen-1")
    python = give_python(lab, "gen-2", shift_clock(lab, "gen-2", tmp_path))
    root = make_spread(tmp_path / "w", lab, load, python=python)
    run_until_paced(root)
    for one in read_summaries(root).values():
        assert one["outcome"] == "passed", f"{one['reason']}\n{one['log_tail']}"
        assert one["load_tool"]["processes"] == 2
        assert one["load_tool"]["pace"]["achieved_rps"] == pytest.approx(40, rel=0.05)
        assert one["load_tool"]["pace"]["dropped"] == 0
        for generator, ahead_s in zip(one["load_tool"]["generators"], (0, AHEAD_S), strict=True):
            assert abs(generator["clock_offset_s"] - ahead_s) <= generator["clock_uncertainty_s"] + 0.001 < 1
    cell = next(folder_of(root).glob("runs/*/*/cell-summary.json")).parent
    due_s = []
    for number, ahead_s in ((1, 0), (2, AHEAD_S)):
        rows = [line.split(",") for line in (cell / f"requests-{number}.csv").read_text().splitlines()[1:]]
        assert len(rows) > 40
        due_s += [float(row[0]) - ahead_s for row in rows]
    places = [(instant - min(due_s)) * 40 for instant in due_s]
    assert max(abs(place - round(place)) for place in places) < 0.4, "all keep to one schedule"
    assert len({round(place) for place in places}) == len(places), "no request of it is sent twice"
    assert left(lab) == []


def manage(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["--root", str(root), *words])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_hosts_commands_know_generators(with_k6: Path, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-06, XP-06: generators are checked, shown and cleaned like hosts; a campaign that is over holds none."""
    _, output = manage(with_k6, capsys, "hosts", "check", "--json")
    assert [(one["host"], one["reachable"]) for one in json.loads(output)] == [(name, True) for name in NAMES]
    code, output = manage(with_k6, capsys, "hosts", "leases", "--json")
    assert code == 0
    assert [(one["host"], one["leases"]) for one in json.loads(output)] == [(name, []) for name in NAMES]
    text = (with_k6 / "targets.yaml").read_text()
    (with_k6 / "targets.yaml").write_text(text.replace("work_directory: /srv/staging", "work_directory: /srv/other"))
    try:
        assert "nothing to remove" in manage(with_k6, capsys, "hosts", "clean", "gen-1")[1]
    finally:
        (with_k6 / "targets.yaml").write_text(text)
    assert lab.hosts["gen-1"].sh("ls /srv/staging/load/work/cell") == "", "results are fetched, and go"
    code, output = manage(with_k6, capsys, "hosts", "clean", "gen-1")
    assert code == 0
    assert "gen-1: removed /srv/staging" in output


def test_a_generator_is_calibrated(
    with_k6: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XP-06: floor and capacity of the tool on a generator, found again by that generator alone."""
    monkeypatch.setenv("STAGING_STATE_FOLDER", str(tmp_path / "state"))
    given = ("calibrate", "--tool", "k6", "--duration", "1", "--generator")
    code, output = manage(with_k6, capsys, *given, "gen-2")
    assert code == 0, output
    (path,) = (tmp_path / "state").iterdir()
    assert path.name == "calibration-k6@gen-2.json"
    found = json.loads(path.read_text())
    assert found["generator"] == "gen-2"
    assert found["machine"].startswith("gen-2 (127.0.1.")
    assert found["capacity_rps"] > 100
    inventory = store.load_inventory(store.Workspace(with_k6))
    tool = {"name": "k6", "version": found["tool_version"]}
    for names, known in ((["gen-2"], True), (["gen-1"], False), (["gen-1", "gen-2"], False)):
        there = wiring.make_generators(names, inventory.generators, wiring.make_load_tool("k6"))
        assert (wiring.calibration_there(there, tool, 1) is not None) is known
        there.close()
    code, output = manage(with_k6, capsys, *given, "gen-22")
    assert code == 2
    assert "Did you mean 'gen-2'?" in output
    code, output = manage(with_k6, capsys, "calibrate", "--noise", "--generator", "gen-2")
    assert code == 2
    assert "leave --generator out" in output


def test_a_tool_that_is_not_there(lab: Lab, tmp_path: Path) -> None:
    """XP-06: every generator that lacks the tool is named before the campaign begins, with what to install."""
    root = make_spread(tmp_path / "w", lab, {"tool": "locust"})
    result = run_campaign(root, *SSH)
    assert result.returncode == 2
    for name in ("gen-1", "gen-2"):
        assert f"generator {name}: python3 there has no locust" in result.stdout
    assert "python -m pip install locust" in result.stdout
    assert not folder_of(root).exists()


def test_a_tool_of_the_generator(lab: Lab, tmp_path: Path) -> None:
    """XP-06: what one process sends runs on one generator, by the program that is there."""
    give_program(lab, "gen-2", "wrk")
    load = {"tool": "wrk", "users": 2, "warm_up_s": 0.3, "duration_s": 0.8}
    root = make_spread(tmp_path / "w", lab, load, ("gen-2",))
    result = run_campaign(root, *SSH, "--runs=1")
    assert result.returncode in (0, 1), result.stdout
    for one in read_summaries(root).values():
        assert one["outcome"] == "passed", f"{one['reason']}\n{one['log_tail']}"
        assert [generator["name"] for generator in one["load_tool"]["generators"]] == ["gen-2"]
        assert one["load_tool"]["requests"] > 10
    assert left(lab) == []


def test_a_load_tool_dies_and_ctrl_c(
    with_k6: Path, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """XP-06: a tool that is killed on one generator fails the cell by that name, and ends the others.

    An interrupted campaign ends the load on all generators and gives them back.
    """
    root = make_spread(tmp_path / "w", lab, {"tool": "k6", "duration_s": 60.0})
    with started_campaign(root, *SSH, "--runs=1") as process:
        await_that(lambda: loads(root), "a load")
        lab.hosts["gen-2"].sh("kill -s KILL $(pidof k6)")
        began = time.monotonic()
        await_that(lambda: read_summaries(root), "the end of the cell")
        assert time.monotonic() - began < NOTICE_S
        (failed,) = read_summaries(root).values()
        assert failed["outcome"] == "failed"
        assert "generator gen-2: the load tool ended with status 137" in failed["reason"]
        await_that(lambda: len(loads(root)) > 1, "the next load")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE_S) == 2, (root / "output.txt").read_text()
    assert left(lab) == []
    _, output = manage(root, capsys, "hosts", "leases", "--json")
    assert [one["leases"] for one in json.loads(output)] == [[], [], []]


def lost_attempts(root: Path) -> list[dict[str, Any]]:
    paths = folder_of(root).glob("runs/*/*/attempts/*/cell-summary.json")
    return [json.loads(path.read_text()) for path in paths]


def test_a_generator_is_killed_half_way(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """XP-06, PT-04: the version is not at fault: its block goes to a host that another generator loads."""
    require_k6()
    lab = make_lab("vm-1", "vm-2", "gen-1", "gen-2", mounts=k6_mount)
    load = {"tool": "k6", "users": 2, "warm_up_s": 1.0, "duration_s": 2.0}
    root = make_spread(tmp_path / "w", lab, load)
    inventory = yaml.safe_load((root / "targets.yaml").read_text())
    inventory["hosts"] = {f"vm-{one}": {**lab.entry(f"vm-{one}"), "generator": f"gen-{one}"} for one in (1, 2)}
    (root / "targets.yaml").write_text(yaml.safe_dump(inventory))
    with started_campaign(root, *SSH, "--runs=1") as process:
        await_that(lambda: loads(root), "a load")
        lab.hosts["gen-1"].docker("kill")
        code = process.wait(DEADLINE_S)
    output = (root / "output.txt").read_text()
    assert code in (0, 1), output
    summaries = read_summaries(root).values()
    assert {(one["outcome"], one["host"]["name"]) for one in summaries} == {("passed", "vm-2")}, output
    (lost,) = lost_attempts(root)
    assert lost["host_lost"]
    assert lost["host"]["name"] == "vm-1"
    assert "generator gen-1: " in lost["reason"]
    survivors = {name: host for name, host in lab.hosts.items() if name != "gen-1"}
    assert left(Lab(survivors, lab.key)) == []


def test_a_generator_stops_answering(make_lab: Callable[..., Lab], tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    """XP-06: it is noticed within 15 s and named; the others are ended, and what is finished can go on."""
    require_k6()
    lab = make_lab(*NAMES, mounts=k6_mount)
    root = make_spread(tmp_path / "w", lab, {"tool": "k6", "warm_up_s": 1.0, "duration_s": 60.0})
    with started_campaign(root, *SSH, "--runs=1") as process:
        await_that(lambda: loads(root), "a load")
        _, output = manage(root, capsys, "hosts", "leases", "--json")
        held = {one["host"]: [lease["holder"] for lease in one["leases"]] for one in json.loads(output)}
        assert all(len(holders) == 1 and "campaign c " in holders[0] for holders in held.values()), held
        lab.hosts["gen-2"].stop_sshd()
        began = time.monotonic()
        await_that(lambda: not lab.hosts["gen-1"].processes("k6-config"), "the end of the other's load")
        assert time.monotonic() - began < NOTICE_S
        code = process.wait(DEADLINE_S)
    output = (root / "output.txt").read_text()
    assert code == 1, output
    assert "generator gen-2: " in output
    assert "--staging-resume c" in output
    (lost,) = lost_attempts(root)
    assert lost["host_lost"]
    survivors = {name: host for name, host in lab.hosts.items() if name != "gen-2"}
    assert left(Lab(survivors, lab.key)) == []
