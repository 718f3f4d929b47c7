"""VMs for a campaign: launched, reached over SSH, deleted. Only the VM manager is a fake."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from vm_lab import HERE, KEPT, Vms
from workspaces import wait_for

from pytest_staging.lifecycle import multipass, multipass_program
from pytest_staging.lifecycle.obtaining import find_host, obtained
from pytest_staging.model.errors import (
    HostKeyRefused,
    LoginRefused,
    StorageError,
    ToolMissing,
    UsageProblem,
    VmFailed,
)
from pytest_staging.model.inventory import HostKeys, HostSpec, Lifecycle, VmSpec
from pytest_staging.ssh.hosts import connection_to

EXTERNAL = HostSpec(address="10.0.0.1")


def whoami(name: str, host: HostSpec) -> str:
    with connection_to(name, host) as connection:
        return connection.run(["id", "-un"], deadline_s=10).require("asking").stdout.decode().strip()


@contextmanager
def controller(vms: Vms) -> Iterator[subprocess.Popen[str]]:
    """Another program that obtains vm-1."""
    command = [sys.executable, str(HERE / "obtaining_vm.py"), str(vms.key)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_launched_together_and_deleted(vms: Vms) -> None:
    """SM-06: VMs are launched at once as the inventory says, reached over SSH only, and gone at the end."""
    hosts = {
        "vm-2": vms.spec(vm=VmSpec(image="24.04", cpus=4, memory_gb=3, disk_gb=12)),
        "given": EXTERNAL,
        "vm-1": vms.spec(traffic="direct"),
    }
    for vm in ("staging-vm-1", "staging-vm-2"):
        vms.wish(vm, "meets")
    said: list[str] = []
    with obtained(hosts, said.append) as found:
        assert list(found) == list(hosts)
        assert found["given"] is EXTERNAL
        assert [whoami(name, found[name]) for name in ("vm-1", "vm-2")] == ["ubuntu", "ubuntu"]
        assert [found[f"vm-{number}"].address for number in (1, 2)] == [one.address for one in vms.lab]
        assert {(one.lifecycle, one.host_keys) for one in found.values()} == {(Lifecycle.EXTERNAL, HostKeys.REJECT)}
        assert vms.existing() == vms.records() == ["staging-vm-1", "staging-vm-2"]
        assert find_host("vm-1", hosts["vm-1"]) == found["vm-1"]
    assert (vms.existing(), vms.records()) == ([], [])
    assert find_host("vm-1", hosts["vm-1"]) is None
    options = "--cpus 4 --memory 3G --disk 12G --timeout 600 --cloud-init - 24.04"
    assert f"launch --name staging-vm-2 {options}" in vms.calls("launch")
    assert {call.split()[0] for call in vms.calls()} == {"info", "launch", "delete"}
    assert "launching the VM staging-vm-2 (24.04, 4 CPUs, 3 GB of memory, 12 GB of disk)" in said


def test_what_the_vm_is_told(vms: Vms) -> None:
    """The user's key and a host key of our making; its private half stays nowhere here."""
    with obtained({"vm-1": vms.spec()}) as found:
        data = yaml.safe_load((vms.folder / "cloud-init.staging-vm-1").read_text())
        assert data["ssh_authorized_keys"] == [Path(f"{vms.key}.pub").read_text().strip()]
        known = Path(str(found["vm-1"].known_hosts)).read_text()
        assert known == f"{vms.lab[0].address} {data['ssh_keys']['ecdsa_public'].removesuffix(' pytest-staging')}\n"
        private = data["ssh_keys"]["ecdsa_private"].splitlines()[1]
        kept = [path.read_text(errors="replace") for path in vms.home.rglob("*") if path.is_file()]
        assert kept
        assert not any(private in text for text in kept)


def test_kept_then_not(vms: Vms) -> None:
    """A VM that is kept is found again, also after its restart; one that we made goes when it is not to be kept."""
    for _ in range(2):
        with obtained({"vm-1": vms.spec(vm=KEPT)}) as found:
            assert whoami("vm-1", found["vm-1"]) == "ubuntu"
        assert vms.existing() == ["staging-vm-1"]
        vms.make("staging-vm-1", state="Stopped")
        assert find_host("vm-1", vms.spec()) is None
    with obtained({"vm-1": vms.spec()}):
        assert len(vms.calls("launch")) == 1
        assert len(vms.calls("start")) == 2
    assert (vms.existing(), vms.records()) == ([], [])


