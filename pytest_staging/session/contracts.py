"""`pytest --staging-contracts`: documents as test files, each check of them an item with file and line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_staging import durable, wiring
from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.runbooks.checking import Check, checks_of
from pytest_staging.runbooks.directives import parse_directives
from pytest_staging.runbooks.facts import Places
from pytest_staging.runbooks.generated import find_regions, rewrite
from pytest_staging.runbooks.grammar import borrow
from pytest_staging.runbooks.nearest import hint
from pytest_staging.runbooks.project import Program, Project
from pytest_staging.session.exits import exiting
from pytest_staging.wiring import documents

SUFFIXES = (".md", ".markdown")
DEFAULT_PATHS = ("README.md", "docs")
_BOM = b"\xef\xbb\xbf"


def begin(config: pytest.Config) -> None:
    """Registers the gate; rewrites generated blocks first where that is asked for, in one process only."""
    with exiting():
        if config.option.staging_campaign:
            raise UsageProblem("--staging-contracts and --staging-campaign are two things: ask for one at a time.")
        _default_arguments(config)
        gate = Gate(make_project(config))
        wanted = config.option.staging_contracts_update and not config.option.collectonly
        if wanted and not hasattr(config, "workerinput"):
            gate.update(list(documents_in(config)))
    config.pluginmanager.register(gate, "staging-contracts")


def make_project(config: pytest.Config) -> Project:
    """The rules as the ini file has them. Raises UsageProblem."""
    places = Places(
        root=config.rootpath.resolve(),
        compose=tuple(config.getini("staging_contracts_compose")) or None,
        capacity=config.getini("staging_contracts_capacity") or Places.capacity,
        throughput=config.getini("staging_contracts_throughput") or Places.throughput,
        benchmark=config.getini("staging_contracts_benchmark") or Places.benchmark,
        versions=config.getini("staging_contracts_versions") or Places.versions,
        sources=tuple(config.getini("staging_contracts_sources")),
        variables=tuple(config.getini("staging_contracts_variables")),
        made=tuple(config.getini("staging_contracts_made")),
        prefixes=(*Places.prefixes, *config.getini("staging_contracts_prefixes")),
    )
    missing = list(_missing(config, places.root))
    if missing:
        raise UsageProblem("\n".join(missing))
    programs = _pairs(config, "staging_contracts_programs")
    generators = _pairs(config, "staging_contracts_generators")
    own = Program("pytest", borrow(_pytest_parser(config), "pytest"), whole=False, modules=("pytest",))
    project = documents.make_contracts(places, own, programs, generators, wiring.TARGETS)
    if broken := project.facts.broken():
        lines = "\n".join(f"  {one}" for one in broken)
        raise UsageProblem(f"names in documents cannot be checked; put right what declares them\n{lines}")
    return project


def _missing(config: pytest.Config, root: Path) -> Iterator[str]:
    """Places that the ini file names and that are not there: without a word, no name of theirs would be checked."""
    for name in ("compose", "capacity", "throughput", "benchmark", "versions"):
        given = config.getini(f"staging_contracts_{name}")
        for path in [given] if isinstance(given, str) else given or ():
            if path and not (root / path).exists():
                near = hint((root / path).name, (one.name for one in (root / path).parent.glob("*")))
                yield f"staging_contracts_{name}: {path} does not exist.{near}"


def documents_in(config: pytest.Config) -> Iterator[Path]:
    """Markdown files that the command line names, or that lie in folders that it names."""
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


class Gate:
    """Collects documents of one project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._rewritten: list[str] | None = None

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if file_path.suffix.lower() not in SUFFIXES:
            return None
        file: pytest.Collector = DocumentFile.from_parent(parent, path=file_path, project=self._project)
        return file

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._rewritten is None:
            return
        lines = self._rewritten or ["every generated block was current; no file was changed"]
        for line in lines:
            terminalreporter.write_line(f"staging: {line}")

    def update(self, paths: list[Path]) -> None:
        """Rewrites stale blocks, each document as a whole or not at all. Raises StorageError."""
        self._rewritten = []
        for path in paths:
            loaded = self._project.load(path)
            regions, problems = find_regions(parse_directives(loaded.document)[0])
            if loaded.problem or problems or not regions:
                continue
            before = path.read_bytes()
            mark = _BOM if before.startswith(_BOM) else b""
            try:
                text, changed = rewrite(self._project, before[len(mark) :].decode(), regions)
            except ValueError:
                continue  # the gate, which runs next, says it with file and line
            if changed:
                # A link to a document stays one.
                durable.write_bytes(path.resolve(), mark + text.encode())
                self._project.forget(path)
                shown = _shown(path, self._project.root)
                self._rewritten += [f"{shown}:{one.line}: rewrote {one.title!r}" for one in changed]


