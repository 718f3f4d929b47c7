"""Campaigns over three real SSH hosts: one worker each, also while hosts go away, and what is left on them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from remote import Lab, make_key, make_remote, remove_hosts, run_lab_script, start_lab, write_inventory
from running import (
    DEADLINE_S,
    await_that,
    cell_ids,
    environment,
    folder_of,
    lease_of,
    make_small,
    read_aggregate,
    read_campaign,
    read_summaries,
    run_campaign,
    run_pytest,
    started_campaign,
)

from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import HostSpec
from pytest_staging.session.vm import StagingVm

SSH = ("--staging-target", "ssh")
AUTO = (*SSH, "-n", "auto", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Lab]]:
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made: list[str] = []

    def make(count: int) -> Lab:
        lab = start_lab(count, key, folder / str(len(made)))
        made.extend(host.container for host in lab.hosts.values())
        return lab

    yield make
    remove_hosts(made)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[int], Lab]) -> Lab:
    return make_lab(3)


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's agent nor its user's ~/.ssh has a say."""
    (tmp_path / "home").mkdir()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def intervals_by_host(root: Path) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for one in read_summaries(root).values():
        found.setdefault(one["host"]["name"], []).append((one["started_at"], one["finished_at"]))
    return {name: sorted(rows) for name, rows in found.items()}


def assert_blocks_share_hosts(root: Path) -> None:
    cells = read_campaign(root)["cells"]
    summaries = read_summaries(root)
    hosts: dict[tuple[object, ...], set[str]] = {}
    for cell in cells:
        name = f"run{cell['run_index']:03}-{cell['platform_mode']}-{cell['version_slug']}"
        hosts.setdefault((cell["run_index"], cell["platform_mode"]), set()).add(summaries[name]["host"]["name"])
    assert [sorted(found) for found in hosts.values() if len(found) > 1] == []


@pytest.fixture(scope="module")
def spread(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished campaign of six blocks over the three hosts."""
    root = make_remote(tmp_path_factory.mktemp("spread") / "w", lab)
    result = run_campaign(root, *AUTO, "--runs=6")
    assert result.returncode in (0, 1), result.stdout
    return root, result.stdout


def test_a_campaign_over_three_hosts(spread: tuple[Path, str], lab: Lab) -> None:
    """SM-06, PT-04: `-n auto` is one worker a host; the report is whole, and nothing is left running."""
    root, output = spread
    assert "3 workers" in output
    assert "staging: hosts vm-1, vm-2, vm-3" in output
    summaries = read_summaries(root)
    assert sorted(summaries) == sorted(cell_ids(root))
    assert [one["reason"] for one in summaries.values() if one["outcome"] != "passed"] == []
    assert read_aggregate(root)["complete"]
    assert lab.left() == []


def test_no_host_measures_two_things(spread: tuple[Path, str]) -> None:
    """PT-04: cells of one host never overlap, all hosts took part, and a block's cells shared one."""
    root, _ = spread
    found = intervals_by_host(root)
    assert sorted(found) == ["vm-1", "vm-2", "vm-3"]
    for rows in found.values():
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(rows))
    assert_blocks_share_hosts(root)


def test_peak_memory_is_the_hosts(spread: tuple[Path, str]) -> None:
    """SM-07: a native cell's peak memory is read on the host."""
    root, _ = spread
    peaks = [one["metrics"]["heap_peak"] for one in read_summaries(root).values()]
    assert all(2e6 < peak < 2e8 for peak in peaks)


def test_a_pass_can_be_promoted_from_hosts(spread: tuple[Path, str]) -> None:
    """SM-09: evidence of hosts is judged by what ran there, without asking them again."""
    root, _ = spread
    from pytest_staging import wiring
    from pytest_staging.campaign.evidence import gather_evidence
    from pytest_staging.store import Workspace

    workspace = Workspace(root)
    evidence = gather_evidence(workspace, "faster", "c", lambda target: wiring.images_here(workspace, target))
    assert evidence.changed == ()
    path = next(folder_of(root).glob("runs/*/*/cell-summary.json"))
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    evidence = gather_evidence(workspace, "faster", "c", lambda target: wiring.images_here(workspace, target))
    assert "changed within the campaign" in evidence.changed[0]


@pytest.mark.parametrize("fault", ["killed", "standing still", "black hole"])
def test_one_host_goes_away_half_way(make_lab: Callable[[int], Lab], tmp_path: Path, fault: str) -> None:
    """PT-04: a host that dies hands its block back; another takes it, and the verdict misses nothing."""
    lab = make_lab(3)
    root = make_remote(tmp_path / "w", lab)
    with started_campaign(root, *AUTO, "--runs=6") as process, ExitStack() as faults:
        await_that(lambda: len(list(folder_of(root).glob("runs/*/*/cell-summary.json"))) >= 3, "three cells")
        if fault == "black hole":
            faults.enter_context(lab.hosts["vm-2"].firewall("DROP"))
        elif fault == "killed":
            lab.hosts["vm-2"].docker("kill")
        else:
            lab.hosts["vm-2"].stop_sshd()
        code = process.wait(DEADLINE_S)
    output = (root / "output.txt").read_text()
    assert code in (0, 1), output
    summaries = read_summaries(root)
    assert sorted(summaries) == sorted(cell_ids(root)), output
    assert {one["outcome"] for one in summaries.values()} == {"passed"}, output
    assert read_aggregate(root)["complete"], output
    assert_blocks_share_hosts(root)
    lost = list(folder_of(root).glob("runs/*/*/attempts/*/cell-summary.json"))
    assert [json.loads(path.read_text())["host"]["name"] for path in lost] in ([], ["vm-2"], ["vm-2", "vm-2"])
    survivors = Lab({name: host for name, host in lab.hosts.items() if name != "vm-2"}, lab.key)
    assert survivors.left() == []


