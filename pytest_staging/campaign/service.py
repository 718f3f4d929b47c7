"""Starting one version's service and waiting until it, and nobody else, answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import PortTaken, ServiceFailed
from pytest_staging.model.ports import Command, Process, Target
from pytest_staging.model.version import ModeSpec

PORT_TRIES = 3
HEALTH_TIMEOUT_S = 1.0
FIRST_POLL_S, MAX_POLL_S = 0.005, 0.05


@dataclass(frozen=True)
class LaunchedService:
    """A service that answers its health check."""

    process: Process
    mode: ModeSpec
    base_url: str
    log: Path

    def died(self, code: int) -> ServiceFailed:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return ServiceFailed(f"the service {how}", durable.read_tail(self.log))


def launch(
    target: Target, mode: ModeSpec, artifact: Path, snapshot: Path, folder: Path, environment: Mapping[str, str]
) -> LaunchedService:
    """Starts `mode` from `artifact`, its output going to `folder`, and waits until it is healthy.

    Raises ServiceFailed. A port that turns out to be taken is given up for another, a few times.
    """
    for remaining in reversed(range(PORT_TRIES)):
        try:
            return _launch_once(target, mode, artifact, snapshot, folder, environment)
        except PortTaken:
            if not remaining:
                raise
    raise AssertionError("unreachable")


def _launch_once(
    target: Target, mode: ModeSpec, artifact: Path, snapshot: Path, folder: Path, environment: Mapping[str, str]
) -> LaunchedService:
    port, host = target.free_port(), target.address()
    values = {"{artifact}": str(artifact), "{host}": host, "{port}": str(port), "{snapshot}": str(snapshot)}
    command = Command(
        argv=[_filled(word, values) for word in mode.start],
        cwd=artifact,
        log=folder / "service.log",
        env={**(mode.environment or {}), **environment, "STAGING_HOST": host, "STAGING_PORT": str(port)},
    )
    try:
        process = target.start(command)
    except OSError as error:
        raise ServiceFailed(f"the service cannot be started: {error.strerror}: {command.argv[0]}") from error
    service = LaunchedService(process, mode, f"http://{host}:{port}", command.log)
    try:
        _await_health(service, port)
    except BaseException:
        process.stop(0.0)
        raise
    return service


def _await_health(service: LaunchedService, port: int) -> None:
    import httpx

    deadline = time.monotonic() + service.mode.ready_timeout_s
    pause_s, last = FIRST_POLL_S, "no answer"
    with httpx.Client(base_url=service.base_url, timeout=HEALTH_TIMEOUT_S, trust_env=False, verify=False) as client:
        while time.monotonic() < deadline:
            if (code := service.process.poll()) is not None:
                raise _died_early(service, code, client)
            try:
                status = client.get(service.mode.health).status_code
                if 200 <= status < 300:
                    return _require_own_listener(service, port)
                last = f"{service.mode.health} answered {status}"
            except httpx.HTTPError as error:
                last = f"{type(error).__name__}: {error}"
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, MAX_POLL_S)
    raise ServiceFailed(
        f"the service was not healthy within {service.mode.ready_timeout_s:g} s ({last})",
        durable.read_tail(service.log),
    )


def _require_own_listener(service: LaunchedService, port: int) -> None:
    # A healthy answer from somebody else's process would be measured as if it were this version's.
    if service.process.listens_on(port) is False:
        raise PortTaken(f"another process answers on port {port}", durable.read_tail(service.log))


def _died_early(service: LaunchedService, code: int, client: object) -> ServiceFailed:
    import httpx

    failure = service.died(code)
    assert isinstance(client, httpx.Client)
    try:
        client.get(service.mode.health)
    except httpx.HTTPError:
        return ServiceFailed(f"{failure.reason} before it was healthy", failure.log_tail)
    return PortTaken(f"{failure.reason}: its port was taken by another process", failure.log_tail)


def _filled(word: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word
