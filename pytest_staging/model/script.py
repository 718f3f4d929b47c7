"""Scripts of the user's that deploy a version and destroy it again (`deploy/script-target.yaml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from pytest_staging.model.benchmark import STRICT
from pytest_staging.model.version import Argv


class Takes(str, Enum):
    """What the scripts deploy: a container image, or the folder of files that the build commands fill."""

    IMAGE = "image"
    FILES = "files"


@dataclass(frozen=True, kw_only=True)
class ScriptSpec:
    """Commands, each a list of arguments; no shell is involved. What they are given and must print: docs/k3s.md.

    `remember` are patterns of variables that a destroy needs after the campaign that deployed has died: they are
    written to disk. Durations in seconds.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    deploy: Argv
    destroy: Argv
    status: Argv | None = None
    log: Argv | None = None
    memory: Argv | None = None
    takes: Takes = Takes.IMAGE
    environment: Mapping[str, str] | None = None
    remember: tuple[str, ...] = ("E2E_*",)
    deploy_timeout_s: Annotated[float, Gt(0)] = 1800.0
    destroy_timeout_s: Annotated[float, Gt(0)] = 300.0
    command_timeout_s: Annotated[float, Gt(0)] = 60.0
    status_every_s: Annotated[float, Gt(0)] = 5.0
    schema_version: int = 1
