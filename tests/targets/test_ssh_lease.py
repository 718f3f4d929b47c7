"""The lease of a host: between two controllers, after a holder's death, and when it is lost under a cell."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosting import LabHost
from places import HERE, TTL_S, WORK, Place, answer, ssh_spec
from workspaces import wait_for

from pytest_staging.model.errors import LeaseLost, LeaseTimeout, WorkspaceError
from pytest_staging.targets import remote_lease
from pytest_staging.targets.remote_clean import clean
from pytest_staging.targets.remote_lease import read_leases
from pytest_staging.targets.ssh import SshTarget


def make_target(place: Place, ttl_s: int = TTL_S, **changes: object) -> SshTarget:
    return SshTarget("lab", ssh_spec(*place.arguments[1:], **changes), ttl_s=ttl_s)


@contextmanager
def holder(place: Place, ttl_s: int) -> Iterator[subprocess.Popen[str]]:
    """Another controller that holds the lease, with a `sleep` under it on the host."""
    command = [sys.executable, str(HERE / "ssh_holding.py"), str(ttl_s), *place.arguments[1:]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_it_stays_while_its_holder_lives(ssh: Place, lab_host: LabHost) -> None:
    """SM-06: another controller waits for longer than a lease lasts, is told who measures, and ends nothing."""
    with holder(ssh, ttl_s=5) as first:
        message = rf"the host lab is measured by campaign first \(pid {first.pid}\) on \S+; waited 7 s"
        with pytest.raises(LeaseTimeout, match=message), make_target(ssh).lease("campaign second", 7.0):
            pytest.fail("the lease is held elsewhere")
        [lease] = read_leases(lab_host.connection(), ssh_spec(*ssh.arguments[1:]))
        assert lease.holder.startswith(f"campaign first (pid {first.pid})")
        assert 0 < lease.seconds_left <= 6
        assert lab_host.processes("sleep 300")
        assert first.stdin
        first.stdin.close()
        with make_target(ssh).lease("campaign second", 20):
            assert lab_host.processes("sleep 300") == []


def test_a_holder_that_died_here(ssh: Place, lab_host: LabHost) -> None:
    """SM-06: nobody waits for a process of this machine that is known to be dead; its leftovers are ended."""
    with holder(ssh, ttl_s=600) as first:
        first.kill()
        first.wait()
        assert lab_host.processes("sleep 300"), "the test proves something only while it lives"
        with make_target(ssh).lease("campaign second", 0.1):
            assert lab_host.processes("sleep 300") == []


def test_a_dead_holder(ssh: Place, lab_host: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """SM-06: a lease runs out on the host, not before, and what its holder left running there is ended first."""
    monkeypatch.setattr(remote_lease, "_here", lambda: "another-machine")
    with holder(ssh, ttl_s=4) as first:
        # Renewed a moment ago, so that there is something to wait for.
        wait_for(lambda: seconds_left(ssh, lab_host) >= 4)
        first.kill()
        first.wait()
        left_s, asked = seconds_left(ssh, lab_host), time.monotonic()
        assert lab_host.processes("sleep 300"), "the test proves something only while it lives"
        with make_target(ssh).lease("campaign second", 20):
            # Both clocks are read in whole seconds.
            assert time.monotonic() - asked > left_s - 1
            assert lab_host.processes("sleep 300") == []


def seconds_left(place: Place, host: LabHost) -> int:
    """Of the lease that is held there; 0 when there is none."""
    with host.connection() as connection:
        return sum(one.seconds_left for one in read_leases(connection, ssh_spec(*place.arguments[1:])))


def test_one_of_many_gets_it(ssh: Place) -> None:
    """Two that ask at the same moment never both have it."""
    inside: list[str] = []
    crowds: list[int] = []

    def work(name: str) -> None:
        target = make_target(ssh)
        for _ in range(3):
            with target.lease(name, 30):
                inside.append(name)
                crowds.append(len(inside))
                inside.remove(name)

    threads = [threading.Thread(target=work, args=(str(one),)) for one in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowds == [1] * 9


def test_it_is_stolen(ssh: Place, lab_host: LabHost, tmp_path: Path) -> None:
    """A holder that finds another one's lease stops its cell, and leaves the other's lease and processes alone."""
    target = make_target(ssh, ttl_s=8)  # time for a cell to start, and the thief is seen within a quarter of it
    with target.lease("campaign first", 5):
        service = target.deploy(ssh.deployment(tmp_path))
        wait_for(lambda: answer(service.base_url))
        lab_host.sh(f"sed -i '1s/.*/thief/;5s/.*/a thief/' {WORK}/lease/held")
        with pytest.raises(LeaseLost, match="it is held by a thief"):
            wait_for(lambda: service.poll() is not None)
        with pytest.raises(LeaseLost):
            target.deploy(ssh.deployment(tmp_path))
        assert service.stop(5.0) == "ended"
        lab_host.sh(f"STAGING_LEASE={WORK}/lease setsid sleep 77 >/dev/null 2>&1 &")
    assert lab_host.processes("sleep 77"), "it is the thief's now"
    assert "a thief" in lab_host.sh(f"cat {WORK}/lease/held")
    lab_host.sh(f"sed -i '3s/.*/0/' {WORK}/lease/held")  # its time is over
    with make_target(ssh).lease("next", 20):
        assert lab_host.processes("sleep 77") == []


def test_it_cannot_be_renewed(ssh: Place, lab_host: LabHost) -> None:
    """Whoever could not renew it for as long as it lasts does not have it any more."""
    target = make_target(ssh, ttl_s=2)
    with target.lease("first", 5):
        held = target._held
        assert held
        lab_host.sh(f"mv {WORK}/lease {WORK}/away")
        wait_for(held.lost_reason)
        assert held.lost_reason() == "it could not be renewed for 2 s"
        lab_host.sh(f"mv {WORK}/away {WORK}/lease")


@pytest.mark.parametrize("content", ["", "garbage", "a\\nb\\nc\\nd\\ne", "t\\n{boot}\\n99999999999\\n"])
def test_a_damaged_lease(ssh: Place, lab_host: LabHost, content: str) -> None:
    """What a full disk or another boot left behind holds nobody up; a whole one does."""
    make_target(ssh).host.prepare()
    boot = lab_host.sh("cat /proc/sys/kernel/random/boot_id")
    lab_host.sh(f"printf '{content.format(boot=boot)}' >{WORK}/lease/held")
    if boot in content.format(boot=boot):
        with pytest.raises(LeaseTimeout), make_target(ssh).lease("next", 0.1):
            pytest.fail("held")
        lab_host.sh(f"rm {WORK}/lease/held")
    with make_target(ssh).lease("next", 0.1):
        pass


def test_a_folder_that_is_not_ours(ssh: Place, lab_host: LabHost) -> None:
    """Nothing is made in a folder that somebody else filled, nor removed there, nor behind a link."""
    lab_host.sh("mkdir -p /srv/theirs && touch /srv/theirs/file && ln -sfn /srv/theirs /srv/link")
    for folder, why in (("/srv/theirs", "holds what pytest-staging did not make"), ("/srv/link", "is a link")):
        target = make_target(ssh, work_directory=folder)
        with pytest.raises(WorkspaceError, match=rf"{why}.*work_directory"):
            target.require_ready()
        with pytest.raises(WorkspaceError, match="was not made by pytest-staging"):
            clean(lab_host.connection(), target.host.spec)
    assert lab_host.sh("ls -A /srv/theirs") == "file"


def test_private_and_ready(ssh: Place, lab_host: LabHost) -> None:
    """Nobody else on the host may put files where ours are run from."""
    lab_host.sh("mkdir -p /srv/own && chmod 777 /srv/own")
    target = make_target(ssh, work_directory="/srv/own")
    target.require_ready()
    assert lab_host.sh("stat -c %a /srv/own") == "700"
    assert make_target(ssh, work_directory="own/place").host.prepare() == "/root/own/place"


def test_clean(ssh: Place, lab_host: LabHost, tmp_path: Path) -> None:
    """Everything of ours goes, also a second slot's; not while somebody measures there."""
    spec = ssh_spec(*ssh.arguments[1:], work_directory="/srv/cleaned")
    connection = lab_host.connection()
    assert clean(connection, spec) == []
    second = make_target(ssh, work_directory="/srv/cleaned/slot-2")
    second.require_ready()
    first = make_target(ssh, work_directory="/srv/cleaned")
    with second.lease("campaign second", 5):
        assert [(one.slot, one.holder[:15]) for one in read_leases(connection, spec)] == [(2, "campaign second")]
        with pytest.raises(LeaseTimeout, match="is measured by campaign second"):
            clean(connection, spec)
    service = first.deploy(ssh.deployment(tmp_path))
    wait_for(lambda: answer(service.base_url))
    would = clean(connection, spec, dry_run=True)
    assert lab_host.processes("probe.py")
    assert would[0] == "1 processes of /srv/cleaned/lease"
    assert would[1].startswith("/srv/cleaned: 1 version, ")
    assert clean(connection, spec) == would
    assert lab_host.processes("probe.py") == []
    assert lab_host.sh("ls /srv") == lab_host.sh("ls /srv | grep -v cleaned")
    service.stop(0.0)
    assert clean(connection, spec) == []
