"""Campaigns with other plugins of pytest beside them, the real ones, active in these campaigns only."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from xml.etree import ElementTree

import pytest
from running import (
    cell_ids,
    folder_of,
    give_up,
    make_bad,
    make_small,
    marked_processes,
    read_aggregate,
    read_summaries,
    run_campaign,
)
from workspaces import SERVICE

# With what they import; without dependencies, so that pytest itself is the one that is under test.
PACKAGES = ("pytest-html", "pytest-metadata", "jinja2", "markupsafe", "pytest-cov", "coverage", "pytest-randomly",
            "pytest-rerunfailures", "pytest-timeout")
BROKEN = "import sys\nprint('no luck')\nsys.exit(3)\n"
ALL = {"html": ("--html=seen.html", "--self-contained-html"), "metadata": (), "cov": (), "randomly": (),
       "rerunfailures": (), "timeout": ()}


@pytest.fixture(scope="module")
def plugins(request, tmp_path_factory):
    """A folder with the plugins, to be put on PYTHONPATH; kept in pytest's cache from one session to the next."""
    cache = getattr(request.config, "cache", None)  # not with -p no:cacheprovider
    name = f"beside-{sys.version_info[0]}.{sys.version_info[1]}-{version('pytest')}"
    kept = cache.mkdir(name) if cache else tmp_path_factory.mktemp(name)
    folder, complete = kept / "site", kept / "complete"
    if not complete.is_file() or complete.read_text() != " ".join(PACKAGES):
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        done = subprocess.run([*install, *PACKAGES], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            give_up(f"the plugins cannot be installed: {done.stderr.strip()[-300:]}")
        complete.write_text(" ".join(PACKAGES))
    return folder


def only(*names):
    """Options that leave the named ones of the plugins active."""
    return [word for name in ALL if name not in names for word in ("-p", f"no:{name}")]


@pytest.fixture(scope="module")
def beside(tmp_path_factory, plugins):
    """Campaigns by the name of the plugin that is active in them: (root, finished process)."""
    folder = tmp_path_factory.mktemp("beside")

    def finish(name, *arguments, active=(), prepare=None, **small):
        root = make_small(folder / name, **{"duration_s": 0.2, **small})
        if prepare:
            prepare(root)
        given = [*only(*(active or (name,))), *arguments]
        return root, run_campaign(root, *given, env={"PYTHONPATH": str(plugins)})

    def breaking(root):
        make_bad(root, "broken", BROKEN)

    def tracing(root):
        (root / ".coveragerc").write_text("[run]\npatch = subprocess\n")
        (root / "conftest.py").write_text("def pytest_staging_campaign_finished(): pass\n")
        make_bad(root, "telling", f"import os\nprint('ENVIRONMENT', *os.environ, flush=True)\n{SERVICE}")

    asked = {
        "html": lambda: finish("html", *ALL["html"], active=("html", "metadata"), prepare=breaking, candidates=()),
        "cov": lambda: finish("cov", "-n", "1", "--runs=2", "--cov=.", "--cov-report=term",
                              active=("cov", "randomly"), prepare=tracing, candidates=()),
        "serial": lambda: finish("serial", "--runs=2", "-v", active=tuple(ALL)),
        "rerunfailures": lambda: finish("rerunfailures", "--reruns=2", "--junitxml=junit.xml",
                                                  prepare=breaking, candidates=()),
        "timeout": lambda: finish("timeout", "--timeout=6", "-k", "baseline", duration_s=60.0),
    }
    with ThreadPoolExecutor(3) as pool:
        futures = {name: pool.submit(campaign) for name, campaign in asked.items()}
        return {name: future.result() for name, future in futures.items()}


def active_in(result, name):
    """Whether pytest's header says that the plugin is there, so that the test proves something."""
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("plugins: ")]
    return f"{name}-" in line


def test_html(beside):
    """PT-05: pytest-html's report holds every cell and every verdict, the failed one with its log."""
    root, result = beside["html"]
    assert active_in(result, "html")
    assert result.returncode == 1, result.stdout
    text = (root / "seen.html").read_text()
    for cell in cell_ids(root):
        assert f"::campaign[{cell}]" in text
    for row in read_aggregate(root)["rows"]:
        assert f"::verdict[broken-native-{row['metric']}]" in text
    assert "no luck" in text


