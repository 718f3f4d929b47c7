"""scripts/lib/steady.sh: what failed beside other tests runs once more, alone, and is a failure if it fails again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "lib" / "steady.sh"
ONCE = """
def test_{name}(tmp_path_factory):
    from pathlib import Path
    seen = Path(__file__).with_name("seen-{name}")
    found = seen.exists()
    seen.touch()
    assert found
"""
ALWAYS = """
def test_fault():
    assert False
"""


def steady(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(f"def test_fine():\n    pass\n{tests}")
    command = [SCRIPT, sys.executable, "-n", "2", "-p", "no:staging"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("tests", "status", "said", "unsaid"),
    [
        ("", 0, "1 passed", ">>"),
        (ONCE.format(name="a"), 0, ">> not steady, passed alone only:\ntest_it.py::test_a", "test_fine"),
        (ALWAYS, 1, "run once more, alone:\ntest_it.py::test_fault", "not steady"),
        (ONCE.format(name="a") + ALWAYS, 1, "run once more", "not steady"),
        ("".join(ONCE.format(name=name) for name in "abcd"), 1, "4 failed", ">>"),
        ("import nowhere\n", 2, "1 error", "not steady"),
    ],
    ids=["passes", "fails once", "fails twice", "both", "too many", "not collected"],
)
def test_what_fails_alone_too_is_a_failure(tests: str, status: int, said: str, unsaid: str, tmp_path: Path) -> None:
    done = steady(tmp_path, tests)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout
    assert unsaid not in done.stdout


def test_a_failure_of_an_earlier_run_is_forgotten(tmp_path: Path) -> None:
    """The tests that the cache remembers are those of this run."""
    assert steady(tmp_path, ALWAYS).returncode == 1
    done = steady(tmp_path, ONCE.format(name="a"))
    assert (done.returncode, "test_fault" in done.stdout) == (0, False), done.stdout
