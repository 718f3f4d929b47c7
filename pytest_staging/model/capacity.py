"""Capacity profiles (`deploy/capacity.yaml`): named ways to run a system of Compose services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

from pytest_staging.model.benchmark import STRICT

Name = Annotated[str, MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A service of the compose files, and the port that it listens on inside its container."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    service: Name
    port: Annotated[int, Ge(1), Le(65535)]


@dataclass(frozen=True, kw_only=True)
class BrokerSpec:
    """Where RabbitMQ's management API is; its login stands in the variables of these names.

    `lag_s` is how old what it tells may be: a queue has to look empty for so long.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    service: Name
    port: Annotated[int, Ge(1), Le(65535)] = 15672
    user_env: Name
    password_env: Name
    vhost: Name = "/"
    lag_s: Annotated[float, Ge(0)] = 5.0


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """An environment such as dev or prod.

    `variables` are set for Compose; `required` are variables that the operator's own environment has to hold.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    variables: Mapping[str, str] = field(default_factory=dict)
    required: tuple[Name, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CapacityProfile:
    """What runs under one name.

    `services` are all that must run, `core` those without which the system does not work (default: all of them).
    `compose_profiles` are switched on, `variables` set for Compose, `replicas` are how many containers the compose
    files must make of a service with that, `queues` what evidence looks at.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    description: str = ""
    services: Annotated[tuple[Name, ...], MinLen(1)]
    core: tuple[Name, ...] = ()
    compose_profiles: tuple[Name, ...] = ()
    replicas: Mapping[str, Annotated[int, Ge(0)]] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    queues: tuple[Name, ...] = ()
    ready_timeout_s: Annotated[float, Gt(0)] | None = None

    @property
    def core_services(self) -> tuple[str, ...]:
        return self.core or self.services


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The whole file. Paths of compose files are relative to the folder that it lies in."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    project: Name
    compose_files: Annotated[tuple[Name, ...], MinLen(1)]
    environments: Annotated[Mapping[str, EnvironmentSpec], MinLen(1)]
    profiles: Annotated[Mapping[str, CapacityProfile], MinLen(1)]
    build_overlay: Name | None = None
    ready_timeout_s: Annotated[float, Gt(0)] = 120.0
    service_under_test: Endpoint | None = None
    broker: BrokerSpec | None = None
    schema_version: int = 1

    def ready_timeout_of(self, profile: str) -> float:
        """Seconds within which a profile must be ready."""
        return self.profiles[profile].ready_timeout_s or self.ready_timeout_s


@dataclass(frozen=True, order=True)
class Mismatch:
    """One thing in which a profile and its compose files do not agree, or that is wrong in one of them."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class ContainerFacts:
    """What the engine says of a container of a Compose project. `up_s` is how long it has run since its last start.

    `health` is empty where it has no health check; `error` is why the engine could not start it; `ports` are those
    published, by the one inside.
    """

    id: str
    name: str
    service: str
    state: str
    health: str = ""
    health_output: str = ""
    exit_code: int = 0
    error: str = ""
    restarts: int = 0
    restarts_itself: bool = False
    up_s: float = 0.0
    ports: Mapping[int, int] = field(default_factory=dict)
