"""Cells as containers of this machine's Docker engine, one at a time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pytest_staging.engine import GONE, LABEL, Engine
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.errors import EngineMissing, EngineRefused, ServiceFailed, StagingError
from pytest_staging.model.ports import Command, Deployment
from pytest_staging.model.version import ModeSpec
from pytest_staging.targets.container import KEPT, LOOPBACK, MIB, OVER, ContainerService, Made
from pytest_staging.targets.local import LocalProcess, LocalTarget

LOG_OPTIONS = {"max-size": "16m"}  # what `docker logs` shows of a kept one; the cell has its own log
EVERYWHERE = "0.0.0.0"


class DockerTarget:
    """Containers beside the processes of `local`, whose lease is this target's too: nothing else is measured meanwhile.

    The load reaches a container through the engine's own proxy on the loopback address, both versions alike.
    """

    name = "docker"

    def __init__(self, local: LocalTarget | None = None, engine: Engine | None = None) -> None:
        self._local = local or LocalTarget()
        self._engine = engine or Engine()

    def require_ready(self) -> None:
        """Raises EngineMissing when no engine answers, or one that is on another machine."""
        if not self._engine.is_local:
            raise EngineMissing(
                f"the Docker engine at {self._engine.address} is on another machine, and the target docker measures on "
                "this one. Unset DOCKER_HOST or choose another context (docker context use default)."
            )
        self._engine.require_answer()

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return None if mode.image else "has no image"

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """The host's. Raises LeaseTimeout; EngineMissing or EngineLost when leftovers cannot be looked for."""
        with self._local.lease(holder, timeout_s):
            self._reap()
            try:
                yield
            finally:
                # An interrupt between a start and its clean-up leaves nothing either. An engine that does not answer
                # now is no reason to hide what happened; who takes the lease next looks again.
                with suppress(StagingError):
                    self._reap()

    def facts(self) -> Mapping[str, Any]:
        """Those of the host; the engine's version, and what it can limit (none of it when it does not answer)."""
        found = dict(self._local.facts())
        with suppress(StagingError):
            facts = self._engine.facts
            found |= {"engine": f"Docker {facts.version}", "container_limits": list(facts.limits)}
        return found

    def start(self, command: Command) -> LocalProcess:
        return self._local.start(command)

    def deploy(self, deployment: Deployment) -> ContainerService:
        """Raises ServiceFailed with the engine's words, PortTaken, or EngineLost; nothing is left then."""
        made = self._create(deployment)
        try:
            service = ContainerService(self._engine, made, deployment.log)
        except BaseException:
            self._remove(made.id)
            raise
        try:
            service.start()
        except BaseException:
            service.discard()
            raise
        return service

    def _create(self, deployment: Deployment) -> Made:
        spec, limits = deployment.mode.image, deployment.limits
        if spec is None:
            raise ServiceFailed(f"{deployment.image.ref} cannot be run: its mode {self.unfit_reason(deployment.mode)}")
        self._require_enforceable(limits)
        purpose = re.sub(r"[^\w.-]", "-", f"{deployment.campaign_id}-{deployment.cell_id}", flags=re.ASCII)
        try:
            answer = self._engine.call(
                "create container",
                self._engine.client.api.create_container,
                deployment.image.id,  # a tag may have moved since
                name=f"staging-{purpose}-{uuid.uuid4().hex[:8]}",
                **self._options(deployment, spec.port),
            )
        except EngineRefused as error:
            raise _create_failure(deployment, error) from error
        return Made(answer["Id"], purpose, spec.port, _memory_bytes(limits))

    def _options(self, deployment: Deployment, port: int) -> dict[str, Any]:
        given = {**(deployment.mode.environment or {}), **deployment.environment}
        purpose = {f"{LABEL}.campaign": deployment.campaign_id, f"{LABEL}.cell": deployment.cell_id}
        return {
            "ports": [port],
            "environment": {**given, "STAGING_HOST": EVERYWHERE, "STAGING_PORT": str(port)},
            "labels": {**purpose, **self._lease_labels()},
            # The engine's health checks would run programs inside the container while it is measured.
            "healthcheck": {"test": ["NONE"]},
            "host_config": self._engine.client.api.create_host_config(
                port_bindings={port: (LOOPBACK, None)},
                log_config={"Type": "json-file", "Config": LOG_OPTIONS},
                **_host_limits(deployment.limits),
            ),
        }

    def _require_enforceable(self, limits: ContainerLimits) -> None:
        # The engine creates the container all the same, with a warning that nobody would see.
        wanted = {"cpus": limits.cpus, "memory": limits.memory_mb}
        missing = [what for what, value in wanted.items() if value and what not in self._engine.facts.limits]
        if missing:
            words = " and ".join(missing)
            raise ServiceFailed(f"this Docker engine cannot limit {words}, which benchmark.yaml declares")

    def _lease_labels(self) -> dict[str, str]:
        """By which leftovers are found.

        An engine may serve several CI jobs, each with a /tmp of its own: the path alone would name the leases of all.
        """
        path = self._local.lease_path
        folder = ""
        with suppress(OSError):
            status = path.parent.stat()
            folder = f"{status.st_dev}:{status.st_ino}"
        return {f"{LABEL}.lease": str(path), f"{LABEL}.lease-folder": folder}

    def _reap(self) -> None:
        """Removes what a holder of this lease left behind. Kept containers are somebody's to look at."""
        api = self._engine.client.api
        filters = {"label": [f"{name}={value}" for name, value in self._lease_labels().items()]}
        for found in self._engine.call("list containers", api.containers, all=True, filters=filters):
            if not any(name.startswith(f"/{KEPT}") for name in found["Names"]):
                self._engine.call("remove", api.remove_container, found["Id"], v=True, force=True, accept=OVER)
        for found in self._engine.call("list networks", api.networks, filters=filters):
            self._engine.call("remove network", api.remove_network, found["Id"], accept=(GONE,))

    def _remove(self, container_id: str) -> None:
        with suppress(StagingError):
            remove = self._engine.client.api.remove_container
            self._engine.call("remove", remove, container_id, v=True, force=True, accept=OVER)


def _create_failure(deployment: Deployment, error: EngineRefused) -> ServiceFailed:
    if error.status != GONE:
        return ServiceFailed(f"the service cannot be started: {error.reason}")
    image = deployment.image
    return ServiceFailed(
        f"the image {image.ref} ({image.id}) is gone: somebody removed it after it was built. Build it again: "
        "staging-manager build-images"
    )


def _memory_bytes(limits: ContainerLimits) -> int | None:
    return limits.memory_mb * MIB if limits.memory_mb else None


def _host_limits(limits: ContainerLimits) -> dict[str, int]:
    """As the engine wants them: billionths of a CPU, and memory with swap, which is as much: none besides."""
    found = {}
    if limits.cpus:
        found["nano_cpus"] = round(limits.cpus * 1e9)
    if memory_bytes := _memory_bytes(limits):
        found |= {"mem_limit": memory_bytes, "memswap_limit": memory_bytes}
    return found