class DocumentFile(pytest.File):
    """A document as a test file."""

    def __init__(self, *, project: Project, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._project = project

    def collect(self) -> Iterator[CheckItem]:
        seen: dict[str, int] = {}
        for check in checks_of(self._project, self.path):
            name = f"L{check.line} {check.kind}: {check.label}"
            seen[name] = seen.get(name, 0) + 1
            name += f" ({seen[name]})" if seen[name] > 1 else ""
            # With a whole id: pytest 9.2 would take brackets for a part of the name, and --lf would not find it again.
            shown = _shown(self.path, self._project.root)
            item: CheckItem = CheckItem.from_parent(
                self, name=name, nodeid=f"{self.nodeid}::{name}", check=check, shown=shown
            )
            yield item


class CheckItem(pytest.Item):
    """One check; `shown` is the document's path in messages."""

    def __init__(self, *, check: Check, shown: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.check = check
        self._shown = shown

    def runtest(self) -> None:
        if self.check.skip is not None:
            # Not a mark: pytest would show those without the line.
            raise pytest.skip.Exception(self.check.skip, _use_item_location=True)
        problems = self.check.run()
        if problems:
            lines = [f"{self._shown}:{one.line or self.check.line}: {one.message}" for one in problems]
            pytest.fail("\n".join(lines), pytrace=False)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, StagingError):
            return f"{self._shown}:{self.check.line}: {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        # Not the name, in which the terminal would turn every dot into '::'.
        return self.path, self.check.line - 1, f"{self._shown}:{self.check.line} {self.check.kind}"


def _default_arguments(config: pytest.Config) -> None:
    """Without paths on the command line the gate checks the configured documents, and collects no other tests."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    configured = config.getini("staging_contracts_paths")
    named = [config.rootpath / path for path in configured or DEFAULT_PATHS]
    missing = [str(path) for path in named if not path.exists()]
    if configured and missing:
        raise UsageProblem(f"staging_contracts_paths: {', '.join(missing)} does not exist.")
    there = [str(path) for path in named if path.exists()]
    if not there:
        raise UsageProblem(
            "there is neither README.md nor docs/ here. Name documents: pytest --staging-contracts PATH, or set "
            "staging_contracts_paths."
        )
    config.args = there


def _pairs(config: pytest.Config, option: str) -> dict[str, str]:
    """Lines of `name=module:function`. Raises UsageProblem."""
    found = {}
    for line in config.getini(option):
        name, _, where = (part.strip() for part in line.partition("="))
        module, _, attribute = where.partition(":")
        if not (name and module and attribute):
            raise UsageProblem(f"{option}: {line!r} is not name=module:function.")
        found[name] = where
    return found


def _pytest_parser(config: pytest.Config) -> argparse.ArgumentParser:
    """pytest's own parser with the options of every plugin; it has no public name, and two private ones over time."""
    parser: Any = config._parser
    found = getattr(parser, "optparser", None) or parser._getparser()
    assert isinstance(found, argparse.ArgumentParser)
    return found


def _shown(path: Path, root: Path) -> str:
    resolved = path.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else str(path)
