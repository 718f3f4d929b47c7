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
'''
PLAIN = """
import warnings
import pytest

def test_passes():
    print("said something")

def test_fails():
    print("said something")
    assert 1 == 2

@pytest.mark.skip(reason="not today")
def test_skipped():
    pass

def test_warns():
    warnings.warn("beware")
"""
OPTIONS = [
    "--runs=3", "--baseline=nobody", "--candidate=nothing", "--campaign-id=../x", "--benchmark-path=none.yaml",
    "--staging-root=nowhere", "--staging-seed=x", "--staging-order=random", "--staging-smoke", "--staging-target=moon",
    "--staging-junit-cell-properties",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workspace whose files are broken, which an ordinary run must not even look at, and two files of tests."""
    root = make_small(tmp_path_factory.mktemp("ordinary") / "w", ini="[pytest]\n")
    (root / "benchmark" / "benchmark.yaml").write_text("{")
    (root / "versions" / "baseline" / "version.yaml").write_text("status: 7")
    (root / "test_look.py").write_text(LOOK)
    (root / "test_plain.py").write_text(PLAIN)
    return root


def tree_of(root):
    """Every file with its content."""
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def ordinary(root, *arguments):
    """A run that writes no file of pytest's or Python's own."""
    return run_pytest(root, "-p", "no:cacheprovider", *arguments, env={"PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.parametrize("options", [[], OPTIONS], ids=["none", "all"])
def test_an_ordinary_run_costs_nothing(root, options):
    """PT-06: no file, no process, no thread, no import, no signal handler; our options alone change nothing."""
    before = tree_of(root)
    result = ordinary(root, "test_look.py", *options)
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout
    assert tree_of(root) == before
    assert not lease_of(root).exists()


@pytest.mark.parametrize("arguments", [[], ["-v"], ["--collect-only"]], ids=["plain", "v", "collect"])
def test_an_ordinary_run_prints_what_it_prints_without_the_plugin(root, arguments):
    """PT-06: no item and the same output, but for the plugin's name in the list of plugins."""
    ours, theirs = (ordinary(root, "test_plain.py", *plugin, *arguments) for plugin in ((), ("-p", "no:staging")))
    assert ours.returncode == theirs.returncode
    assert without_times(ours.stdout) == without_times(theirs.stdout)
    assert "test_plain.py" in ours.stdout


def without_times(output):
    """The output without durations and the list of plugins."""
    kept = [line for line in output.splitlines() if not line.startswith("plugins: ")]
    return re.sub(r"=+ (.*) in [0-9.]+s =+", r"\1", "\n".join(kept))


@pytest.mark.parametrize("workers", ["2", "auto"])
def test_an_ordinary_run_with_workers_is_unaffected(root, workers):
    """PT-06: without a campaign -n gives xdist's own number of workers."""
    created = [
        re.search(r"created: (\S+) workers?", ordinary(root, "-n", workers, "test_plain.py", *plugin).stdout)[1]
        for plugin in ((), ("-p", "no:staging"))
    ]
    assert created[0] == created[1]
    assert workers == "auto" or created[0] == "2/2"


def test_help_lists_the_options_and_runs_nothing(root):
    """PT-06: --help with --staging-campaign shows the options, even where the workspace is broken."""
    result = ordinary(root, "--staging-campaign", "--help")
    assert result.returncode == 0, result.stdout
    for option in ("--staging-campaign", "--runs", "--candidate", "--staging-seed", "staging_root"):
        assert option in result.stdout
