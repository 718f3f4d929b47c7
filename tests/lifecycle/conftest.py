"""Real SSH hosts that a recording `multipass` passes off as its VMs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ssh"))  # hosting

from hosting import LabHost, make_key, remove_hosts, run_lab_script, start_host
from vm_lab import HERE, Vms

from pytest_staging.lifecycle import multipass_program


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LabHost]]:
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made = [start_host(key, folder / str(number)) for number in range(2)]
    yield made
    remove_hosts([one.container for one in made])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither this machine's agent nor its user's files have a say."""
    for name in ("SSH_AUTH_SOCK", "STAGING_SSH_KEY_PASSPHRASE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def vms(lab: list[LabHost], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vms:
    folder, programs = tmp_path / "multipass", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    program = programs / "multipass"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_multipass.py"}" "$@"\n')
    program.chmod(0o755)
    known = {f"staging-vm-{number}": host for number, host in enumerate(lab, 1)}
    text = {vm: {"container": host.container, "address": host.address} for vm, host in known.items()}
    (folder / "hosts.json").write_text(json.dumps(text))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_MULTIPASS", str(folder))
    monkeypatch.setattr(multipass_program, "SETTLE_S", 0.3)
    return Vms(folder, home, lab[0].key, lab)
