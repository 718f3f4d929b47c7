"""staging-manager's commands on real workspaces, and what they say when the workspace is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from workspaces import make_version, make_workspace

from pytest_staging import contract
from pytest_staging.cli import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_workspace(tmp_path)


def run(root: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The program as a user runs it; fails when it shows a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_staging", "--root", str(root), *arguments],
        cwd=cwd or root, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def test_create_version(root: Path) -> None:
    """SM-03: says what was made and what comes next."""
    done = run(root, "create-version", "--slug", "pool-v2", "--from", "version:faster", "--notes", "why")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "created versions/pool-v2 (status staging, parent faster)"
    assert "staging-manager run-campaign --candidate pool-v2" in done.stdout
    assert "notes: why\n" in (root / "versions" / "pool-v2" / "version.yaml").read_text()


def test_build_images(root: Path) -> None:
    """SM-05: a table of hits and misses with their reasons; the second time everything is there."""
    first = run(root, "build-images")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("| miss") == 4
    assert first.stdout.count("never built") == 4
    second = run(root, "build-images", "--slug", "faster", "--force-rebuild-mode", "jvm")
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in second.stdout.splitlines()[2:]]
    assert rows == [["faster", "jvm", "miss", "forced"], ["faster", "native", "hit", "fingerprints match"]]


def test_dry_run(root: Path) -> None:
    """SM-05: --dry-run prints the exact build commands and builds nothing."""
    done = run(root, "build-images", "--slug", "faster", "--mode", "native", "--dry-run")
    assert done.returncode == 0
    note, command = done.stdout.splitlines()
    assert note == "# faster native: miss (never built), would run"
    images = root / "versions" / "faster" / "images"
    assert command.startswith(f"(cd versions/faster/snapshot && cp service.py {images}/faster-native-")
    assert not (root / "versions" / "faster" / "images").exists()
    only = ["--slug", "faster", "--mode", "native"]
    run(root, "build-images", *only)
    assert "hit (fingerprints match), nothing to build" in run(root, "build-images", *only, "--dry-run").stdout


@pytest.mark.parametrize("kind", contract.SCHEMAS)
def test_schema(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SM-04: the schema of every YAML file can be printed."""
    assert main(["schema", kind]) == 0
    assert json.loads(capsys.readouterr().out) == contract.build_schema(kind)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


WRONG: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "version.yaml": (
        lambda root: rewrite(root / "versions/faster/version.yaml", "status: candidate", "stauts: candidate"),
        ["build-images", "--slug", "faster"],
        "versions/faster/version.yaml: 2 errors\n",
    ),
    "version.yaml, text": (
        lambda root: (root / "versions/faster/version.yaml").write_text("slug: [\n"),
        ["create-version", "--slug", "a", "--from", "version:faster"],
        "versions/faster/version.yaml: line 2: is not valid YAML",
    ),
    "service.yaml": (
        lambda root: rewrite(root / "versions/faster/snapshot/service.yaml", '"start"', '"strat"'),
        ["build-images", "--slug", "faster", "--dry-run"],
        "versions/faster/snapshot/service.yaml: 2 errors\n",
    ),
    "benchmark.yaml": (
        lambda root: rewrite(root / "benchmark/benchmark.yaml", "users:", "userz:"),
        ["run-campaign", "--runs", "1", "--", "-p", "no:cacheprovider"],
        "benchmark/benchmark.yaml: 2 errors\n",
    ),
    "no service.yaml": (
        lambda root: (root / "versions/faster/snapshot/service.yaml").unlink(),
        ["build-images"],
        "service.yaml does not exist",
    ),
    "unknown slug": (
        lambda root: None,
        ["build-images", "--slug", "fastr"],
        "there is no version 'fastr'",
    ),
    "unknown parent": (
        lambda root: None,
        ["create-version", "--slug", "a", "--from", "version:fastr"],
        "Did you mean 'faster'?",
    ),
    "unsafe slug": (lambda root: None, ["create-version", "--slug", "../a", "--from", "none"], "--slug '../a' starts"),
    "unknown mode": (lambda root: None, ["build-images", "--mode", "jmv"], "mode 'jmv' is not known"),
    "two baselines": (
        lambda root: make_version(root, "other", "baseline"),
        ["create-version", "--slug", "a", "--from", "baseline"],
        "2 versions have status baseline: baseline, other",
    ),
    "link": (
        lambda root: (root / "versions/faster/snapshot/x").symlink_to("/etc/passwd"),
        ["build-images"],
        "versions/faster/snapshot/x is a link that leaves the snapshot",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_workspaces(root: Path, name: str) -> None:
    """SM-01, SM-02: exit code 2 and one clear message, without a traceback."""
    change, arguments, expected = WRONG[name]
    change(root)
    done = run(root, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    said = done.stderr if arguments[0] != "run-campaign" else done.stdout + done.stderr
    assert expected in said
    if arguments[0] != "run-campaign":
        assert said.startswith("staging-manager: ")
        assert said.count("staging-manager: ") == 1
    if "errors" in expected:
        assert "unknown key; did you mean" in said
        assert "is missing" in said


@pytest.mark.parametrize(
    "arguments",
    [["create-version", "--slug", "a", "--from", "none"], ["build-images"], ["run-campaign", "--runs", "1"]],
    ids=lambda arguments: arguments[0],
)
def test_a_workspace_that_is_not_there(tmp_path: Path, arguments: list[str]) -> None:
    """SM-01: a mistyped --root makes nothing."""
    done = run(tmp_path / "nowhere", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere is no folder" in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_build(tmp_path: Path) -> None:
    """SM-01: an empty table would look like success."""
    done = run(tmp_path, "build-images")
    assert done.returncode == 2
    assert "no version to build in" in done.stderr


def test_a_build_that_fails(root: Path) -> None:
    """SM-05: exit code 1, with version, mode and log."""
    make_version(root, "faster", "candidate", build=[["false"]])
    done = run(root, "build-images", "--slug", "faster")
    assert done.returncode == 1
    assert done.stderr.startswith("staging-manager: build of faster in mode jvm: false ended with status 1; see ")


def test_what_the_file_system_refuses(root: Path) -> None:
    """SM-01: no traceback for a folder that is a file."""
    (root / "versions" / "faster" / "images").write_text("")
    done = run(root, "build-images", "--slug", "faster")
    assert done.returncode == 1
    assert "images" in done.stderr


def test_a_reader_that_has_seen_enough(root: Path) -> None:
    """SM-01: `staging-manager schema benchmark | head` ends quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "pytest_staging", "schema", "benchmark"],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=180, cwd=root,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 0
