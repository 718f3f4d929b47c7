"""Container images through the docker client with BuildKit, where it is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.dockerignore import Ignored, parse_dockerignore
from pytest_staging.images.artifact import run_build_step
from pytest_staging.images.container import ContainerImages, docker_build, reference
from pytest_staging.images.context import IGNORE_FILE, read_ignore_file
from pytest_staging.model.building import Build, Image
from pytest_staging.model.errors import EngineMissing
from pytest_staging.model.ports import Command, CommandRunner
from pytest_staging.model.version import ImageSpec

SWITCH = "DOCKER_BUILDKIT"
PLUGIN = "cli-plugins/docker-buildx"
PLUGIN_FOLDERS = ("/usr/local/lib/docker", "/usr/local/libexec/docker", "/usr/lib/docker", "/usr/libexec/docker")


@dataclass(frozen=True)
class BuildKitBuilder(ContainerImages):
    """`docker build` with BuildKit, run by `runner`."""

    runner: CommandRunner
    name = "buildkit"

    def require_ready(self) -> None:
        super().require_ready()
        if shutil.which("docker") is None:
            raise EngineMissing(f"BuildKit needs the docker client. Install it, or set {SWITCH}=0.")

    def ignored(self, spec: ImageSpec, snapshot: Path) -> Ignored | None:
        # BuildKit alone knows a file of exclusions for one Dockerfile.
        own = read_ignore_file(snapshot / f"{spec.dockerfile}{IGNORE_FILE}")
        return super().ignored(spec, snapshot) if own is None else parse_dockerignore(own, spec.dockerfile)

    def predefined(self) -> Mapping[str, str]:
        platform = self.engine.facts.platform
        system, _, machine = platform.partition("/")
        values = {"PLATFORM": platform, "OS": system, "ARCH": machine}
        return {f"{side}{name}": value for side in ("BUILD", "TARGET") for name, value in values.items()}

    def commands(self, build: Build) -> list[list[str]]:
        return [["env", f"{SWITCH}=1", *docker_build(build)]]

    def build(self, build: Build) -> Image:
        argv = docker_build(build, "--progress", "plain")
        environment = {SWITCH: "1", "DOCKER_HOST": self.engine.address}
        command = Command(argv=argv, cwd=build.snapshot, log=build.log, env=environment, echo=build.echo)
        run_build_step(self.runner, command, build)
        return self.made(build, reference(build))


def wants_buildkit(environment: Mapping[str, str] = os.environ) -> bool:
    """As the docker client decides: DOCKER_BUILDKIT says so, or else the client has its buildx plugin."""
    named = environment.get(SWITCH)
    if named:
        return named.lower() not in ("0", "f", "false")
    home = environment.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return shutil.which("docker") is not None and any(
        os.access(f"{folder}/{PLUGIN}", os.X_OK) for folder in (home, *PLUGIN_FOLDERS)
    )
