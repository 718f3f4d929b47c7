"""The lab's scripts and the docker client, each call with a deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_ENGINE = ROOT / "scripts/lab/start-engine.sh"
BASE_IMAGES = ROOT / "scripts/lab/base-images.sh"
INSTALL_TIMEOUT_S = 900.0
CALL_TIMEOUT_S = 120.0
NOT_POSSIBLE_HERE = 2  # a lab script's exit code when it names what the machine lacks


@dataclass(frozen=True)
class Engine:
    """An engine that answers, through the docker client."""

    version: str
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """What the client prints; an AssertionError with its complaint when it fails."""
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(kind, "inspect", "--format", "{{json .}}", name))
        return found


def run_script(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = CALL_TIMEOUT_S,
    user: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a script of the lab; the environment is added to this process's."""
    return subprocess.run(
        command, env=os.environ | dict(environment or {}), user=user, capture_output=True, text=True, timeout=timeout_s
    )


def start_engine() -> Engine:
    """The machine's engine with the base images. Skips, or fails where STAGING_REQUIRE_LAB=1 promises the lab."""
    if sys.platform != "linux":
        give_up(f"the lab needs Linux, and this is {sys.platform}")
    started = run_lab_script(START_ENGINE)
    run_lab_script(BASE_IMAGES)
    socket = os.environ.get("STAGING_ENGINE_SOCKET")
    environment = os.environ | {"DOCKER_BUILDKIT": "0"} | ({"DOCKER_HOST": f"unix://{socket}"} if socket else {})
    return Engine(started.removeprefix("ready "), environment)


def run_lab_script(script: Path) -> str:
    done = run_script(script, timeout_s=INSTALL_TIMEOUT_S)
    if done.returncode == NOT_POSSIBLE_HERE:
        give_up(f"{script.name}: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def give_up(reason: str) -> NoReturn:
    if os.environ.get("STAGING_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
