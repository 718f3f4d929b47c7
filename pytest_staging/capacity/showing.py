"""What a profile is and which commands run it, as text and as data: the same input gives the same bytes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_staging.model.capacity import Capacity

PROGRAM = "staging-manager"
STEPS = ("validate", "start", "status", "evidence", "rollback", "stop", "clean")
ENDING = ("stop", "clean")
SAYS = {
    "validate": "check the compose files; no container is needed",
    "start": "start the profile and wait until it is ready",
    "status": "readiness: 0 healthy, 3 degraded, 1 unhealthy",
    "evidence": "readiness, queue drain and hashes in one folder",
    "rollback": "return to the profile that ran before",
    "stop": "stop the containers and keep them",
    "clean": "remove containers, networks and volumes",
}


@dataclass(frozen=True)
class Invocation:
    """What stands in every command besides the step: `before` the word capacity, and `after` the environment."""

    environment: str
    before: Sequence[str] = ()
    after: Sequence[str] = ()

    def argv(self, step: str, profile: str) -> list[str]:
        """The command of one step."""
        return [PROGRAM, *self.before, "capacity", step, profile, "--env", self.environment, *self.after]

    def line(self, step: str, profile: str) -> str:
        """The same for a shell."""
        return shlex.join(self.argv(step, profile))


def project_of(capacity: Capacity, environment: str) -> str:
    """The name of the Compose project."""
    return f"{capacity.project}-{environment}".lower()


def describe(capacity: Capacity, profile: str, invocation: Invocation) -> dict[str, Any]:
    """What `show --json` prints."""
    spec = capacity.profiles[profile]
    environment = capacity.environments[invocation.environment]
    return {
        "schema_version": 1,
        "profile": profile,
        "environment": invocation.environment,
        "project": project_of(capacity, invocation.environment),
        "description": spec.description,
        "compose_files": list(capacity.compose_files),
        "build_overlay": capacity.build_overlay,
        "compose_profiles": list(spec.compose_profiles),
        "services": list(spec.services),
        "core": list(spec.core_services),
        "replicas": dict(sorted(spec.replicas.items())),
        "variables": dict(sorted(spec.variables.items())),
        "required_variables": list(environment.required),
        "queues": list(spec.queues),
        "ready_timeout_s": capacity.ready_timeout_of(profile),
        "commands": {step: invocation.argv(step, profile) for step in STEPS},
    }


def render(capacity: Capacity, profile: str, invocation: Invocation) -> str:
    """The same for people, and for a shell: all that is no command is a comment."""
    told = describe(capacity, profile, invocation)
    facts = {
        "profile": " - ".join(filter(None, (profile, told["description"]))),
        "environment": told["environment"],
        "compose files": ", ".join(told["compose_files"]),
        "build overlay": told["build_overlay"] or "none",
        "compose profiles": ", ".join(told["compose_profiles"]) or "none",
        "services": ", ".join(told["services"]),
        "core": ", ".join(told["core"]),
        "replicas": ", ".join(_pairs(told["replicas"])) or "as the compose files say",
        "variables": ", ".join(_pairs(told["variables"])) or "none",
        "set these first": ", ".join(told["required_variables"]) or "none",
        "queues": ", ".join(told["queues"]) or "none",
    }
    lines = [f"# {name}: {_one_line(value)}" for name, value in facts.items()]
    for step in STEPS:
        command = shlex.join(told["commands"][step])
        # What takes the system down is not run by whoever pastes the whole text.
        lines += ["", f"# {step}: {SAYS[step]}", f"# {command}" if step in ENDING else command]
    return "\n".join(lines) + "\n"


def matrix_rows(capacity: Capacity) -> list[dict[str, Any]]:
    """What `list` prints: a row for each profile, in the order of the file."""
    return [
        {
            "profile": name,
            "description": spec.description,
            "services": list(spec.services),
            "compose_profiles": list(spec.compose_profiles),
            "replicas": dict(sorted(spec.replicas.items())),
            "variables": dict(sorted(spec.variables.items())),
        }
        for name, spec in capacity.profiles.items()
    ]


def row_lines(row: Mapping[str, Any]) -> list[str]:
    """What `list` says of a profile besides its name, as lines; what it does not declare has none."""
    facts = {
        "services": ", ".join(row["services"]),
        "compose profiles": ", ".join(row["compose_profiles"]),
        "replicas": ", ".join(_pairs(row["replicas"])),
        "variables": ", ".join(_pairs(row["variables"])),
    }
    return [
        *filter(None, [_one_line(row["description"])]),
        *(f"{name}: {text}" for name, text in facts.items() if text),
    ]


def variables_text(variables: Mapping[str, str]) -> str:
    """`A=1 B=2`, or a dash."""
    return " ".join(_pairs(variables)) or "-"


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
