"""Cells under a capacity profile: the whole stack of Compose services, with a version as the service under test."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pytest_staging.capacity.choosing import Choice
from pytest_staging.capacity.readiness import Matrix, State, Wanted, judge
from pytest_staging.capacity.showing import Invocation
from pytest_staging.capacity.validating import Description, resolve_profile, validate
from pytest_staging.engine import LABEL, Engine
from pytest_staging.model.errors import (
    CapacityMismatch,
    ComposeFailed,
    PinChanged,
    ServiceFailed,
    StagingError,
    UsageProblem,
)
from pytest_staging.model.ports import Command, Deployment, Usage
from pytest_staging.model.version import ModeSpec
from pytest_staging.targets.compose_program import ComposeProgram, ComposeProject, config, create, find_compose, up
from pytest_staging.targets.compose_reading import read_containers, remove_project
from pytest_staging.targets.compose_stack import UnderTest, build_stack
from pytest_staging.targets.container import KEPT, LOOPBACK, ContainerService, Made, ThisMachine
from pytest_staging.targets.containers import EVERYWHERE, unfit_reason
from pytest_staging.targets.docker import DockerTarget
from pytest_staging.targets.local import LocalProcess, LocalTarget

CONFIG_DEADLINE_S = 60.0
UP_DEADLINE_S = 300.0
LOOK_S = 0.1
FOLDER = "stack-"


class ComposeTarget:
    """Stacks on this machine's engine, one at a time, under the same lease as `docker`.

    `pins` are the files that the campaign was planned with, by SHA-256; none for a campaign that is being planned.
    """

    def __init__(
        self,
        name: str,
        description: Description,
        choice: Choice,
        pins: Mapping[str, str] | None = None,
        docker: DockerTarget | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.name = name
        self._description, self._choice, self._pins = description, choice, dict(pins or {})
        self._engine = engine or Engine()
        self._docker = docker or DockerTarget(engine=self._engine)
        self._runner = LocalTarget()
        self._found: ComposeProgram | None = None

    def require_ready(self) -> None:
        """Raises EngineMissing, ComposeMissing, CapacityMismatch, or UsageProblem for what is not set."""
        self._docker.require_ready()
        _ = self._program
        description, environment = self._description, self._choice.environment
        if description.capacity.service_under_test is None:
            raise UsageProblem(f"{description.shown} names no service_under_test, which {self.name} needs.")
        if missing := description.missing(environment, os.environ):
            raise UsageProblem(f"environment {environment} needs {', '.join(missing)} to be set.")
        found = [
            m for profile in self._choice.profiles for m in validate(description, profile, environment, os.environ)
        ]
        if found:
            lines = "\n".join(f"  {one}" for one in dict.fromkeys(found))
            raise CapacityMismatch(f"{self.name}: the profiles do not fit their compose files\n{lines}")

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return unfit_reason(mode)

    def pin(self) -> Mapping[str, str]:
        """SHA-256 of capacity.yaml, the compose files and their files of variables, by their paths in the workspace."""
        description = self._description
        found = {description.root / description.shown}
        for profile in self._choice.profiles:
            found |= resolve_profile(description, profile, self._choice.environment, os.environ).paths
        return {description.show(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """As the target docker's; volumes and files that a dead holder left are removed too."""
        with self._docker.lease(holder, timeout_s):
            self._reap()
            try:
                yield
            finally:
                # Cells remove their own. What an engine that is gone keeps is removed by whoever leases next.
                with suppress(StagingError):
                    self._reap()

    def facts(self) -> Mapping[str, Any]:
        """Those of the target docker; Compose's version, and which profile each version runs under."""
        choice = {"default": self._choice.default, **self._choice.by_slug}
        told = {"environment": self._choice.environment, "profiles": choice, "compose": self._program.version}
        return {**self._docker.facts(), "capacity": told}

    def start(self, command: Command) -> LocalProcess:
        return self._docker.start(command)

    def deploy(self, deployment: Deployment) -> StackService:
        """Starts the profile's stack of that version, and waits for all of it but the version itself.

        Raises ServiceFailed, PortTaken or EngineLost; nothing is left then.
        """
        self._require_pinned()
        stack = _Stack(self, deployment)
        try:
            return stack.start()
        except ComposeFailed as error:
            stack.remove()
            raise ServiceFailed(f"the stack cannot be started: {error}") from error
        except BaseException:
            stack.remove()
            raise

    @property
    def _program(self) -> ComposeProgram:
        self._found = self._found or find_compose(self._runner)
        return self._found

    def _require_pinned(self) -> None:
        now = self.pin() if self._pins else {}
        changed = sorted(name for name in {*now, *self._pins} if now.get(name) != self._pins.get(name))
        if changed:
            raise PinChanged(f"{', '.join(changed)} changed after the campaign began; start a new one")

    def _reap(self) -> None:
        for left in self._docker.lease_folder.glob(f"{FOLDER}*"):
            shutil.rmtree(left, ignore_errors=True)
        api = self._engine.client.api
        filters = {"label": [f"{name}={value}" for name, value in self._docker.lease_labels().items()]}
        for one in self._engine.call("list volumes", api.volumes, filters=filters).get("Volumes") or []:
            self._engine.call("remove volume", api.remove_volume, one["Name"], accept=(404, 409))


