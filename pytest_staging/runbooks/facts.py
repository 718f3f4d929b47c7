"""What exists in a project, by kind of name: read from its files when a document first asks for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pytest_staging.runbooks.nearest import hint, listed
from pytest_staging.yamltext import PlainLoader, YamlText

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_TOKEN = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b")
_INTERPOLATED = re.compile(r"\$\{?([A-Za-z_]\w*)(?::?([-?+])([^}]*))?")
_MAX_SOURCE_BYTES = 1_000_000
_NO_SOURCES = {"__pycache__", "node_modules", ".git", ".venv"}


@dataclass(frozen=True)
class Places:
    """Where a project keeps what documents name, relative to `root`. `compose` None stands for those that are there."""

    root: Path
    compose: tuple[str, ...] | None = None
    capacity: str = "deploy/capacity.yaml"
    throughput: str = "deploy/throughput.yaml"
    benchmark: str = "benchmark/benchmark.yaml"
    versions: str = "versions"
    sources: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("STAGING_", "E2E_")


@dataclass(frozen=True)
class Known:
    """The names of one kind and where they stand."""

    what: str
    where: str
    names: frozenset[str]

    def complaint(self, name: str) -> str | None:
        """None for a name that exists; otherwise what is wrong, with the nearest one."""
        if name in self.names:
            return None
        return f"{self.what} {name!r} is not in {self.where}.{hint(name, self.names)} Known: {listed(self.names)}."


class _AnyTag(PlainLoader):
    """A value under a tag of Compose's own, such as `!override`, is that value."""