def test_no_host_is_left(make_lab: Callable[[int], Lab], tmp_path: Path) -> None:
    """PT-04: then the campaign ends, says so, and keeps what is finished."""
    lab = make_lab(1)
    root = make_remote(tmp_path / "w", lab)
    with started_campaign(root, *SSH, "--runs=4") as process:
        await_that(lambda: len(list(folder_of(root).glob("runs/*/*/cell-summary.json"))) >= 2, "two cells")
        lab.hosts["vm-1"].docker("kill")
        code = process.wait(DEADLINE_S)
    output = (root / "output.txt").read_text()
    assert code == 1, output
    assert "--staging-resume c" in output
    assert sum(one["outcome"] == "passed" for one in read_summaries(root).values()) >= 2
    assert not read_aggregate(root)["complete"]


def test_a_host_that_cannot_be_used_is_left_out(lab: Lab, tmp_path: Path) -> None:
    """SM-06: one that nobody can reach is named and costs nothing else; without any, there is one clear error."""
    root = make_remote(tmp_path / "w", lab)
    dead = {**lab.entry("vm-1"), "address": "127.0.1.1", "port": 9}
    write_inventory(root, {"dead": dead, "vm-1": lab.entry("vm-1")})
    result = run_campaign(root, *SSH)
    assert result.returncode in (0, 1), result.stdout
    assert "staging: left out: dead: " in result.stdout
    assert set(intervals_by_host(root)) == {"vm-1"}
    write_inventory(root, {"dead": dead})
    result = run_campaign(root, *SSH, campaign_id="d")
    assert result.returncode == 2
    assert "Traceback" not in result.stdout
    assert not folder_of(root, "d").exists()


def test_hosts_that_are_named(lab: Lab, tmp_path: Path) -> None:
    """PT-04: --staging-hosts chooses; an unknown name is refused with the nearest."""
    root = make_remote(tmp_path / "w", lab)
    result = run_campaign(root, *AUTO, "--staging-hosts", "vm-3,vm-1", "--staging-smoke")
    assert "2 workers" in result.stdout, result.stdout
    assert set(intervals_by_host(root)) <= {"vm-1", "vm-3"}
    assert read_campaign(root)["hosts"] == "vm-3,vm-1", "a report asks for the same again"
    result = run_campaign(root, *SSH, "--staging-hosts", "vm-33", campaign_id="d")
    assert result.returncode == 2
    assert "Did you mean 'vm-3'?" in result.stdout


def test_a_blank_name_of_hosts_is_not_every_host(tmp_path: Path) -> None:
    """PT-04: `--staging-hosts "$HOSTS"` with an unset variable is refused; blanks beside names do no harm."""
    root = make_small(tmp_path / "w")
    write_inventory(root, {name: {"address": "127.0.0.1", "port": 1} for name in ("vm-1", "vm-2", "vm-3")})
    for names in ("", " , "):
        result = run_campaign(root, *SSH, "--staging-hosts", names, "--collect-only")
        assert (result.returncode, "--staging-hosts names no host" in result.stdout) == (2, True), result.stdout
    result = run_campaign(root, *SSH, "--staging-hosts", "vm-1, vm-2,", "--collect-only")
    assert "no host slot can be used, of 2" in result.stdout, "nobody is behind these addresses"
    (root / "test_vm.py").write_text("def test_vm(staging_vm):\n    pass\n")
    assert "--staging-vm: there is no host ''" in run_pytest(root, "test_vm.py", "--staging-vm", "").stdout


def test_one_generator_slot_means_one_load_at_a_time(lab: Lab, tmp_path: Path) -> None:
    """PT-04: no generator measures two things at once, unless the inventory says that it can."""
    root = make_remote(tmp_path / "w", lab, generator_slots=1)
    result = run_campaign(root, *AUTO, "--runs=3")
    assert result.returncode in (0, 1), result.stdout
    rows = sorted(row for rows in intervals_by_host(root).values() for row in rows)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(rows))