def test_somebody_elses_vm(vms: Vms) -> None:
    """One of that name that we did not make is used as the inventory says, and never deleted."""
    vms.make("staging-vm-1")
    host = vms.lab[0]
    key = next(one for one in host.sh("cat /etc/ssh/ssh_host_*_key.pub").splitlines())
    host.known_hosts.write_text(f"{host.address} {key}\n")
    with obtained({"vm-1": vms.spec(user="root", known_hosts=str(host.known_hosts))}) as found:
        assert whoami("vm-1", found["vm-1"]) == "root"
    with pytest.raises(HostKeyRefused, match="is not known"), obtained({"vm-1": vms.spec(user="root")}):
        pytest.fail("its key is in no known_hosts file")
    assert vms.existing() == ["staging-vm-1"]
    assert {call.split()[0] for call in vms.calls()} == {"info"}


def test_a_stranger_under_our_vms_name(vms: Vms) -> None:
    """Our record alone deletes nothing: a VM that shows another host key than ours is left alone."""
    with obtained({"vm-1": vms.spec(vm=KEPT)}):
        pass
    host = vms.lab[0]
    host.sh("rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key; kill $(pidof sshd)")
    wait_for(lambda: "sshd -D" in str(host.processes("sshd")))
    with pytest.raises(HostKeyRefused, match="has changed"), obtained({"vm-1": vms.spec()}):
        pytest.fail("it is not ours")
    assert vms.existing() == ["staging-vm-1"]
    assert vms.calls("delete") == []


def test_two_controllers(vms: Vms) -> None:
    """SM-06: the VM that one made serves the other too, and only the last one deletes it."""
    with controller(vms) as first:
        assert first.stdout
        assert first.stdin
        assert first.stdout.readline() == "obtained\n"
        with obtained({"vm-1": vms.spec()}) as found:
            first.stdin.close()
            assert first.wait(120) == 0
            assert whoami("vm-1", found["vm-1"]) == "ubuntu"
            assert vms.existing() == ["staging-vm-1"]
    assert (vms.existing(), len(vms.calls("launch"))) == ([], 1)


def test_two_at_the_same_moment(vms: Vms) -> None:
    """SM-06: of two that find no VM one launches it, and the other waits for that."""
    both = threading.Barrier(2, timeout=120)

    def measure() -> str:
        both.wait()
        with obtained({"vm-1": vms.spec()}) as found:
            both.wait()
            return whoami("vm-1", found["vm-1"])

    with ThreadPoolExecutor(2) as pool:
        assert [one.result() for one in [pool.submit(measure), pool.submit(measure)]] == ["ubuntu", "ubuntu"]
    assert (vms.existing(), len(vms.calls("launch")), len(vms.calls("delete"))) == ([], 1, 1)


def test_interrupted(vms: Vms) -> None:
    """SM-06: Ctrl-C in a launch leaves no VM, also none that the daemon makes after its client is gone."""
    vms.wish("staging-vm-1", "hangs")
    with controller(vms) as process:
        wait_for((vms.folder / "hanging").exists)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: vms.calls("info")[1:])
        (vms.folder / "late").touch()
        assert process.wait(120) == 130
    assert not (vms.folder / "later").exists(), "the daemon was late, or this test proves nothing"
    assert (vms.existing(), vms.records()) == ([], [])


def test_killed_in_a_launch(vms: Vms) -> None:
    """SM-06: what a killed controller left half made is known to be ours; the next one makes it anew."""
    wish = vms.wish("staging-vm-1", "hangs")
    with controller(vms) as process:
        wait_for((vms.folder / "hanging").exists)
        process.kill()
        process.wait()
    (vms.folder / "late").touch()
    wait_for(lambda: vms.existing())
    wish.unlink()
    said: list[str] = []
    with obtained({"vm-1": vms.spec()}, said.append) as found:
        assert whoami("vm-1", found["vm-1"]) == "ubuntu"
    assert said[0] == "removing the VM staging-vm-1, which an earlier campaign left half made"
    assert vms.existing() == []


def test_one_launch_fails(vms: Vms) -> None:
    """The error ends with what multipass said; the other host's VM and what there was of this one are gone."""
    vms.wish("staging-vm-2", "fails")
    message = r"could not launch the VM staging-vm-2 \(lts\). It said: (.*\n)*launch failed: Remote"
    with pytest.raises(VmFailed, match=message), obtained({"vm-1": vms.spec(), "vm-2": vms.spec()}):
        pytest.fail("there is no vm-2")
    assert (vms.existing(), vms.records()) == ([], [])


