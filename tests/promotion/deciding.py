"""The program in this process and in others, and what a workspace looks like afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from crafted import fill, passing, plan

from pytest_staging.cli import main

KILLED_AT = """
import os, signal, sys
from pytest_staging import durable
from pytest_staging.cli import main
left = int(sys.argv[1])
def step(what, path):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
durable.on_step = step
sys.exit(main(sys.argv[2:]))
"""
ANNOUNCED = """
import sys
import filelock
from pytest_staging.cli import main
acquire = filelock.FileLock.acquire
def announce(*arguments, **keywords):
    print("waiting", flush=True)
    return acquire(*arguments, **keywords)
filelock.FileLock.acquire = announce
sys.exit(main(sys.argv[1:]))
"""


def make_passing(root: Path, **keywords: object) -> Path:
    """A workspace with baseline, the candidate `faster`, and the campaign `c` that lets it be promoted."""
    fill(root, plan(root, **keywords), passing)  # type: ignore[arg-type]
    return root


def manage(root: Path, *arguments: str) -> int:
    """staging-manager in this process; its exit code."""
    return main(["--root", str(root), *arguments])


def announced(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """staging-manager as a process of its own, which says `waiting` before it asks for its lock."""
    line = [sys.executable, "-c", ANNOUNCED, "--root", str(root), *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_at(step: int, root: Path, *arguments: str) -> int:
    """staging-manager in a process that kills itself at its `step`-th step on the file system; its exit code."""
    line = [sys.executable, "-c", KILLED_AT, str(step), "--root", str(root), *arguments]
    return subprocess.run(line, capture_output=True, timeout=300, env=dict(os.environ), check=False).returncode


def promotion_of(slug: str = "faster", campaign_id: str = "c") -> tuple[str, ...]:
    return ("promote", "--candidate", slug, "--campaign-id", campaign_id)


def states(root: Path, capsys) -> dict[str, str]:
    """Every version's status, as the next command finds it."""
    capsys.readouterr()
    assert manage(root, "list", "--json") == 0
    return {one["slug"]: one["status"] for one in json.loads(capsys.readouterr().out)}


def read_version(root: Path, slug: str) -> dict[str, object]:
    """version.yaml as it stands on disk."""
    return yaml.safe_load((root / "versions" / slug / "version.yaml").read_text())


def content(root: Path) -> dict[str, bytes]:
    """Every file below versions/ and campaigns/, but for locks and indexes, which only spare work."""
    paths = [path for folder in ("versions", "campaigns") for path in (root / folder).rglob("*")]
    helpers = (".lock", ".index")
    kept = [path for path in paths if path.is_file() and path.name != ".lock" and path.suffix not in helpers]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}
