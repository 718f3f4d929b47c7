"""The inventory (`targets.yaml`): the hosts on which cells may run, and how each is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le, MinLen

from pytest_staging.model.benchmark import STRICT

WORK_DIRECTORY = "/var/tmp/pytest-staging"


class Lifecycle(str, Enum):
    """external: a host that is given, never created or deleted. multipass: a VM that is launched for the campaign."""

    EXTERNAL = "external"
    MULTIPASS = "multipass"


class Traffic(str, Enum):
    """direct: the load goes straight to the host's address. forwarded: through a port that SSH forwards."""

    DIRECT = "direct"
    FORWARDED = "forwarded"


class HostKeys(str, Enum):
    """reject: a host whose key is not in known_hosts is refused. accept-new: its key is added at the first contact."""

    REJECT = "reject"
    ACCEPT_NEW = "accept-new"


@dataclass(frozen=True, kw_only=True)
class VmSpec:
    """What a launched VM is given: CPUs, memory and disk in gigabytes, and whether it is kept when all is over."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    image: str = "lts"
    cpus: Annotated[int, Ge(1)] = 2
    memory_gb: Annotated[int, Ge(1)] = 2
    disk_gb: Annotated[int, Ge(4)] = 10
    keep: bool = False


@dataclass(frozen=True, kw_only=True)
class HostSpec:
    """One host. What is not given here is what ~/.ssh/config says about `address`, or about the host's name.

    `slots` is how many cells may be measured there at once: more than one only where they cannot disturb each other.
    `generator` names what loads this one, alone or several together; None is the machine on which pytest runs.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    address: str | None = None
    user: str | None = None
    port: Annotated[int, Ge(1), Le(65535)] | None = None
    key: str | None = None
    known_hosts: str | None = None
    host_keys: HostKeys = HostKeys.REJECT
    slots: Annotated[int, Ge(1), Le(64)] = 1
    labels: Mapping[str, str] | None = None
    lifecycle: Lifecycle = Lifecycle.EXTERNAL
    vm: VmSpec | None = None
    work_directory: Annotated[str, MinLen(1)] = WORK_DIRECTORY
    traffic: Traffic = Traffic.DIRECT
    service_address: str | None = None
    generator: str | tuple[str, ...] | None = None

    @property
    def generators(self) -> tuple[str, ...]:
        """Names of what loads it; none is this machine."""
        if self.generator is None:
            return ()
        return (self.generator,) if isinstance(self.generator, str) else self.generator


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec:
    """A host that sends load. It is reached as the others are.

    `python` is its interpreter, for Locust one that has it. `peer_address` is where other generators reach it, when
    that is not `address`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    address: str | None = None
    user: str | None = None
    port: Annotated[int, Ge(1), Le(65535)] | None = None
    key: str | None = None
    known_hosts: str | None = None
    host_keys: HostKeys = HostKeys.REJECT
    labels: Mapping[str, str] | None = None
    work_directory: Annotated[str, MinLen(1)] = WORK_DIRECTORY
    python: Annotated[str, MinLen(1)] = "python3"
    peer_address: str | None = None

    def as_host(self) -> HostSpec:
        """What a connection, a lease and a clean-up ask of it."""
        return HostSpec(
            address=self.address,
            user=self.user,
            port=self.port,
            key=self.key,
            known_hosts=self.known_hosts,
            host_keys=self.host_keys,
            labels=self.labels,
            work_directory=self.work_directory,
            service_address=self.peer_address,
        )


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The hosts by name, in the order of the file, and the generators that load some of them.

    `generator_slots`: loads that this machine may send at once.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    hosts: Annotated[Mapping[str, HostSpec], MinLen(1)]
    generators: Mapping[str, GeneratorSpec] = field(default_factory=dict)
    generator_slots: Annotated[int, Ge(1), Le(64)] | None = None
    schema_version: int = 1
