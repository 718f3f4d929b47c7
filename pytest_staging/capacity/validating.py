"""A profile against the compose files: everything in which they do not agree, at once, each with its file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_staging.capacity.interpolation import names_in
from pytest_staging.capacity.merging import dependencies
from pytest_staging.capacity.resolving import Read, ResolvedService, System, resolve
from pytest_staging.model.capacity import Capacity, CapacityProfile, Mismatch
from pytest_staging.yamltext import YamlText

PLACEHOLDER = "staging-required"
SENTINEL = "staging-sentinel"


@dataclass(frozen=True)
class Description:
    """capacity.yaml as it was read: `folder` is what its paths are relative to, `root` what people see paths from."""

    capacity: Capacity
    text: YamlText
    folder: Path
    shown: str
    root: Path
    read: Read

    def mismatch(self, message: str, *path: str | int) -> Mismatch:
        """One that points to a key of capacity.yaml."""
        return Mismatch(self.shown, self.text.line_of(path), message)

    def show(self, path: Path) -> str:
        """A path as people see it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def paths(self, build: bool = False) -> list[Path]:
        """The compose files, with the build overlay where it is asked for."""
        names = [*self.capacity.compose_files, *([self.capacity.build_overlay] if build else [])]
        return [self.folder / str(name) for name in names]

    def variables(self, profile: str, environment: str, ours: Mapping[str, str]) -> dict[str, str]:
        """What Compose sees: the operator's environment, then the environment's variables, then the profile's."""
        spec = self.capacity.environments[environment]
        return {**ours, **spec.variables, **self.capacity.profiles[profile].variables}

    def missing(self, environment: str, ours: Mapping[str, str]) -> list[str]:
        """The variables that the operator has yet to set."""
        return [name for name in self.capacity.environments[environment].required if not ours.get(name)]


def resolve_profile(
    description: Description, profile: str, environment: str, ours: Mapping[str, str], build: bool = False
) -> System:
    """The system as that profile would be started. A required variable that is not set has a placeholder."""
    variables = description.variables(profile, environment, ours)
    variables |= dict.fromkeys(description.missing(environment, ours), PLACEHOLDER)
    return resolve(description.paths(build), variables, description.read, description.show)


def validate(description: Description, profile: str, environment: str, ours: Mapping[str, str]) -> list[Mismatch]:
    """Empty when all agree. No engine is asked, and nothing is written."""
    system = resolve_profile(description, profile, environment, ours)
    found = [*system.mismatches, *_Check(description, profile, environment, ours, system).run()]
    found += _overlay_mismatches(description, profile, environment, ours, system)
    return sorted(set(found), key=lambda one: (one.file, one.line or 0, one.message))


