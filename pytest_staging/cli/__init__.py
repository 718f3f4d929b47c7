"""`staging-manager`: parse, call, print. Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pytest_staging import __version__
from pytest_staging.cli.strict import StrictParser
from pytest_staging.model.errors import StagingError

GROUPS = (
    *("versions", "images", "hosts", "campaign", "report", "promotion", "history", "compare", "catalog", "calibrate"),
    *("capacity", "policy", "evidence", "schema"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole program; returns its exit code. argparse leaves by SystemExit: 0 for --help, 2 for bad usage."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except StagingError as error:
        print(f"staging-manager: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("staging-manager: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # before OSError, of which it is one
        # The reader (head, less) has seen enough; keep the interpreter from complaining when it flushes.
        sys.stdout = None
        return 0
    except OSError as error:
        print(f"staging-manager: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The real parser with every command, also used to check the commands that the documents show."""
    parser = argparse.ArgumentParser(
        prog="staging-manager",
        description="Two versions of a service side by side: build, measure, compare, promote.",
        epilog="Each command has --help with an example.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pytest-staging {__version__}")
    parser.add_argument("--root", type=Path, default=Path(), metavar="FOLDER", help="workspace (default: here)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=StrictParser)
    for group in GROUPS:
        import_module(f"pytest_staging.cli.{group}").add_commands(commands)
    return parser
