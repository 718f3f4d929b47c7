"""What Compose resolved, made into a stack of a cell's own: on loopback, at free ports, with a version's image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_staging.capacity.merging import dependencies, named_values
from pytest_staging.model.benchmark import ContainerLimits
from pytest_staging.targets.container import LOOPBACK, MIB

DROPPED = ("build", "container_name", "profiles")


@dataclass(frozen=True, kw_only=True)
class UnderTest:
    """The service under test: its name, its port inside, the image and environment of the version."""

    service: str
    port: int
    image_id: str
    environment: Mapping[str, str]
    limits: ContainerLimits


def build_stack(
    config: Mapping[str, Any], services: Sequence[str], tested: UnderTest, labels: Mapping[str, str]
) -> dict[str, Any]:
    """One compose file with those services only. What it publishes is on the loopback address, at any free port."""
    found = {name: _service(one, labels) for name, one in (config.get("services") or {}).items() if name in services}
    found[tested.service] = _tested(found[tested.service], tested)
    for one in found.values():
        needed = {name: how for name, how in dependencies(one).items() if name in found}
        if tested.service in needed:  # its health check is off: programs in it would disturb what is measured
            needed[tested.service] = {"condition": "service_started"}
        one.pop("depends_on", None)
        if needed:
            one["depends_on"] = needed
    stack = {key: value for key, value in config.items() if key not in ("services", "name", "networks", "volumes")}
    networks = {"default": None, **(config.get("networks") or {})}
    return {
        **stack,
        "services": found,
        "networks": {name: _shared(one, labels) for name, one in networks.items()},
        "volumes": {name: _shared(one, labels) for name, one in (config.get("volumes") or {}).items()},
    }


def _service(raw: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    kept = {key: value for key, value in raw.items() if key not in DROPPED}
    kept["labels"] = {**named_values(raw.get("labels")), **labels}
    kept["restart"] = "no"  # a crash is to be seen
    if raw.get("ports"):
        kept["ports"] = [_loopback(one) for one in raw["ports"]]
    return kept


def _tested(raw: Mapping[str, Any], tested: UnderTest) -> dict[str, Any]:
    # What comes from Compose is escaped already; what comes from a version has no variables in it.
    own = {name: value.replace("$", "$$") for name, value in tested.environment.items()}
    environment = {**named_values(raw.get("environment")), **own}
    service = {
        **raw,
        "image": tested.image_id,
        "environment": environment,
        "healthcheck": {"disable": True},
        "tty": False,
        "ports": [*_others(raw.get("ports") or (), tested.port), f"{LOOPBACK}::{tested.port}"],
    }
    for key in ("scale", "deploy"):  # one container is measured
        service.pop(key, None)
    if tested.limits.cpus:
        service["cpus"] = tested.limits.cpus
    if tested.limits.memory_mb:
        service |= {"mem_limit": tested.limits.memory_mb * MIB, "memswap_limit": tested.limits.memory_mb * MIB}
    return service


def _loopback(port: Any) -> str:
    """`8080:80/udp`, `127.0.0.1:80:80`, `80`, or the long form."""
    if isinstance(port, Mapping):
        inside, protocol = str(port.get("target")), str(port.get("protocol") or "tcp")
    else:
        text, _, protocol = str(port).partition("/")
        inside = text.rpartition(":")[2]
    return f"{LOOPBACK}::{inside}/{protocol or 'tcp'}"


def _others(ports: Sequence[Any], tested: int) -> list[Any]:
    return [one for one in ports if _loopback(one) != f"{LOOPBACK}::{tested}/tcp"]


def _shared(raw: Mapping[str, Any] | None, labels: Mapping[str, str]) -> dict[str, Any]:
    """A network or volume: of this cell's alone, unless it is somebody else's."""
    block = dict(raw or {})
    if block.get("external"):
        return block
    block.pop("name", None)
    return {**block, "labels": {**named_values(block.get("labels")), **labels}}