class _Check:
    def __init__(
        self, description: Description, profile: str, environment: str, ours: Mapping[str, str], system: System
    ) -> None:
        self._description, self._environment, self._ours = description, environment, ours
        self._name, self._system = profile, system
        self._profile: CapacityProfile = description.capacity.profiles[profile]
        self._active = system.active(self._profile.compose_profiles)

    def run(self) -> Iterator[Mismatch]:
        if not self._system.services:
            return  # the files could not be read: all else would follow from that
        yield from self._profiles()
        yield from self._services()
        yield from self._replicas()
        yield from self._variables()
        yield from self._health()
        yield from self._dependencies()
        yield from self._endpoints()

    def _at(self, message: str, *path: str | int) -> Mismatch:
        return self._description.mismatch(message, "profiles", self._name, *path)

    def _profiles(self) -> Iterator[Mismatch]:
        for index, name in enumerate(self._profile.compose_profiles):
            if name not in self._system.profiles:
                comment = self._comment(rf".*profiles:.*\b{re.escape(name)}\b|\s*-\s*[\"']?{re.escape(name)}\b")
                reason = f"it {comment}" if comment else _nearest(name, self._system.profiles)
                message = f"compose profile {name!r} is named by no service of the compose files; {reason}"
                yield self._at(message, "compose_profiles", index)

    def _services(self) -> Iterator[Mismatch]:
        for index, name in enumerate(self._profile.services):
            if name in self._active:
                continue
            service = self._system.services.get(name)
            if service is not None:
                wanted = " or ".join(sorted(service.profiles))
                place = f"{service.file}:{service.line}"
                message = f"service {name!r} does not run: it needs the compose profile {wanted} ({place})"
            else:
                comment = self._comment(rf"\s*[\"']?{re.escape(name)}[\"']?\s*:")
                if comment:
                    message = f"service {name!r} {comment}; take the '#' away there, or the name away here"
                else:
                    message = f"there is no service {name!r}; {_nearest(name, self._system.services)}"
            yield self._at(message, "services", index)
        for name, service in self._active.items():
            if name not in self._profile.services:
                message = f"the compose files run {name!r} too ({service.file}:{service.line}); add it to the services"
                yield self._at(message, "services")

    def _replicas(self) -> Iterator[Mismatch]:
        for name in self._profile.services:
            service = self._active.get(name)
            if service is None:
                continue
            key = "scale" if "scale" in service.data else "deploy"
            file, line = service.where(key)
            wanted = self._profile.replicas.get(name)
            if service.replicas is None:
                yield Mismatch(file, line, f"services.{name}: the number of replicas is no whole number")
            elif wanted is not None and service.replicas != wanted:
                comment = self._comment(r"\s*(replicas|scale)\s*:")
                hint = f"; a number of replicas {comment}" if comment else ""
                message = f"{name}: {wanted} declared, the compose files make {service.replicas} ({file}:{line}){hint}"
                yield self._at(message, "replicas", name)
            if (service.replicas or 0) > 1 and service.data.get("container_name"):
                file, line = service.where("container_name")
                message = f"services.{name}: a service with a container_name cannot have {service.replicas} containers"
                yield Mismatch(file, line, message)

    def _variables(self) -> Iterator[Mismatch]:
        read = {name for file in self._system.files for name in names_in(file.text)}
        for name in self._profile.variables:
            if self._takes_effect(name):
                continue
            comment = self._comment(rf".*\$\{{?{re.escape(name)}\b")
            if comment and not self._read_outside_comments(name):
                reason = f"its use {comment}"
            elif name in read:
                reason = "only services that do not run in this profile read it"
            else:
                reason = f"no compose file reads it; {_nearest(name, read)}"
            yield self._at(f"variable {name} changes nothing: {reason}", "variables", name)

    def _takes_effect(self, name: str) -> bool:
        """Whether another value of it would make another system."""
        seen = []
        for value in (SENTINEL, f"{SENTINEL}-2", ""):  # `${A:+b}` only asks whether there is one
            variables = self._description.variables(self._name, self._environment, self._ours)
            missing = dict.fromkeys(self._description.missing(self._environment, self._ours), PLACEHOLDER)
            paths = self._description.paths()
            system = resolve(
                paths, {**variables, **missing, name: value}, self._description.read, self._description.show
            )
            active = system.active(self._profile.compose_profiles)
            seen.append(({one: service.data for one, service in active.items()}, system.shared))
        return any(one != seen[0] for one in seen)

    def _read_outside_comments(self, name: str) -> bool:
        lines = (line for file in self._system.files for line in file.text.splitlines())
        return any(name in names_in(line) for line in lines if not line.lstrip().startswith("#"))

    def _health(self) -> Iterator[Mismatch]:
        for name in self._profile.core_services:
            service = self._active.get(name)
            if service is not None and not service.has_health_check:
                file, line = service.where("healthcheck")
                message = (
                    f"services.{name}: a core service of profile {self._name} needs a healthcheck, or its readiness "
                    "cannot be told"
                )
                yield Mismatch(file, line, message)

    def _dependencies(self) -> Iterator[Mismatch]:
        for name, service in self._active.items():
            for other, how in dependencies(service.data).items():
                if other in self._system.services and other not in self._active and how.get("required") is not False:
                    file, line = service.where("depends_on")
                    message = f"services.{name}.depends_on: {other!r} does not run in profile {self._name}"
                    yield Mismatch(file, line, message)

    def _endpoints(self) -> Iterator[Mismatch]:
        capacity = self._description.capacity
        for key, endpoint in (("service_under_test", capacity.service_under_test), ("broker", capacity.broker)):
            if endpoint is not None and endpoint.service not in self._active:
                if key == "broker" and not self._profile.queues:
                    continue
                hint = _nearest(endpoint.service, self._active)
                message = f"service {endpoint.service!r} does not run in profile {self._name}; {hint}"
                yield self._description.mismatch(message, key, "service")

    def _comment(self, pattern: str) -> str:
        for file in self._system.files:
            if line := file.comment_line(pattern):
                return f"is only a comment, in {file.shown} line {line}"
        return ""


def _overlay_mismatches(
    description: Description, profile: str, environment: str, ours: Mapping[str, str], plain: System
) -> Iterator[Mismatch]:
    if description.capacity.build_overlay is None or not plain.services:
        return
    overlay = description.show(description.folder / description.capacity.build_overlay)
    system = resolve_profile(description, profile, environment, ours, build=True)
    yield from (one for one in system.mismatches if one not in plain.mismatches)
    for file in (one for one in system.files if one.shown == overlay):
        for name in file.services:
            if name not in plain.services:
                hint = _nearest(name, plain.services)
                yield Mismatch(overlay, file.line_of("services", name), f"there is no service {name!r}; {hint}")
    yield from (one for service in system.services.values() for one in _build_mismatches(service, description))


def _build_mismatches(service: ResolvedService, description: Description) -> Iterator[Mismatch]:
    build = service.data.get("build")
    if not isinstance(build, dict) or "://" in str(build.get("context", "")) or "dockerfile_inline" in build:
        return
    file, line = service.where("build")
    dockerfile = Path(str(build.get("context", "."))) / str(build.get("dockerfile") or "Dockerfile")
    if description.read(dockerfile) is None:
        yield Mismatch(file, line, f"services.{service.name}.build: {description.show(dockerfile)} is not there")


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}"
