"""`staging-manager hosts` for a host that is a VM, which need not be there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vm_lab import Vms

from pytest_staging.cli import main
from pytest_staging.lifecycle.obtaining import obtained
from pytest_staging.ssh import checkup
from pytest_staging.targets.ssh import SshTarget


@pytest.fixture
def root(vms: Vms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A workspace with vm-1; this machine may be as busy as it likes."""
    monkeypatch.setattr(checkup, "BUSY_PER_CPU", 1000.0)
    hosts = {"vm-1": {"lifecycle": "multipass", "key": str(vms.key), "work_directory": "/home/ubuntu/staging"}}
    (tmp_path / "targets.yaml").write_text(json.dumps({"hosts": hosts}))
    return str(tmp_path)


def test_not_launched(vms: Vms, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-06: a VM that a campaign will launch is no problem yet, and no command launches it."""
    assert main(["--root", root, "hosts", "check"]) == 0
    assert "vm-1    not launched" in capsys.readouterr().out
    assert main(["--root", root, "hosts", "leases"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["vm-1", "nobody"]
    assert main(["--root", root, "hosts", "clean"]) == 0
    assert capsys.readouterr().out == "vm-1: nothing to remove\n"
    assert {call.split()[0] for call in vms.calls()} == {"info"}
    assert not list(vms.home.iterdir())


def test_launched(vms: Vms, root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-06: one that is there is looked at over SSH, under the key that it was given."""
    spec = vms.spec(work_directory="/home/ubuntu/staging")
    with obtained({"vm-1": spec}) as found:
        with SshTarget("vm-1", found["vm-1"]).lease("campaign c1", 5.0):
            assert main(["--root", root, "hosts", "check", "--json"]) == 0
            (seen,) = json.loads(capsys.readouterr().out)
            assert (seen["launched"], seen["host_key"], seen["problems"]) == (True, "known", [])
            assert main(["--root", root, "hosts", "leases"]) == 0
            assert "campaign c1" in capsys.readouterr().out
        assert main(["--root", root, "hosts", "clean"]) == 0
        assert capsys.readouterr().out.startswith("vm-1: removed /home/ubuntu/staging: 0 versions, ")


def test_multipass_is_missing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SM-06: the check says what to install; the other commands fail with the same words."""
    monkeypatch.setenv("PATH", str(home))
    (tmp_path / "targets.yaml").write_text('hosts: {"vm-1": {lifecycle: multipass}}')
    assert main(["--root", str(tmp_path), "hosts", "check"]) == 1
    assert "vm-1: multipass is missing, which launches its VM" in capsys.readouterr().out
    assert main(["--root", str(tmp_path), "hosts", "clean"]) == 2
    assert "snap install multipass" in capsys.readouterr().err
