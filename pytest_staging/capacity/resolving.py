"""Compose files resolved as Compose does: variables, `include`, `extends`, several files over each other, profiles."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pytest_staging.capacity.composefile import ComposeFile, Tagged
from pytest_staging.capacity.dotenv import parse_dotenv
from pytest_staging.capacity.interpolation import interpolate
from pytest_staging.capacity.merging import as_list, dependencies, merge_service, named_values
from pytest_staging.capacity.placing import place_service
from pytest_staging.model.capacity import Mismatch
from pytest_staging.model.errors import Problem
from pytest_staging.yamltext import Path

SECTIONS = ("services", "networks", "volumes", "secrets", "configs", "include", "name")
Read = Callable[[FilePath], str | None]
"""Text of a file; None when there is none."""


@dataclass(frozen=True)
class ResolvedService:
    """A service as Compose would see it. `file` and `line` are where it stands first."""

    name: str
    data: Mapping[str, Any]
    file: str
    line: int | None
    lines: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)

    @property
    def profiles(self) -> frozenset[str]:
        return frozenset(map(str, as_list(self.data.get("profiles"))))

    @property
    def replicas(self) -> int | None:
        """How many containers; None where that is no number."""
        deploy = self.data.get("deploy")
        deploy = deploy if isinstance(deploy, dict) else {}
        given = self.data.get("scale", 1 if deploy.get("mode") == "global" else deploy.get("replicas", 1))
        text = str(1 if given is None else given)
        return int(text) if text.isdecimal() else None

    @property
    def has_health_check(self) -> bool:
        check = self.data.get("healthcheck")
        if not isinstance(check, dict) or str(check.get("disable", "")).lower() == "true":
            return False
        return as_list(check.get("test")) not in ([], ["NONE"], [""])

    def where(self, key: str) -> tuple[str, int | None]:
        """The file and line of one of its keys."""
        return self.lines.get(key, (self.file, self.line))


@dataclass
class System:
    """What the files say together. `mismatches` is all that is wrong with them.

    `shared` is what they say besides services (networks, volumes and so on), by file; `paths` is every file that was
    read, those with variables too.
    """

    services: dict[str, ResolvedService] = field(default_factory=dict)
    files: list[ComposeFile] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    variables: Mapping[str, str] = field(default_factory=dict)
    shared: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    paths: set[FilePath] = field(default_factory=set)

    def active(self, profiles: Sequence[str]) -> dict[str, ResolvedService]:
        """The services that run with those profiles switched on."""
        chosen = set(profiles)
        return {
            name: one
            for name, one in self.services.items()
            if not one.profiles or one.profiles & chosen or "*" in chosen
        }

    @property
    def profiles(self) -> set[str]:
        """Every profile that a service names."""
        return {profile for one in self.services.values() for profile in one.profiles}


def resolve(
    paths: Sequence[FilePath], variables: Mapping[str, str], read: Read, shown: Callable[[FilePath], str]
) -> System:
    """Everything that can be found out from the files alone; nothing is raised, all that is wrong is collected.

    `variables` is the environment that Compose would run in; it wins over the `.env` beside the first file.
    """
    return _Resolver(variables, read, shown).run(paths)


class _Resolver:
    def __init__(self, variables: Mapping[str, str], read: Read, shown: Callable[[FilePath], str]) -> None:
        self._variables, self._reader, self._shown = dict(variables), read, shown
        self._files: dict[FilePath, ComposeFile | None] = {}
        self._values: dict[FilePath, Mapping[str, Any]] = {}
        self._extended: dict[tuple[FilePath, str], dict[str, Any]] = {}
        self._lines: dict[str, dict[str, tuple[str, int | None]]] = {}
        self.system = System()

    def run(self, paths: Sequence[FilePath]) -> System:
        dotenv = paths[0].parent / ".env"
        self._variables = {**self._dotenv(dotenv, self._variables), **self._variables}
        self.system.variables = self._variables
        merged: dict[str, dict[str, Any]] = {}
        for path in paths:
            self._add_file(path, merged, ())
        for name, data in merged.items():
            self._finish(name, data)
        self._check_dependencies()
        self.system.files = [one for one in self._files.values() if one]
        return self.system

    def _read(self, path: FilePath) -> str | None:
        text = self._reader(path)
        if text is not None:
            self.system.paths.add(path)
        return text

    def _add_file(self, path: FilePath, merged: dict[str, dict[str, Any]], trail: tuple[FilePath, ...]) -> None:
        file = self._file(path, "compose file")
        if file is None:
            return
        if path in trail:
            self._complain(file, file.problem(("include",), "includes itself over other files"))
            return
        value = self._value_of(path)
        self.system.shared[file.shown] = {key: one for key, one in value.items() if key in SECTIONS[1:]}
        for included in as_list(value.get("include")):
            parts = included.get("path") if isinstance(included, dict) else included
            for one in as_list(parts):
                self._add_file(path.parent / str(one), merged, (*trail, path))
        for name, raw in file.services.items():
            if isinstance(raw, Tagged):  # `!reset` takes the whole service away, `!override` begins it anew
                self._lines.pop(name, None)
                merged.pop(name, None)
                if raw.tag == "reset":
                    continue
            data = self._service(path, name, ())
            lines = self._lines.setdefault(name, {})
            lines.setdefault("", (file.shown, file.line_of("services", name)))
            lines.update({key: (file.shown, file.line_of("services", name, key)) for key in data})
            merged[name] = merge_service(merged.get(name, {}), data)

    def _service(self, path: FilePath, name: str, trail: tuple[tuple[FilePath, str], ...]) -> dict[str, Any]:
        """With what it extends beneath it."""
        if (path, name) in self._extended:
            return self._extended[path, name]
        file = self._files[path]
        assert file is not None
        raw = self._value_of(path).get("services", {}).get(name)
        raw = raw.value if isinstance(raw, Tagged) else raw
        own = place_service(raw if isinstance(raw, dict) else {}, path.parent)
        parent = own.pop("extends", None)
        if parent is not None:
            base = self._parent(file, name, parent, (*trail, (path, name)))
            own = merge_service(base, own)
        self._extended[path, name] = own
        return own

    def _parent(
        self, file: ComposeFile, name: str, parent: Any, trail: tuple[tuple[FilePath, str], ...]
    ) -> dict[str, Any]:
        where: Path = ("services", name, "extends")
        wanted = parent if isinstance(parent, dict) else {"service": parent}
        other = str(wanted.get("service") or "")
        path = file.path.parent / str(wanted["file"]) if wanted.get("file") else file.path
        home = self._file(path, "file of extends", (file, where))
        if home is None:
            return {}
        if (path, other) in trail:
            circle = [*trail[trail.index((path, other)) :], (path, other)]
            shown = " -> ".join(one for _, one in circle)
            self._complain(file, file.problem(where, f"goes round in a circle: {shown}"))
            return {}
        if other not in home.services:
            self._complain(file, file.problem(where, _unknown_parent(other, home)))
            return {}
        return self._service(path, other, trail)

    def _finish(self, name: str, data: dict[str, Any]) -> None:
        file, line = self._lines[name][""]
        environment: dict[str, Any] = {}
        for one in as_list(data.get("env_file")):
            environment |= self._env_file(one, file, self._lines[name].get("env_file", (file, line))[1])
        for key, value in named_values(data.get("environment")).items():
            environment[key] = self._variables.get(key) if value is None else value
        if environment:
            data = {**data, "environment": environment}
        if not data.get("image") and not data.get("build") and not data.get("provider"):
            self.system.mismatches.append(Mismatch(file, line, f"services.{name}: has neither an image nor a build"))
        self.system.services[name] = ResolvedService(name, data, file, line, self._lines[name])

    def _env_file(self, one: Any, file: str, line: int | None) -> dict[str, str]:
        path = FilePath(str(one.get("path") if isinstance(one, dict) else one))
        required = not isinstance(one, dict) or one.get("required", True) is not False
        if self._read(path) is None:
            if required:
                self.system.mismatches.append(Mismatch(file, line, f"env_file {self._shown(path)} is not there"))
            return {}
        return self._dotenv(path, self._variables)

    def _check_dependencies(self) -> None:
        for one in self.system.services.values():
            for other in dependencies(one.data):
                if other not in self.system.services:
                    file, line = one.where("depends_on")
                    message = f"services.{one.name}.depends_on: there is no service {other!r}"
                    self.system.mismatches.append(Mismatch(file, line, message))

    def _file(self, path: FilePath, what: str, named_by: tuple[ComposeFile, Path] | None = None) -> ComposeFile | None:
        if path in self._files:
            return self._files[path]
        text = self._read(path)
        if text is None:
            message = f"the {what} {self._shown(path)} is not there, or is no text"
            if named_by:
                self._complain(named_by[0], named_by[0].problem(named_by[1], message))
            else:
                self.system.mismatches.append(Mismatch(self._shown(path), None, message))
        self._files[path] = found = None if text is None else ComposeFile(path, self._shown(path), text)
        for problem in found.problems if found else ():
            self._complain(found, problem)
        return found

    def _value_of(self, path: FilePath) -> Mapping[str, Any]:
        """The file's data with variables filled in."""
        if path not in self._values:
            file = self._files[path]
            assert file is not None
            self._values[path] = {
                key: self._filled(file, (key,), value) if key in SECTIONS else value for key, value in file.data.items()
            }
        return self._values[path]

    def _filled(self, file: ComposeFile, path: Path, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(file, (*path, key), one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(file, (*path, index), one) for index, one in enumerate(value)]
        if isinstance(value, Tagged):
            return Tagged(value.tag, self._filled(file, path, value.value))
        if not isinstance(value, str):
            return value
        return interpolate(value, self._variables, lambda what: self._complain(file, file.problem(path, what)))

    def _dotenv(self, path: FilePath, variables: Mapping[str, str]) -> dict[str, str]:
        text = self._read(path)
        shown = self._shown(path)
        heard = self.system.mismatches
        return parse_dotenv(text or "", variables, lambda line, what: heard.append(Mismatch(shown, line, what)))

    def _complain(self, file: ComposeFile | None, problem: Problem) -> None:
        message = f"{problem.path}: {problem.message}" if problem.path else problem.message
        found = Mismatch(file.shown if file else "", problem.line, message)
        if found not in self.system.mismatches:
            self.system.mismatches.append(found)


def _unknown_parent(name: str, home: ComposeFile) -> str:
    near = difflib.get_close_matches(name, home.services, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{home.shown} has no service {name!r}{hint}"
