"""Small systems of compose files for the tests of capacity profiles."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from workspaces import give_up

from pytest_staging.capacity.resolving import System, resolve
from pytest_staging.operating.describing import read_file

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = """
services:
  api:
    image: example/api:1
    environment: {PARALLEL: "${PARALLEL:-2}"}
    healthcheck: {test: [CMD, check]}
    depends_on: [store]
  store:
    image: example/store:1
    healthcheck: {test: [CMD, check]}
  extra:
    image: example/extra:1
    profiles: [wide]
    environment: {PARALLEL: "${PARALLEL:-2}"}
"""
CAPACITY: dict[str, Any] = {
    "project": "tests",
    "compose_files": ["compose.yaml"],
    "service_under_test": {"service": "api", "port": 80},
    "environments": {"dev": {}, "prod": {"required": ["TOKEN"]}},
    "profiles": {
        "small": {"services": ["api", "store"], "variables": {"PARALLEL": "2"}},
        "wide": {
            "services": ["api", "store", "extra"],
            "core": ["api", "store"],
            "compose_profiles": ["wide"],
            "replicas": {"extra": 1},
            "variables": {"PARALLEL": "8"},
        },
    },
}


def write_system(root: Path, compose: str = COMPOSE, capacity: Mapping[str, object] | None = None) -> Path:
    """deploy/ with a capacity file and a compose file; both are checked by nobody here."""
    folder = root / "deploy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compose.yaml").write_text(compose)
    (folder / "capacity.yaml").write_text(yaml.safe_dump(dict(CAPACITY if capacity is None else capacity)))
    return root


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def resolved(folder: Path, *names: str, variables: Mapping[str, str] | None = None) -> System:
    """The files of a folder, shown relative to it."""

    def shown(path: Path) -> str:
        return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)

    return resolve([folder / name for name in names or ("compose.yaml",)], variables or {}, read_file, shown)


def manager(root: Path, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 180.0):
    """The real program, as a process of its own, with this environment and no other."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_staging", "--root", str(root), "capacity", *arguments],
        env=dict(env or {"PATH": "/usr/bin:/bin"}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def require_compose(generation: int = 1) -> tuple[list[str], dict[str, str]]:
    """The real Compose, for its own word on a file: how it is called, and what it needs of the environment.

    For v1 there is no v2 to be found: who prefers that must take the other.
    """
    if generation == 1:
        found = shutil.which("docker-compose")
        if found is None:
            give_up("docker-compose is not installed: apt-get install docker-compose")
        return [found], {"DOCKER_CONFIG": "/nonexistent"}
    done = subprocess.run([ROOT / "scripts" / "lab" / "compose-v2.sh"], capture_output=True, text=True, timeout=400)
    if done.returncode:
        give_up(f"compose-v2.sh: {done.stderr.strip()}")
    return ["docker", "compose"], {"DOCKER_CONFIG": done.stdout.strip()}
