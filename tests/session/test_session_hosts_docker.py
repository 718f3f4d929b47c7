"""The sample's campaign in containers on two SSH hosts that have an engine of their own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote import Lab, make_key, remove_hosts, run_lab_script, start_host, write_inventory
from running import NO_PAGE, read_aggregate, read_summaries, run_campaign
from test_session_docker import shorten_load

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "lab"), str(ROOT / "tests" / "targets")]

from dockering import Engine, start_engine  # noqa: E402
from engine_hosts import ENGINE_HOST_IMAGE, ENGINE_HOST_OPTIONS, EngineHost  # noqa: E402


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Lab]]:
    """This machine's engine, which builds, and two hosts whose engines run."""
    engine = start_engine()
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("engines")
    key = make_key(folder / "key")
    lab = Lab({name: start_host(key, folder / name, (), ENGINE_HOST_OPTIONS, image=ENGINE_HOST_IMAGE)
               for name in ("vm-1", "vm-2")}, key)  # fmt: skip
    for host in lab.hosts.values():
        EngineHost(host).wait_until_ready()
    yield engine, lab
    remove_hosts([host.container for host in lab.hosts.values()])


def test_containers_on_two_hosts(hosts: tuple[Engine, Lab], tmp_path: Path) -> None:
    """SM-07, PT-04: one image for all hosts, shipped once to each; limits hold there, and nothing is left."""
    engine, lab = hosts
    root = tmp_path / "workspace"
    for name in ("versions", "benchmark"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("images", ".lock"))
    (root / "pytest.ini").write_text(NO_PAGE)
    shorten_load(root)
    write_inventory(root, {name: lab.entry(name) for name in lab.hosts})
    given = ("--staging-target", "ssh-docker", "--candidate", "nodelay", "-n", "auto", "--runs=2")
    result = run_campaign(root, *given, env=engine.environment)
    assert result.returncode in (0, 1), result.stdout
    summaries = read_summaries(root)
    assert [one["reason"] for one in summaries.values() if one["outcome"] != "passed"] == []
    assert read_aggregate(root)["complete"]
    assert {one["host"]["name"] for one in summaries.values()} == {"vm-1", "vm-2"}
    ids = {(one["version_slug"], one["platform_mode"]): set() for one in summaries.values()}
    for one in summaries.values():
        ids[one["version_slug"], one["platform_mode"]].add(one["artifact"]["id"])
    assert all(len(found) == 1 for found in ids.values()), "every host ran the same image"
    wanted = {image for found in ids.values() for image in found}
    for host in lab.hosts.values():
        assert EngineHost(host).containers() == []
        assert set(EngineHost(host).image_ids()) & wanted, "it was shipped"
