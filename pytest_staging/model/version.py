"""A version of the service: its metadata (`version.yaml`) and how it is built and started (`service.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

from pytest_staging.model.benchmark import STRICT

KIND = "generic-service"


class Status(str, Enum):
    """Where a version stands in its life."""

    STAGING = "staging"
    CANDIDATE = "candidate"
    BASELINE = "baseline"
    REJECTED = "rejected"
    ARCHIVED_BASELINE = "archived-baseline"


class Runtime(str, Enum):
    """jvm: heap and GC pauses come from the metrics endpoint. native: peak resident memory of the process."""

    JVM = "jvm"
    NATIVE = "native"


@dataclass(frozen=True, kw_only=True)
class VersionMetadata:
    """`versions/<slug>/version.yaml`. Instants are ISO 8601 in UTC, kept as text so that a rewrite changes nothing."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    slug: str
    kind: str
    status: Status
    parent: str | None
    created_at: str
    source_commit: str | None = None
    notes: str | None = None
    campaign_id: str | None = None
    verdict: str | None = None
    promoted_at: str | None = None
    archived_at: str | None = None
    rejected_at: str | None = None
    replaced: str | None = None
    override_why: tuple[str, ...] = ()


Argv = Annotated[tuple[str, ...], MinLen(1)]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How one mode becomes a container image. `dockerfile` lies in the snapshot, which is the build's context.

    `port` is where the service listens inside; `arguments` are the Dockerfile's own (ARG).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    dockerfile: Annotated[str, MinLen(1)] = "Dockerfile"
    port: Annotated[int, Ge(1), Le(65535)] = 8080
    arguments: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class ModeSpec:
    """One build mode of a service.

    `build` is a list of commands, `start` one command, each a list of arguments; no shell is involved. `{artifact}` is
    the folder that the build fills and the service starts from; `start` may also have `{host}`, `{port}`, `{snapshot}`.
    Targets that run processes need `start`, targets that run containers need `image`; a mode may have both.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    runtime: Runtime
    start: Argv | None = None
    image: ImageSpec | None = None
    build: tuple[Argv, ...] = ()
    health: str = "/healthz"
    metrics: str | None = None
    environment: Mapping[str, str] | None = None
    build_timeout_s: Annotated[float, Gt(0)] = 300.0
    ready_timeout_s: Annotated[float, Gt(0)] = 30.0
    stop_timeout_s: Annotated[float, Ge(0)] = 5.0


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """`versions/<slug>/snapshot/service.yaml`: the functions the service answers and its modes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    functions: Annotated[tuple[str, ...], MinLen(1)]
    modes: Annotated[Mapping[str, ModeSpec], MinLen(1)]
    schema_version: int = 1


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version as a campaign sees it: metadata, service, and the digest of its snapshot."""

    metadata: VersionMetadata
    service: ServiceSpec
    snapshot_fingerprint: str

    @property
    def slug(self) -> str:
        return self.metadata.slug
