"""An ordinary pytest run with the plugin installed: as if it were not there."""

from __future__ import annotations

import re

import pytest
from running import lease_of, make_small, run_pytest

LOOK = '''
import os, signal, sys
from pathlib import Path

def test_nothing_of_ours_is_at_work():
    ours = [name for name in sys.modules if name.partition(".")[0] == "pytest_staging"]
    assert "pytest_staging.plugin" in ours
    assert len(ours) <= 4, ours
    assert not {"yaml", "paramiko", "tabulate", "pydantic", "rich", "httpx", "filelock"} & set(sys.modules)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

def test_no_process_was_started():
    tasks = Path(f"/proc/{os.getpid()}/task")
    assert [one.name for one in tasks.iterdir()] == [str(os.getpid())], "a thread"
    assert (tasks / str(os.getpid()) / "children").read_text() == ""

def test_fails():
    assert 1 == 2
'''
OPTIONS = [
    "--runs=3", "--baseline=nobody", "--candidate=nothing", "--campaign-id=../x", "--benchmark-path=none.yaml",
    "--staging-root=nowhere", "--staging-seed=x", "--staging-order=random", "--staging-smoke", "--staging-target=moon",
    "--staging-junit-cell-properties",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace whose files are broken, which an ordinary run must not even look at, and three tests."""
    root = make_small(tmp_path_factory.mktemp("ordinary") / "w")
    (root / "benchmark" / "benchmark.yaml").write_text("{")
    (root / "versions" / "baseline" / "version.yaml").write_text("status: 7")
    (root / "test_look.py").write_text(LOOK)
    return root


def tree_of(root):
    """Every file with its content."""
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def plain(output: str) -> str:
    """Without durations, and without the list of plugins, in which the plugin stands by its name."""
    kept = [line for line in output.splitlines() if not line.startswith("plugins: ")]
    return re.sub(r"=+( .*) in [0-9.]+s =+", r"\1", "\n".join(kept))


def ordinary(root, *arguments):
    return run_pytest(root, "-p", "no:cacheprovider", *arguments, env={"PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.parametrize("arguments", [[], OPTIONS, ["-v"], ["--collect-only"]], ids=["plain", "options", "v", "collect"])
def test_an_ordinary_run_is_unaffected(root, arguments):
    """PT-06: no item, no file, no process, no import, the same output; our options alone change nothing."""
    before = tree_of(root)
    result = ordinary(root, *arguments)
    assert tree_of(root) == before
    assert not lease_of(root).exists()
    if "--collect-only" not in arguments:
        assert "1 failed, 2 passed" in result.stdout, result.stdout
        assert result.returncode == 1
    own = [one for one in arguments if one not in OPTIONS]
    without = ordinary(root, "-p", "no:staging", "-o", "addopts=", *own, "-W", "ignore")
    theirs = without.stdout.replace("unknown config option", "")
    assert plain(result.stdout).count("\n") > 3
    if "ours" not in theirs:
        assert plain(result.stdout) == plain(without.stdout)


@pytest.mark.parametrize("workers", ["2", "auto"])
def test_an_ordinary_run_with_workers_is_unaffected(root, workers):
    """PT-06: without a campaign -n gives xdist's own number of workers and its own scheduling."""
    results = [ordinary(root, "-n", workers, *plugin) for plugin in ((), ("-p", "no:staging", "-W", "ignore"))]
    created = [re.search(r"created: (\S+) workers?", one.stdout)[1] for one in results]
    assert created[0] == created[1]
    if workers == "2":
        assert created[0] == "2/2"


def test_help_lists_the_options_and_runs_nothing(root):
    """PT-06: --help with --staging-campaign shows the options, even where the workspace is broken."""
    result = ordinary(root, "--staging-campaign", "--help")
    assert result.returncode == 0, result.stdout
    for option in ("--staging-campaign", "--runs", "--candidate", "--staging-seed", "staging_root"):
        assert option in result.stdout
