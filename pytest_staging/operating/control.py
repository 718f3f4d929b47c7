"""What a command on a capacity profile works with: the description, one Compose project, the engine, the history."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_staging.capacity.readiness import Matrix, Wanted, judge
from pytest_staging.capacity.resolving import System
from pytest_staging.capacity.showing import Invocation, project_of
from pytest_staging.capacity.validating import PLACEHOLDER, Description, resolve_profile, validate
from pytest_staging.engine import Engine
from pytest_staging.model.capacity import CapacityProfile, ContainerFacts
from pytest_staging.model.errors import CapacityMismatch, UsageProblem
from pytest_staging.operating.history import History
from pytest_staging.store import Workspace
from pytest_staging.targets.compose_program import ComposeProgram, ComposeProject
from pytest_staging.targets.compose_reading import read_containers, remove_project
from pytest_staging.targets.local import LocalTarget


@dataclass
class Control:
    """`say` takes lines for people; a dry run says the commands and runs none."""

    workspace: Workspace
    description: Description
    invocation: Invocation
    say: Callable[[str], None]
    find_program: Callable[[], ComposeProgram]
    engine: Engine = field(default_factory=Engine)
    dry_run: bool = False
    ours: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def project(self) -> str:
        """The Compose project's name."""
        return project_of(self.description.capacity, self.invocation.environment)

    @property
    def folder(self) -> Path:
        """Where the project's history and evidence lie."""
        return self.workspace.root / "capacity" / self.project

    @cached_property
    def history(self) -> History:
        return History(self.folder)

    @cached_property
    def program(self) -> ComposeProgram:
        """Raises ComposeMissing."""
        return self.find_program()

    def profile(self, name: str) -> CapacityProfile:
        return self.description.capacity.profiles[name]

    def system(self, profile: str) -> System:
        """The compose files as that profile sees them."""
        return resolve_profile(self.description, profile, self.invocation.environment, self.ours)

    def wanted(self, profile: str) -> list[Wanted]:
        """What the profile wants to run."""
        spec, active = self.profile(profile), self.system(profile).active(self.profile(profile).compose_profiles)
        return [
            Wanted(
                name,
                active[name].replicas or 0 if name in active else 1,
                name in spec.core_services,
                name in active and active[name].has_health_check,
            )
            for name in spec.services
        ]

    def containers(self) -> list[ContainerFacts]:
        """Raises EngineMissing or EngineLost."""
        self.engine.require_answer()
        return read_containers(self.engine, self.project)

    def matrix(self, profile: str) -> Matrix:
        """Readiness now. Raises EngineMissing or EngineLost."""
        return judge(profile, self.invocation, self.wanted(profile), self.containers())

    def require_fitting(self, profile: str) -> None:
        """Raises UsageProblem for variables that are not set, CapacityMismatch with every mismatch."""
        environment = self.invocation.environment
        if missing := self.description.missing(environment, self.ours):
            names = ", ".join(missing)
            raise UsageProblem(f"environment {environment} needs {names} to be set. Export it, and run again.")
        found = validate(self.description, profile, environment, self.ours)
        if found:
            lines = "\n".join(f"  {one}" for one in found)
            raise CapacityMismatch(f"profile {profile} does not fit its compose files; nothing was started\n{lines}")

    def compose(self, profile: str) -> ComposeProject:
        """The project as that profile sees it."""
        environment = self.invocation.environment
        variables = self.description.variables(profile, environment, {})
        # Compose reads every file whole also in order to stop: what is not set must not keep it from that.
        variables |= dict.fromkeys(self.description.missing(environment, self.ours), PLACEHOLDER)
        return ComposeProject(
            self.program, LocalTarget(), self.project, self.description.paths(), variables, self.engine.address
        )

    def run(self, profile: str, arguments: Sequence[str], **how: Any) -> None:
        """Says the command; runs it unless this is a dry run. Raises ComposeFailed."""
        project = self.compose(profile)
        shown = {key: value for key, value in how.items() if key in ("profiles", "overlay")}
        self.say(f"+ {project.shown(arguments, **shown)}")
        if not self.dry_run:
            project.run(arguments, **how)

    def every_profile(self, profile: str) -> list[str]:
        """All that the compose files know: a command that takes things away has to name them."""
        return sorted(self.system(profile).profiles)

    def remove_left_over(self) -> list[str]:
        """What Compose left of the project, by its labels."""
        return remove_project(self.engine, self.project)
