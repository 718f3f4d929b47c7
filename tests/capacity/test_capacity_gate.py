"""scripts/test.sh --capacity-contract: the gate by itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from systems import ROOT

RECORDING = '#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$(basename "$0") $*" >>"{log}"\nexit {code}\n'


def gate(tmp_path: Path, code: int) -> tuple[int, list[str]]:
    """Runs the script with a virtual environment that only records; exit code, and what it ran."""
    programs, log = tmp_path / "venv" / "bin", tmp_path / "log"
    programs.mkdir(parents=True)
    for name, status in {"python": 0, "staging-manager": code}.items():
        path = programs / name
        path.write_text(RECORDING.format(log=log, code=status))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    digest = "cat setup.cfg pyproject.toml | cksum"
    wanted = subprocess.run(["bash", "-c", digest], cwd=ROOT, capture_output=True, text=True)
    (tmp_path / "venv" / ".installed-load,docker,test,dev").write_text(wanted.stdout.strip())
    done = subprocess.run(
        [ROOT / "scripts" / "test.sh", "--capacity-contract", "-q"],
        env={**os.environ, "STAGING_VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, log.read_text().splitlines()


def test_the_gate_runs_alone(tmp_path: Path) -> None:
    """CP-05: every profile is validated and the tests of the rules run; nothing else does."""
    assert gate(tmp_path, 0) == (0, ["staging-manager capacity validate", "python -m pytest tests/capacity -q"])


def test_a_mismatch_ends_the_gate(tmp_path: Path) -> None:
    """CP-05: with the exit code of validate."""
    assert gate(tmp_path, 1) == (1, ["staging-manager capacity validate"])


def test_no_test_of_the_gate_needs_a_container() -> None:
    """CP-05: what needs an engine lies in tests/stacks, and nothing here asks for one."""
    for path in (ROOT / "tests" / "capacity").glob("*.py"):
        if path != Path(__file__):
            assert "start_engine" not in path.read_text(), path.name
