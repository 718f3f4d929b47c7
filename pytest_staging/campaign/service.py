"""Starting one version's service and waiting until it, and nobody else, answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_staging import durable
from pytest_staging.model.errors import PortTaken, ServiceFailed
from pytest_staging.model.ports import Deployment, Service, Target
from pytest_staging.model.version import ModeSpec

if TYPE_CHECKING:
    import httpx

PORT_TRIES = 3
HEALTH_TIMEOUT_S = 1.0
FIRST_POLL_S, MAX_POLL_S = 0.005, 0.05


@dataclass(frozen=True)
class LaunchedService:
    """A service that answers its health check."""

    service: Service
    mode: ModeSpec
    log: Path

    @property
    def base_url(self) -> str:
        return self.service.base_url

    def require_alive(self) -> None:
        """Raises ServiceFailed when it has ended."""
        if self.service.poll() is not None:
            raise self.died()

    def died(self) -> ServiceFailed:
        how = self.service.ending()
        return ServiceFailed(f"the service {how}", durable.read_tail(self.log))


def launch(target: Target, deployment: Deployment) -> LaunchedService:
    """Deploys a version and waits until it is healthy.

    Raises ServiceFailed. A port that turns out to be taken is given up for another, a few times.
    """
    for remaining in reversed(range(PORT_TRIES)):
        try:
            return _launch_once(target, deployment)
        except PortTaken:
            if not remaining:
                raise
    raise AssertionError("unreachable")


def _launch_once(target: Target, deployment: Deployment) -> LaunchedService:
    deployed = target.deploy(deployment)
    service = LaunchedService(deployed, deployment.mode, deployment.log)
    try:
        _await_health(service)
    except BaseException:
        deployed.stop(0.0)
        raise
    return service


def _await_health(service: LaunchedService) -> None:
    import httpx

    deadline = time.monotonic() + service.mode.ready_timeout_s
    pause_s, last = FIRST_POLL_S, "no answer"
    with httpx.Client(base_url=service.base_url, timeout=HEALTH_TIMEOUT_S, trust_env=False, verify=False) as client:
        while time.monotonic() < deadline:
            if service.service.poll() is not None:
                raise _died_early(service, client)
            try:
                status = client.get(service.mode.health).status_code
                if 200 <= status < 300:
                    return _require_own_listener(service)
                last = f"{service.mode.health} answered {status}"
            except httpx.HTTPError as error:
                last = f"{type(error).__name__}: {error}"
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, MAX_POLL_S)
    raise ServiceFailed(
        f"the service was not healthy within {service.mode.ready_timeout_s:g} s ({last})",
        durable.read_tail(service.log),
    )


def _require_own_listener(service: LaunchedService) -> None:
    # A healthy answer from somebody else's process would be measured as if it were this version's.
    if service.service.owns_endpoint() is False:
        raise PortTaken(f"another process answers on its port: {service.base_url}", durable.read_tail(service.log))


def _died_early(service: LaunchedService, client: httpx.Client) -> ServiceFailed:
    import httpx

    failure = service.died()
    try:
        client.get(service.mode.health)
    except httpx.HTTPError:
        return ServiceFailed(f"{failure.reason} before it was healthy", failure.log_tail)
    return PortTaken(f"{failure.reason}: its port was taken by another process", failure.log_tail)