class _Stack:
    """One cell's: a Compose project of its own, from a file that is written for it."""

    def __init__(self, target: ComposeTarget, deployment: Deployment) -> None:
        self._target, self._deployment = target, deployment
        self._description, self._choice = target._description, target._choice
        self._engine = target._engine
        self.profile = self._choice.profile_of(deployment.environment.get("STAGING_VERSION", ""))
        self.name = f"staging-{uuid.uuid4().hex[:12]}"
        endpoint = self._description.capacity.service_under_test
        assert endpoint is not None  # require_ready has looked
        self._endpoint = endpoint
        # For us alone: it holds passwords. Whoever has the lease next removes it if we cannot.
        self._folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=target._docker.lease_folder))

    def start(self) -> StackService:
        """Creates all of it, starts what the version needs, and last the version."""
        project = self._project([self._write()])
        project.run(create(), deadline_s=UP_DEADLINE_S)
        tested = [one for one in read_containers(self._engine, self.name) if one.service == self._endpoint.service]
        if not tested:
            raise ServiceFailed(f"Compose made no container of {self._endpoint.service}")
        purpose = f"{self._deployment.campaign_id}-{self._deployment.cell_id}"
        limit_mb = self._deployment.limits.memory_mb
        made = Made(tested[0].id, purpose, self._endpoint.port, limit_mb * (1 << 20) if limit_mb else None)
        service = ContainerService(self._engine, made, self._deployment.log, ThisMachine())
        try:
            others = [name for name in self._services if name != self._endpoint.service]
            if others:
                project.run(up(others), deadline_s=UP_DEADLINE_S)
                self._await_ready(others)
            service.start()
        except BaseException:
            service.discard()
            raise
        shutil.rmtree(self._folder, ignore_errors=True)  # Compose is not asked again, and it holds passwords
        return StackService(service, self._published(), self.remove)

    def remove(self, kept: str = "") -> None:
        """Everything that carries the project's label, but for a container whose name begins with `kept`."""
        try:
            remove_project(self._engine, self.name, kept)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _published(self) -> Mapping[tuple[str, int], int]:
        containers = read_containers(self._engine, self.name)
        return {(one.service, inside): port for one in containers for inside, port in one.ports.items()}

    @property
    def _services(self) -> Sequence[str]:
        return self._description.capacity.profiles[self.profile].services

    def _project(self, files: Sequence[Path]) -> ComposeProject:
        variables = self._description.variables(self.profile, self._choice.environment, {})
        return ComposeProject(
            self._target._program, self._target._runner, self.name, files, variables, self._engine.address
        )

    def _write(self) -> Path:
        spec = self._description.capacity.profiles[self.profile]
        project = self._project(self._description.paths())
        resolved = project.read(config(), spec.compose_profiles, deadline_s=CONFIG_DEADLINE_S)
        deployment = self._deployment
        labels = {
            f"{LABEL}.campaign": deployment.campaign_id,
            f"{LABEL}.cell": deployment.cell_id,
            **self._target._docker.lease_labels(),
        }
        own = {**(deployment.mode.environment or {}), **deployment.environment}
        tested = UnderTest(
            service=self._endpoint.service,
            port=self._endpoint.port,
            image_id=deployment.image.id,  # a tag may have moved since
            environment={**own, "STAGING_HOST": EVERYWHERE, "STAGING_PORT": str(self._endpoint.port)},
            limits=deployment.limits,
        )
        path = self._folder / "stack.json"
        path.write_text(json.dumps(build_stack(resolved, spec.services, tested, labels)))
        return path

    def _await_ready(self, others: Sequence[str]) -> None:
        deadline = time.monotonic() + self._description.capacity.ready_timeout_of(self.profile)
        system = resolve_profile(self._description, self.profile, self._choice.environment, os.environ)
        wanted = [
            Wanted(name, system.services[name].replicas or 0, True, system.services[name].has_health_check)
            for name in others
        ]
        while True:
            found = [one for one in read_containers(self._engine, self.name) if one.service in others]
            matrix = judge(self.profile, Invocation(self._choice.environment), wanted, found)
            if matrix.state is State.HEALTHY:
                return
            if matrix.hopeless or time.monotonic() > deadline:
                raise ServiceFailed(f"profile {self.profile} did not get ready: {_unready(matrix)}")
            time.sleep(LOOK_S)


class StackService:
    """The service under test; stopping it takes its stack along."""

    def __init__(
        self, tested: ContainerService, published: Mapping[tuple[str, int], int], remove: Callable[[str], None]
    ) -> None:
        self._tested, self._published, self._remove = tested, published, remove
        self.base_url = tested.base_url

    def reach(self, url: str) -> str:
        """`http://rabbitmq:15672` as it is reached from here, where that service publishes that port."""
        parts = urlsplit(url)
        port = self._published.get((parts.hostname or "", parts.port or 80))
        return urlunsplit(parts._replace(netloc=f"{LOOPBACK}:{port}")) if port else url

    def poll(self) -> int | None:
        return self._tested.poll()

    def ending(self) -> str:
        return self._tested.ending()

    def stop(self, grace_s: float, keep: bool = False) -> str:
        """Raises EngineLost or ConnectionLost, the first time."""
        try:
            return self._tested.stop(grace_s, keep)
        finally:
            self._remove(KEPT)

    def peak_resident_bytes(self) -> int | None:
        return self._tested.peak_resident_bytes()

    def usage(self) -> Usage | None:
        return self._tested.usage()

    def owns_endpoint(self) -> bool | None:
        return self._tested.owns_endpoint()


def _unready(matrix: Matrix) -> str:
    return "; ".join(f"{row.service}: {row.detail}" for row in matrix.rows if row.state is not State.HEALTHY)
