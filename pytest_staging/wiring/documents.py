"""What documents are held against: the programs, their parsers and the makers of generated blocks, by name."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_staging.model.errors import UsageProblem
from pytest_staging.runbooks.compose import build_compose_parser
from pytest_staging.runbooks.facts import Facts, Places
from pytest_staging.runbooks.generators import GENERATORS
from pytest_staging.runbooks.grammar import neutralise
from pytest_staging.runbooks.project import Program, Project

CONTRACT_PROGRAMS = {"staging-manager": "pytest_staging.cli:build_parser"}
CONTRACT_SAFE = (("capacity", "list"), ("capacity", "show"), ("capacity", "validate"), ("schema",))
METRICS = ("p50", "p95", "p99", "fail_rate", "throughput", "heap_peak", "nonheap_peak", "gc_pause", "gc_count",
           "threads_peak", "resident_peak", "cpu_seconds", "context_switches", "context_switches_voluntary",
           "context_switches_involuntary", "queue_depth_peak", "queue_depth_end", "queue_drain_time",
           "queue_drain_rate")  # fmt: skip
"""What load tools and sources give without being told a name."""


def make_contracts(
    places: Places, own: Program, programs: Mapping[str, str], generators: Mapping[str, str], targets: Iterable[str]
) -> Project:
    """What documents are held against: `own` is pytest itself; the others by name as `module:function`.

    Raises UsageProblem for one that cannot be had.
    """
    found = {}
    for name, where in {**programs, **CONTRACT_PROGRAMS}.items():
        parser = _call("staging_contracts_programs", name, where)
        if not isinstance(parser, ArgumentParser):
            found_type = type(parser).__name__
            raise UsageProblem(f"staging_contracts_programs: {where} gives {found_type}, not an ArgumentParser.")
        modules = (where.partition(":")[0].partition(".")[0],)
        found[name] = Program(name, neutralise(parser), modules=modules)
    main = _imported("main", "staging-manager", "pytest_staging.cli:main")
    creates = frozenset({"create-version"})
    found["staging-manager"] = replace(found["staging-manager"], creates=creates, main=main, safe=CONTRACT_SAFE)
    for generation, name in ((2, "docker compose"), (1, "docker-compose")):
        found[name] = Program(name, neutralise(build_compose_parser(generation)))
    made = {name: _imported("staging_contracts_generators", name, where) for name, where in generators.items()}
    facts = Facts(
        replace(places, sources=(str(Path(__file__).parent.parent), *places.sources)),
        {"metric": METRICS, "target": targets},
    )
    return Project(facts, {**found, own.name: own}, {**GENERATORS, **made})


def _imported(option: str, name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    try:
        return getattr(import_module(module), attribute)
    # A project's own module may fail in any way; its user is told where it was named.
    except Exception as error:
        raise UsageProblem(f"{option}: {name}={where}: {type(error).__name__}: {error}") from error


def _call(option: str, name: str, where: str) -> Any:
    make = _imported(option, name, where)
    try:
        return make()
    except (Exception, SystemExit) as error:
        raise UsageProblem(f"{option}: {name}={where}: {type(error).__name__}: {error}") from error