def _construct_tagged(loader: Any, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_AnyTag.add_multi_constructor("!", _construct_tagged)


class Facts:
    """Names of the project at `places.root`; `vocabulary` are names that no file of the project declares, by kind."""

    def __init__(self, places: Places, vocabulary: Mapping[str, Iterable[str]] | None = None) -> None:
        self.places = places
        self.root = places.root
        self._vocabulary = {kind: frozenset(names) for kind, names in (vocabulary or {}).items()}
        self._kinds: dict[str, Callable[[], Known]] = {
            "profile": lambda: Known("the capacity profile", places.capacity, _names(self.capacity, "profiles")),
            "environment": lambda: Known("the environment", places.capacity, _names(self.capacity, "environments")),
            "preset": lambda: Known("the preset", places.throughput, _names(self.throughput, "presets")),
            "class": lambda: Known("the workload class", places.throughput, _names(self.throughput, "classes")),
            "queue": lambda: Known("the queue", places.throughput, _names(self.throughput, "queues")),
            "service": lambda: Known("the service", self._compose_files(), self._services()),
            "compose-profile": lambda: Known("the Compose profile", self._compose_files(), self._compose_profiles()),
            "metric": lambda: Known("the metric", places.benchmark, self._metrics()),
            "version": lambda: Known("the version", f"{places.versions}/", self._versions()),
            "target": lambda: Known("the target", "the program", self._vocabulary.get("target", frozenset())),
        }
        self._found: dict[str, Known] = {}
        self._broken: dict[str, list[str]] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that `known` takes."""
        return tuple(self._kinds)

    def known(self, kind: str) -> Known:
        """Raises KeyError for a kind that is not one of `kinds`."""
        if kind not in self._found:
            self._found[kind] = self._kinds[kind]()
        return self._found[kind]

    def is_declared(self, kind: str) -> bool:
        """Whether the project has a place where names of that kind stand; without one, nothing is known of them."""
        if kind in ("profile", "environment"):
            return self.capacity is not None
        if kind in ("preset", "class", "queue"):
            return self.throughput is not None
        if kind in ("service", "compose-profile"):
            return bool(self.compose)
        if kind == "metric":
            return self.benchmark is not None
        return kind != "version" or (self.root / self.places.versions).is_dir()

    @cached_property
    def capacity(self) -> Any:
        return self.read_yaml(self.places.capacity)

    @cached_property
    def throughput(self) -> Any:
        return self.read_yaml(self.places.throughput)

    @cached_property
    def benchmark(self) -> Any:
        return self.read_yaml(self.places.benchmark)

    @cached_property
    def compose(self) -> dict[str, Any]:
        """Plain data of every compose file by its path. What a file includes or extends is not followed."""
        if self.places.compose is not None:
            paths = list(self.places.compose)
        else:
            places = [self.root / "deploy", self.root]
            paths = [path.relative_to(self.root).as_posix() for place in places for path in _compose_in(place)]
        return {path: self.read_yaml(path) for path in paths}

    def broken(self) -> list[str]:
        """Why files that declare names cannot be read, with their lines: no name in one of those can be checked."""
        _ = (self.capacity, self.throughput, self.benchmark, self.compose)
        return [line for lines in self._broken.values() for line in lines]

    @cached_property
    def variables(self) -> frozenset[str]:
        """Environment variables that the project's sources, compose files and settings name."""
        found = set(self.places.variables)
        files = (*self.places.sources, *self.compose, self.places.capacity, self.places.throughput)
        for path in files:
            for text in _texts(self.root / path):
                found |= set(_TOKEN.findall(text))
        for data in self.compose.values():
            found |= set(_environment(data))
        return frozenset(found)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """What the names of checked variables begin with: the configured prefixes, and those of compose files."""
        own = {name for path in self.compose for name in self.interpolated(path)}
        own |= {name for data in self.compose.values() for name in _environment(data)}
        return tuple(sorted({*self.places.prefixes, *(f"{name.partition('_')[0]}_" for name in own if "_" in name)}))

    def variable_complaint(self, name: str) -> str | None:
        """None also for a variable of no family of ours, about which nothing is known."""
        if not name.startswith(self.families) or name in self.variables:
            return None
        own = {one for one in self.variables if one.startswith(self.families)}
        return f"nothing reads the environment variable {name}.{hint(name, own)}"

    def interpolated(self, path: str) -> dict[str, str | None]:
        """Variables that a compose file takes from its environment, with their defaults; None for required ones."""
        found: dict[str, str | None] = {}
        for text in _texts(self.root / path):
            for line in text.splitlines():
                for name, operator, default in _INTERPOLATED.findall(line.partition(" #")[0].replace("$$", "")):
                    found.setdefault(name, None if operator == "?" else default)
        return found

    def read_yaml(self, path: str) -> Any:
        """Plain data, or None where there is no such file. One that is there and has none is `broken`."""
        try:
            text = (self.root / path).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._broken[path] = [f"{path}: cannot be read: {error}"]
            return None
        found = YamlText(text, _AnyTag)
        if found.data is None:
            places = [(f"{path}:{one.line}" if one.line else path, one) for one in found.problems]
            said = [f"{place}: {f'{one.path}: ' if one.path else ''}{one.message}" for place, one in places]
            self._broken[path] = said or [f"{path}: is empty"]
        return found.data

    def _compose_files(self) -> str:
        return ", ".join(self.compose) or "a compose file (there is none)"

    def _services(self) -> frozenset[str]:
        return frozenset(name for data in self.compose.values() for name in _names(data, "services"))

    def _compose_profiles(self) -> frozenset[str]:
        return frozenset(
            str(profile)
            for data in self.compose.values()
            for service in _mapping(_mapping(data).get("services")).values()
            for profile in _mapping(service).get("profiles") or ()
        )

    def _metrics(self) -> frozenset[str]:
        data = _mapping(self.benchmark)
        found = {*_names(data, "metrics"), *self._vocabulary.get("metric", ())}
        sources = data.get("sources")
        for source in sources if isinstance(sources, list) else ():
            found |= _names(source, "names")
        return frozenset(found)

    def _versions(self) -> frozenset[str]:
        folder = self.root / self.places.versions
        return frozenset(path.parent.name for path in folder.glob("*/version.yaml"))


def _compose_in(folder: Path) -> list[Path]:
    """Compose files by their usual names, and what is laid over them (`compose.build.yaml`)."""
    found = [path for path in folder.glob("*compose*.y*ml") if path.name in COMPOSE_NAMES or "compose." in path.name]
    return sorted(path for path in found if path.is_file())


def _mapping(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _names(data: Any, key: str) -> frozenset[str]:
    """The keys of a mapping, or the `name` of each entry of a list."""
    value = _mapping(data).get(key)
    if isinstance(value, list):
        return frozenset(str(one["name"]) for one in value if isinstance(one, dict) and "name" in one)
    return frozenset(str(name) for name in _mapping(value))


def _environment(data: Any) -> set[str]:
    """Names of what compose services get as `environment`, as a mapping or as a list of NAME=VALUE."""
    found: set[str] = set()
    for service in _mapping(_mapping(data).get("services")).values():
        given = _mapping(service).get("environment")
        found |= {str(one).partition("=")[0] for one in given} if isinstance(given, (dict, list)) else set()
    return found


def _texts(path: Path) -> list[str]:
    """The text of a file, or of every file below a folder; what cannot be read names nothing."""
    found = []
    for file in _files(path):
        try:
            if file.stat().st_size <= _MAX_SOURCE_BYTES:
                found.append(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    return found


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(set(folders) - _NO_SOURCES)
        yield from (Path(folder, name) for name in sorted(names))