def test_it_never_answers(vms: Vms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for SSH has a deadline, the last problem is told, and the VM goes."""
    monkeypatch.setattr(multipass, "SSH_DEADLINE_S", 1.0)
    vms.wish("staging-vm-1", "unreachable")
    message = r"staging-vm-1 did not answer SSH within 1 s. vm-1 \(ubuntu@.*key"
    with pytest.raises(VmFailed, match=message), obtained({"vm-1": vms.spec()}):
        pytest.fail("nobody answers")
    assert vms.existing() == []


def test_a_launch_has_a_deadline(vms: Vms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A multipass that says nothing for ever is ended."""
    monkeypatch.setattr(multipass_program, "LAUNCH_DEADLINE_S", -29.0)
    vms.wish("staging-vm-1", "hangs")
    with pytest.raises(VmFailed, match="was not done after 1 s"), obtained({"vm-1": vms.spec()}):
        pytest.fail("it hangs")
    (vms.folder / "late").touch()
    assert vms.existing() == []


def test_it_cannot_be_deleted(vms: Vms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is left with a VM is told how to delete it; an error of the campaign's own stays the one that is raised."""
    monkeypatch.setattr(multipass_program, "DELETE_DEADLINE_S", 0.5)
    wish = vms.wish("staging-vm-1", "stays")
    message = 'multipass delete --purge staging-vm-1. It said: delete failed: instance "staging-vm-1" is busy'
    with pytest.raises(VmFailed, match=message), obtained({"vm-1": vms.spec()}):
        pass
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), obtained({"vm-1": vms.spec()}, said.append):
        raise KeyboardInterrupt
    assert message in said[-1]
    wish.unlink()
    with obtained({"vm-1": vms.spec()}):
        assert len(vms.calls("launch")) == 1
    assert vms.existing() == []


def test_multipass_is_missing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install, and the way without it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"vm-1: multipass is missing.*sudo snap install multipass.*give the host"):
        obtained({"vm-1": HostSpec(lifecycle=Lifecycle.MULTIPASS)}).__enter__()
    with obtained({"given": EXTERNAL}) as found:
        assert found == {"given": EXTERNAL}
    assert list(home.iterdir()) == []


def test_multipass_does_not_answer(vms: Vms) -> None:
    """Nothing is launched by one whose word about the VM is not known."""
    vms.wish("staging-vm-1", "daemon-down")
    with pytest.raises(VmFailed, match=r"Does its daemon run. It said: .*cannot connect to the multipass socket"):
        obtained({"vm-1": vms.spec()}).__enter__()
    assert vms.calls("launch") == []


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        (
            "vm-1",
            {"key": "{home}/none"},
            LoginRefused,
            "There is no .*/none.pub: ssh-keygen -y -f .*/none >.*/none.pub",
        ),
        ("vm-1", {"key": None}, LoginRefused, "Name a key for it in targets.yaml, or with E2E_SSH_KEY"),
        ("vm-1", {"user": "tester"}, UsageProblem, "lets in ubuntu, not tester"),
        ("vm_1", {}, UsageProblem, "name it with letters, digits and dashes"),
    ],
)
def test_nothing_is_launched(
    vms: Vms, name: str, changes: dict[str, str | None], error: type[Exception], message: str
) -> None:
    """What cannot end well is said before anything is made."""
    given = {field: value and value.format(home=vms.home) for field, value in changes.items()}
    with pytest.raises(error, match=message):
        obtained({name: vms.spec(**given)}).__enter__()
    assert (vms.calls("launch"), vms.records()) == ([], [])


def test_in_the_trash(vms: Vms) -> None:
    """A deleted VM of somebody else's blocks the name, and multipass's own message does not say so."""
    vms.make("staging-vm-1", state="DELETED")
    with pytest.raises(VmFailed, match="multipass recover staging-vm-1, or multipass purge"):
        obtained({"vm-1": vms.spec()}).__enter__()
    assert vms.existing() == ["staging-vm-1"]


def test_a_damaged_record(vms: Vms) -> None:
    """Whose VM it is, is not guessed."""
    with obtained({"vm-1": vms.spec(vm=KEPT)}):
        pass
    (record,) = vms.home.glob(".local/state/pytest-staging/vms/*/made.json")
    record.write_text("{")
    with pytest.raises(StorageError, match=r"made.json cannot be read. Is the VM staging-vm-1 one of ours"):
        obtained({"vm-1": vms.spec()}).__enter__()
    assert vms.existing() == ["staging-vm-1"]


def test_no_thread_is_left(vms: Vms) -> None:
    """Workers that are forked or started afterwards find none."""
    before = threading.active_count()
    with obtained({"vm-1": vms.spec()}):
        wait_for(lambda: threading.active_count() == before)
