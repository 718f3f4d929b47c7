"""Which adapters there are: a name-to-import table for each kind. Nothing is imported before it is chosen."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from pytest_staging.model.errors import UsageProblem

TARGETS = {
    "local": "pytest_staging.targets.local:LocalTarget",
    "docker": "pytest_staging.targets.docker:DockerTarget",
    "ssh": "pytest_staging.targets.ssh:SshTarget",
    "ssh-docker": "pytest_staging.targets.ssh_docker:SshDockerTarget",
    "script": "pytest_staging.targets.script:ScriptTarget",
    "compose": "pytest_staging.targets.compose:ComposeTarget",
}
HOST_TARGETS = ("ssh", "ssh-docker")
BUILDERS = {
    "artifact": "pytest_staging.images.artifact:ArtifactBuilder",
    "docker": "pytest_staging.images.container:ClassicBuilder",
    "buildkit": "pytest_staging.images.buildkit:BuildKitBuilder",
}
LOAD_TOOLS = {
    "locust": "pytest_staging.loadtools.locust:LocustTool",
    "k6": "pytest_staging.loadtools.k6:K6Tool",
    "wrk": "pytest_staging.loadtools.wrk:WrkTool",
    "h2load": "pytest_staging.loadtools.h2load:H2loadTool",
    "command": "pytest_staging.loadtools.command:CommandTool",
}
METRIC_SOURCES = {
    "service": "pytest_staging.metrics.prometheus:ServiceMetrics",
    "process": "pytest_staging.metrics.process:ProcessMetrics",
    "command": "pytest_staging.metrics.command:CommandMetrics",
    "rabbitmq": "pytest_staging.metrics.rabbitmq:RabbitMetrics",
}


def load_adapter(table: dict[str, str], what: str, name: str) -> Callable[..., Any]:
    """The class behind a name. Raises UsageProblem naming the known ones; `what` was to be chosen."""
    require_known(table, what, name)
    module, _, attribute = table[name].partition(":")
    return cast(Callable[..., Any], getattr(import_module(module), attribute))


def require_known(table: dict[str, str], what: str, name: str) -> None:
    """Raises UsageProblem naming the nearest and all known ones."""
    if name not in table:
        near = difflib.get_close_matches(name, table, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageProblem(f"{what}: {name!r} is not known. {hint}Known: {', '.join(table)}.")
