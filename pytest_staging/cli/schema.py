"""`schema`: JSON Schemas of the YAML files, for editors."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pytest_staging.cli.command import add_command

KINDS = ["benchmark", "capacity", "script-target", "service", "targets", "throughput", "version"]


def add_commands(commands: Any) -> None:
    parser = add_command(
        commands,
        "schema",
        "print the JSON Schema of a file",
        "staging-manager schema benchmark > .vscode/benchmark.schema.json",
        print_schema,
    )
    parser.add_argument("kind", choices=KINDS, help="which file")


def print_schema(options: argparse.Namespace) -> int:
    from pytest_staging.contract import build_schema

    print(json.dumps(build_schema(options.kind), indent=2))
    return 0
