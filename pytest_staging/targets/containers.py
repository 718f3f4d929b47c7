"""Containers of one engine, wherever that is: made for cells, labelled, and removed when nobody looks after them."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pytest_staging.engine import GONE, LABEL, Engine
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.model.building import Image
from pytest_staging.model.errors import EngineRefused, ServiceFailed, StagingError
from pytest_staging.model.ports import Deployment
from pytest_staging.model.version import ModeSpec
from pytest_staging.targets.container import KEPT, MIB, OVER, ContainerService, Ground, Made

LOG_OPTIONS = {"max-size": "16m"}  # what `docker logs` shows of a kept one; the cell has its own log
EVERYWHERE = "0.0.0.0"


class Containers:
    """What a target has its engine do. `lease_labels` are those by which leftovers of a lease are found."""

    def __init__(self, engine: Engine, lease_labels: Callable[[], Mapping[str, str]]) -> None:
        self._engine = engine
        self._lease_labels = lease_labels

    def deploy(self, deployment: Deployment, ground: Ground) -> ContainerService:
        """Starts a cell's container.

        Raises ServiceFailed with the engine's words, PortTaken, EngineLost or ConnectionLost; nothing is left then.
        """
        made = self._create(deployment, ground.listen_address())
        try:
            service = ContainerService(self._engine, made, deployment.log, ground)
        except BaseException:
            self._remove(made.id)
            raise
        try:
            service.start()
        except BaseException:
            service.discard()
            raise
        return service

    def reap(self) -> None:
        """Removes what a holder of this lease left behind. Kept containers are somebody's to look at."""
        api = self._engine.client.api
        filters = {"label": [f"{name}={value}" for name, value in self._lease_labels().items()]}
        for found in self._engine.call("list containers", api.containers, all=True, filters=filters):
            if not any(name.startswith(f"/{KEPT}") for name in found["Names"]):
                self._engine.call("remove", api.remove_container, found["Id"], v=True, force=True, accept=OVER)
        for found in self._engine.call("list networks", api.networks, filters=filters):
            self._engine.call("remove network", api.remove_network, found["Id"], accept=(GONE,))

    def facts(self) -> Mapping[str, Any]:
        """The engine's version, and what it can limit; nothing when it does not answer."""
        with suppress(StagingError):
            facts = self._engine.facts
            return {"engine": f"Docker {facts.version}", "container_limits": list(facts.limits)}
        return {}

    def _create(self, deployment: Deployment, address: str) -> Made:
        spec, limits = deployment.mode.image, deployment.limits
        if spec is None:
            raise ServiceFailed(f"{deployment.image.ref} cannot be run: its mode {unfit_reason(deployment.mode)}")
        self._require_enforceable(limits)
        purpose = re.sub(r"[^\w.-]", "-", f"{deployment.campaign_id}-{deployment.cell_id}", flags=re.ASCII)
        try:
            answer = self._engine.call(
                "create container",
                self._engine.client.api.create_container,
                deployment.image.id,  # a tag may have moved since
                name=f"staging-{purpose}-{uuid.uuid4().hex[:8]}",
                **self._options(deployment, spec.port, address),
            )
        except EngineRefused as error:
            raise _create_failure(deployment, error) from error
        return Made(answer["Id"], purpose, spec.port, _memory_bytes(limits))

    def _options(self, deployment: Deployment, port: int, address: str) -> dict[str, Any]:
        given = {**(deployment.mode.environment or {}), **deployment.environment}
        purpose = {f"{LABEL}.campaign": deployment.campaign_id, f"{LABEL}.cell": deployment.cell_id}
        return {
            "ports": [port],
            "environment": {**given, "STAGING_HOST": EVERYWHERE, "STAGING_PORT": str(port)},
            "labels": {**purpose, **self._lease_labels()},
            # The engine's health checks would run programs inside the container while it is measured.
            "healthcheck": {"test": ["NONE"]},
            "host_config": self._engine.client.api.create_host_config(
                port_bindings={port: (address, None)},
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

    def _remove(self, container_id: str) -> None:
        with suppress(StagingError):
            remove = self._engine.client.api.remove_container
            self._engine.call("remove", remove, container_id, v=True, force=True, accept=OVER)


def unfit_reason(mode: ModeSpec) -> str | None:
    """Why a mode cannot run in a container, or None."""
    return None if mode.image else "has no image"


def image_gone(image: Image, names: Mapping[str, str]) -> ServiceFailed:
    """The failure of a cell whose image is not there any more. `names`: version and mode, as a deployment has them."""
    command = ["staging-manager", "build-images", "--target", "docker"]
    for option, name in (("--slug", "STAGING_VERSION"), ("--mode", "STAGING_MODE")):
        command += [option, names[name]] if name in names else []
    return ServiceFailed(
        f"the image {image.ref} ({image.id}) is gone: somebody removed it after it was built. Build it again: "
        f"{shlex.join(command)}"
    )


def _create_failure(deployment: Deployment, error: EngineRefused) -> ServiceFailed:
    if error.status != GONE:
        return ServiceFailed(f"the service cannot be started: {error.reason}")
    return image_gone(deployment.image, deployment.environment)


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
