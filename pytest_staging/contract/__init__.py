"""The file contracts as pure functions: text in, frozen model out, or one error with everything that is wrong.

The shapes are the model's dataclasses; pydantic checks them strictly and makes their JSON Schemas. Rules that span
several fields are functions over the raw data, so that they report beside the field errors, not after them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pytest_staging.contract.benchmark import benchmark_rules
from pytest_staging.contract.capacity import capacity_rules
from pytest_staging.contract.inventory import inventory_rules
from pytest_staging.contract.parsing import adapter, parse
from pytest_staging.contract.rules import schema_version_rule
from pytest_staging.contract.throughput import throughput_rules
from pytest_staging.contract.version import service_rules, version_rules
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.capacity import Capacity
from pytest_staging.model.inventory import Inventory
from pytest_staging.model.script import ScriptSpec
from pytest_staging.model.throughput import ThroughputPolicy
from pytest_staging.model.version import ServiceSpec, VersionMetadata

REQUIRED_MODES = ("jvm", "native")
SCHEMAS: dict[str, type] = {
    "benchmark": Benchmark,
    "capacity": Capacity,
    "script-target": ScriptSpec,
    "service": ServiceSpec,
    "targets": Inventory,
    "throughput": ThroughputPolicy,
    "version": VersionMetadata,
}


def parse_benchmark(
    text: str, source: str = "benchmark.yaml", required_modes: Collection[str] = REQUIRED_MODES
) -> Benchmark:
    """Raises ContractError with every problem of the file. `required_modes` must all be among platform_modes."""
    return parse(Benchmark, "benchmark", text, source, lambda raw: benchmark_rules(raw, required_modes))


def parse_service(text: str, source: str = "service.yaml") -> ServiceSpec:
    """Raises ContractError with every problem of the file."""
    return parse(ServiceSpec, "service", text, source, service_rules)


def parse_version(text: str, source: str = "version.yaml", folder: str | None = None) -> VersionMetadata:
    """Raises ContractError; also when `slug` is not the name of the `folder` that the file lies in."""
    return parse(VersionMetadata, "version", text, source, lambda raw: version_rules(raw, folder))


def parse_inventory(text: str, source: str = "targets.yaml") -> Inventory:
    """Raises ContractError with every problem of the file."""
    return parse(Inventory, "targets", text, source, inventory_rules)


def parse_script_target(text: str, source: str = "script-target.yaml") -> ScriptSpec:
    """Raises ContractError with every problem of the file."""
    return parse(ScriptSpec, "script-target", text, source, schema_version_rule)


def parse_capacity(text: str, source: str = "capacity.yaml") -> Capacity:
    """Raises ContractError with every problem of the file; the compose files that it names are not looked at."""
    return parse(Capacity, "capacity", text, source, capacity_rules)


def parse_throughput(text: str, source: str = "throughput.yaml") -> ThroughputPolicy:
    """Raises ContractError with every problem of the file."""
    return parse(ThroughputPolicy, "throughput", text, source, throughput_rules)


def build_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one kind of file, for editors."""
    schema = adapter(SCHEMAS[name]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"pytest-staging {name}", **schema}
