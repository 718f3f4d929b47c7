"""Cells as containers of this machine's Docker engine, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pytest_staging.engine import LABEL, Engine
from pytest_staging.model.errors import EngineMissing, StagingError
from pytest_staging.model.ports import Command, Deployment
from pytest_staging.model.version import ModeSpec
from pytest_staging.targets.container import ContainerService, ThisMachine
from pytest_staging.targets.containers import Containers, unfit_reason
from pytest_staging.targets.local import LocalProcess, LocalTarget


class DockerTarget:
    """Containers beside the processes of `local`, whose lease is this target's too: nothing else is measured meanwhile.

    The load reaches a container through the engine's own proxy on the loopback address, both versions alike.
    """

    name = "docker"

    def __init__(self, local: LocalTarget | None = None, engine: Engine | None = None) -> None:
        self._local = local or LocalTarget()
        self._engine = engine or Engine()
        self._containers = Containers(self._engine, self.lease_labels)

    def require_ready(self) -> None:
        """Raises EngineMissing when no engine answers, or one that is on another machine."""
        if not self._engine.is_local:
            raise EngineMissing(
                f"the Docker engine at {self._engine.address} is on another machine, and the target docker measures on "
                "this one. Unset DOCKER_HOST or choose another context (docker context use default)."
            )
        self._engine.require_answer()

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        return unfit_reason(mode)

    @contextmanager
    def lease(self, holder: str, timeout_s: float) -> Iterator[None]:
        """The host's. Raises LeaseTimeout; EngineMissing or EngineLost when leftovers cannot be looked for."""
        with self._local.lease(holder, timeout_s):
            self._containers.reap()
            try:
                yield
            finally:
                # An interrupt between a start and its clean-up leaves nothing either. An engine that does not answer
                # now is no reason to hide what happened; who takes the lease next looks again.
                with suppress(StagingError):
                    self._containers.reap()

    def facts(self) -> Mapping[str, Any]:
        """Those of the host; the engine's version, and what it can limit (none of it when it does not answer)."""
        return {**self._local.facts(), **self._containers.facts()}

    def start(self, command: Command) -> LocalProcess:
        return self._local.start(command)

    def deploy(self, deployment: Deployment) -> ContainerService:
        """Raises ServiceFailed with the engine's words, PortTaken, or EngineLost; nothing is left then."""
        return self._containers.deploy(deployment, ThisMachine())

    def lease_labels(self) -> dict[str, str]:
        """By which leftovers are found.

        An engine may serve several CI jobs, each with a /tmp of its own: the path alone would name the leases of all.
        """
        path = self._local.lease_path
        folder = ""
        with suppress(OSError):
            status = path.parent.stat()
            folder = f"{status.st_dev}:{status.st_ino}"
        return {f"{LABEL}.lease": str(path), f"{LABEL}.lease-folder": folder}