def test_cov(beside):
    """PT-01: with pytest-cov, also where it traces child processes, workers run and no service is traced."""
    root, result = beside["cov"]
    assert active_in(result, "cov")
    assert result.returncode == 0, result.stdout
    assert re.search(r"^conftest.py +1 ", result.stdout, re.M), "coverage was measured"
    assert [one["outcome"] for one in read_summaries(root).values()] == ["passed"] * 4
    told = (folder_of(root) / "runs" / "run-001" / "telling__native" / "service.log").read_text()
    assert "ENVIRONMENT" in told
    assert "STAGING_PORT" in told
    assert "COV" not in told.replace("DISCOVERY", "")


@pytest.mark.parametrize("name", ["cov", "serial"])
def test_randomly(beside, name):
    """PT-04: pytest-randomly shuffles tests, and never a campaign's cells: neither serially nor in a worker."""
    root, result = beside[name]
    assert active_in(result, "randomly")
    assert "Using --randomly-seed=" in result.stdout
    assert result.returncode == 0, result.stdout
    assert list(read_summaries(root)) == cell_ids(root)


def test_all_of_them_at_once(beside):
    """PT-01: with all of them and -v each cell and each verdict is one test, and the summary is there."""
    _, result = beside["serial"]
    assert all(active_in(result, name) for name in ALL)
    assert len(re.findall(r"::campaign\[\S+\] PASSED", result.stdout)) == 4
    assert len(re.findall(r"::verdict\[\S+\] SKIPPED", result.stdout)) == 5
    assert "4 passed, 5 skipped" in result.stdout
    assert "staging campaign c" in result.stdout
    assert "INTERNALERROR" not in result.stdout


def test_rerunfailures(beside):
    """PT-01: --reruns runs no cell again: one attempt, one result, one test case, and the failure stays a failure."""
    root, result = beside["rerunfailures"]
    assert active_in(result, "rerunfailures")
    assert result.returncode == 1, result.stdout
    assert " rerun" not in result.stdout.splitlines()[-1]
    summaries = read_summaries(root)
    assert {cell: (one["outcome"], one["attempt"]) for cell, one in summaries.items()} == {
        "run001-native-baseline": ("passed", 1), "run001-native-broken": ("failed", 1),
    }
    assert not (folder_of(root) / "runs" / "run-001" / "broken__native" / "attempts").exists()
    assert len([line for line in result.stdout.splitlines() if "run001-native-broken  failed" in line]) == 1
    names = [case.get("name") for case in ElementTree.parse(root / "junit.xml").iter("testcase")]
    assert len(names) == len(set(names)) == 2 + 5


def test_timeout(beside):
    """PT-01: pytest-timeout in mid-cell fails that cell with its words, ends service and load tool, and reports all."""
    root, result = beside["timeout"]
    assert active_in(result, "timeout")
    assert result.returncode == 1, result.stdout
    (summary,) = read_summaries(root).values()
    assert summary["outcome"] == "failed"
    assert "Timeout (>6.0s)" in summary["reason"]
    assert marked_processes(root) == []
    assert "staging campaign c" in result.stdout
    missing = {one["cell"]: one["reason"] for one in read_aggregate(root)["missing"] if one["metric"] is None}
    assert "Timeout" in missing["run001-native-baseline"]


def test_a_users_own_test_is_run_once_and_other_tests_again(tmp_path, plugins):
    """PT-01: reruns go on for ordinary tests beside a campaign; a test of the user's that takes a cell runs once."""
    root = make_small(tmp_path / "w", duration_s=0.2)
    (root / "test_own.py").write_text(
        "def test_own(staging_cell):\n"
        "    assert staging_cell.run().metrics['p95'] < 0, 'the assertion of the user'\n"
        "def test_other():\n"
        "    with open('seen.txt', 'a') as file:\n"
        "        file.write('again ')\n"
        "    assert False\n"
    )
    result = run_campaign(root, *only("rerunfailures"), "--force-reruns=1", "test_own.py",
                          env={"PYTHONPATH": str(plugins)})
    assert result.returncode == 1
    assert "the assertion of the user" in result.stdout
    assert "1 rerun" in result.stdout.splitlines()[-1]
    assert (root / "seen.txt").read_text() == "again again "
    assert [(one["outcome"], one["attempt"]) for one in read_summaries(root).values()] == [("passed", 1)] * 2