def test_a_forced_rebuild_on_hosts(lab: Lab, tmp_path: Path) -> None:
    """SM-05, PT-04: each host builds anew, under its lease; prune leaves to `hosts clean` what lies there."""
    root = make_remote(tmp_path / "w", lab)
    given = (*AUTO, "--staging-hosts", "vm-1,vm-2", "--force-rebuild-images")
    result = run_campaign(root, *SSH, "--staging-hosts", "vm-1,vm-2", "--staging-build-dry-run")
    assert result.returncode == 0, result.stdout
    assert "\nfaster native on vm-2: miss (never built), to be built\n" in result.stdout
    result = run_campaign(root, *given)
    assert result.returncode in (0, 1), result.stdout
    assert read_aggregate(root)["complete"]
    logs = sorted(path.name for path in (folder_of(root) / "builds").iterdir())
    slugs, hosts = ("baseline", "faster"), ("vm-1", "vm-2")
    assert logs == sorted(f"{slug}__native@{host}.log" for slug in slugs for host in hosts)
    path = root / "versions" / "faster" / "version.yaml"
    path.write_text(path.read_text().replace("status: candidate", "status: rejected"))
    command = [sys.executable, "-m", "pytest_staging", "images", "prune"]
    done = subprocess.run(command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "staging-manager hosts clean vm-1 removes it" in done.stdout


def test_the_fixture_for_ordinary_tests(lab: Lab, tmp_path: Path) -> None:
    """PT-02: `staging_vm` runs, copies, syncs and forwards on a host of the inventory."""
    root = make_remote(tmp_path / "w", lab)
    (root / "data").mkdir()
    (root / "data" / "a.txt").write_text("hello")
    (root / "test_vm.py").write_text(
        "def test_vm(staging_vm, tmp_path):\n"
        "    assert staging_vm.run(['echo', 'a b']).require('echo').stdout == b'a b\\n'\n"
        "    place = f'{staging_vm.work_directory}-vm'\n"
        "    staging_vm.sync(__import__('pathlib').Path('data'), place)\n"
        "    staging_vm.put('data', f'{place}-put')\n"
        "    assert staging_vm.sync('data', __import__('pathlib').Path(f'{place}-put')).sent == 0\n"
        "    staging_vm.get(__import__('pathlib').Path(f'{place}-put'), str(tmp_path / 'folder'))\n"
        "    assert (tmp_path / 'folder' / 'a.txt').read_text() == 'hello'\n"
        "    staging_vm.get(f'{place}/a.txt', tmp_path / 'b.txt')\n"
        "    assert (tmp_path / 'b.txt').read_text() == 'hello'\n"
        "    import socket\n"
        "    with staging_vm.forward(22) as tunnel:\n"
        "        assert socket.create_connection(('127.0.0.1', tunnel.port), 5).recv(4) == b'SSH-'\n"
    )
    result = run_pytest(root, "test_vm.py", "--staging-vm", "vm-2")
    assert result.returncode == 0, result.stdout
    assert lease_of(root).exists() is False
    assert environment(root)["STAGING_LEASE_FOLDER"]


def test_the_fixture_refuses_what_it_would_misread() -> None:
    """PT-02: a command line for `run` and a number that is no port for `forward` are errors before any connection."""
    vm = StagingVm("lab", HostSpec(address="127.0.0.1", port=1))
    for argv in ("echo hi", b"echo", ["sleep", 5]):
        with pytest.raises(UsageProblem, match=r"staging_vm.run takes .* list of texts: run\(\['ls', '/tmp'\]\)"):
            vm.run(argv)  # type: ignore[arg-type]
    for port in (0, -1, 65536, 99999999, "80", True):
        with pytest.raises(UsageProblem, match="is no port of a host: give a number from 1 to 65535"):
            vm.forward(port)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [(), ("-n", "auto")], ids=["serial", "workers"])
def test_ctrl_c_leaves_nothing_on_the_hosts(lab: Lab, tmp_path: Path, workers: tuple[str, ...]) -> None:
    """PT-04: an interrupted campaign ends its services there, gives the leases back, and can go on."""
    root = make_remote(tmp_path / "w", lab)
    with started_campaign(root, *SSH, *workers, "--runs=3") as process:
        await_that(lambda: list(folder_of(root).glob("runs/*/*/cell-summary.json")), "one cell")
        await_that(lab.left, "a service on a host")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE_S) == 2, (root / "output.txt").read_text()
    assert lab.left() == []
    result = run_campaign(root, *AUTO, "--staging-resume=c", "--runs=3")
    assert result.returncode in (0, 1), result.stdout
    assert read_aggregate(root)["complete"]


def test_a_killed_worker_leaves_nothing_on_its_host(lab: Lab, tmp_path: Path) -> None:
    """PT-04: SIGKILL of a worker costs its cell; its host is not waited for, and its service is ended."""
    root = make_remote(tmp_path / "w", lab)
    with started_campaign(root, *AUTO, "--runs=3") as process:
        await_that(lab.left, "a service on a host")
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
        assert process.wait(DEADLINE_S) == 1, (root / "output.txt").read_text()
    assert lab.left() == []
    outcomes = [one["outcome"] for one in read_summaries(root).values()]
    assert sorted(outcomes) == ["failed", *["passed"] * 5]


def children_of(controller: int) -> list[int]:
    """The workers: pytest's own child processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == controller:
                found.append(int(stat.parent.name))
    return found
