"""Load that comes from other hosts: real campaigns whose generators are lab hosts of their own."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from remote import PYTHON, WORK, Lab, call, make_key, remove_hosts, run_lab_script, start_host
from running import (
    DEADLINE_S,
    await_that,
    environment,
    folder_of,
    give_up,
    make_small,
    read_aggregate,
    read_summaries,
    run_campaign,
    started_campaign,
)
from workspaces import CALM, write_benchmark

SSH = ("--staging-target", "ssh", "-p", "no:cacheprovider")
LIBRARIES = "/opt/lib"
NAMES = ("vm-1", "gen-1", "gen-2")


@pytest.fixture(scope="module")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made: list[str] = []

    def make(*names: str) -> Lab:
        hosts = {
            name: start_host(key, folder / str(len(made)) / name, options=python_mounts() if "gen" in name else ())
            for name in names
        }
        made.extend(host.container for host in hosts.values())
        return Lab(hosts, key)

    yield make
    remove_hosts(made)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(*NAMES)


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


def give_python(lab: Lab, name: str) -> str:
    """An interpreter there that has Locust."""
    libraries = f"{sys.base_prefix}/lib:{LIBRARIES}"
    script = f'#!/bin/sh\nexec env LD_LIBRARY_PATH={libraries} {sys.executable} "$@"\n'
    lab.hosts[name].sh("cat >/usr/bin/load-python && chmod 755 /usr/bin/load-python", script.encode())
    return "/usr/bin/load-python"


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


def require_k6() -> None:
    if not (Path(sys.executable).parent / "k6").exists():
        give_up("k6 is not installed")


@pytest.fixture(scope="module")
def with_k6(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign whose open load two k6 sent from two hosts."""
    require_k6()
    load = {"tool": "k6", "shape": "open", "rate": 60, "users": 6, "warm_up_s": 1.0, "duration_s": 2.0}
    root = make_spread(tmp_path_factory.mktemp("k6") / "w", lab, load)
    result = run_campaign(root, *SSH, "--runs=1")
    assert result.returncode in (0, 1), result.stdout
    assert "staging: load from gen-1, gen-2" in result.stdout
    reasons = [one["reason"] for one in read_summaries(root).values() if one["outcome"] != "passed"]
    assert reasons == [], result.stdout
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
            assert abs(generator["clock_offset_s"]) < 0.05
            assert 0 < generator["clock_uncertainty_s"] < 0.05
            assert generator["cpus"] > 0
    assert left(lab) == []


def test_locust_on_two_hosts(lab: Lab, tmp_path: Path) -> None:
    """XP-06: Locust's own master on one host and workers on two: one schedule, each request recorded once."""
    load = {"tool": "locust", "shape": "open", "rate": 40, "users": 4, "warm_up_s": 0.5, "duration_s": 2.0}
    for name in ("gen-1", "gen-2"):
        python = give_python(lab, name)
    root = make_spread(tmp_path / "w", lab, load, python=python)
    result = run_campaign(root, *SSH, "--runs=1")
    assert result.returncode in (0, 1), result.stdout
    for one in read_summaries(root).values():
        assert one["outcome"] == "passed", one["reason"] + one["log_tail"]
        assert one["load_tool"]["processes"] == 2
        assert one["load_tool"]["pace"]["achieved_rps"] == pytest.approx(40, rel=0.05)
        assert one["load_tool"]["pace"]["dropped"] == 0
    cell = next(folder_of(root).glob("runs/*/*/cell-summary.json")).parent
    due_s = []
    for number in (1, 2):
        rows = [line.split(",") for line in (cell / f"requests-{number}.csv").read_text().splitlines()[1:]]
        assert len(rows) > 40
        due_s += [float(row[0]) for row in rows]
    slots = sorted(round((instant - min(due_s)) * 40) for instant in due_s)
    assert len(set(slots)) == len(slots), "no request of the schedule is sent twice"
    assert left(lab) == []
