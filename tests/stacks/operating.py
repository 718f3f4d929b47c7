"""Systems that really run: started by the program itself, under a project name of their own, and removed again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from dockering import Engine
from systems import ROOT, manager
from workspaces import free_port

IGNORED = shutil.ignore_patterns("images", ".lock", "__pycache__")
LABEL = "com.docker.compose.project"


@dataclass
class Place:
    """A workspace with deploy/, and what the program is given as its environment."""

    root: Path
    project: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, step: str, profile: str, *more: str, timeout_s: float = 240.0) -> Any:
        return manager(
            self.root, step, profile, "--env", "dev", *more, env={**os.environ, **self.environment}, timeout_s=timeout_s
        )

    def left(self, engine: Engine) -> list[str]:
        """Containers, networks and volumes that are still there."""
        ours = f"label={LABEL}={self.project}"
        found = engine("ps", "--all", "--quiet", "--filter", ours).split()
        found += engine("network", "ls", "--quiet", "--filter", ours).split()
        return found + engine("volume", "ls", "--quiet", "--filter", ours).split()


@contextmanager
def own_system(
    root: Path, engine: Engine, compose: str, capacity: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[Place]:
    """Whatever the test did, nothing of it is left."""
    name = f"staging-test-{uuid4().hex[:8]}"
    (root / "deploy").mkdir(parents=True)
    (root / "deploy" / "compose.yaml").write_text(compose)
    (root / "deploy" / "capacity.yaml").write_text(yaml.safe_dump({**capacity, "project": name}, sort_keys=False))
    place = Place(root, f"{name}-dev", dict(environment))
    try:
        yield place
    finally:
        remove(place, engine)


@contextmanager
def sample_system(root: Path, engine: Engine) -> Iterator[Place]:
    """A copy of the sample with ports, images and a project of its own."""
    name = uuid4().hex[:8]
    shutil.copytree(ROOT / "deploy", root / "deploy", ignore=IGNORED)
    for folder in ("versions", "benchmark"):
        shutil.copytree(ROOT / folder, root / folder, ignore=IGNORED)
    (root / "campaigns").mkdir()
    path = root / "deploy" / "capacity.yaml"
    path.write_text(path.read_text().replace("project: word-stats ", f"project: staging-test-{name} "))
    ports = {key: str(free_port()) for key in ("WORD_STATS_PORT", "RABBITMQ_API_PORT", "PROMETHEUS_PORT")}
    images = {"WORD_STATS_IMAGE": f"staging-test/word-stats:{name}", "WORKER_IMAGE": f"staging-test/worker:{name}"}
    place = Place(root, f"staging-test-{name}-dev", {**ports, **images})
    try:
        yield place
    finally:
        remove(place, engine)
        for image in images.values():
            if engine("image", "ls", "--quiet", image):
                engine("image", "rm", image)


def remove(place: Place, engine: Engine) -> None:
    ours = f"label={LABEL}={place.project}"
    if containers := engine("ps", "--all", "--quiet", "--filter", ours).split():
        engine("rm", "--force", "--volumes", *containers)
    for kind in ("network", "volume"):
        for one in engine(kind, "ls", "--quiet", "--filter", ours).split():
            engine(kind, "rm", one)
