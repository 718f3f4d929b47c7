"""How a command is declared: name, one line of help, an example, and the function that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from pytest_staging.store import Workspace


def add_command(commands: Any, name: str, text: str, example: str,
                run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """A subcommand whose --help ends with `example`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def workspace_of(options: argparse.Namespace) -> Workspace:
    """The workspace that --root names."""
    return Workspace(options.root.absolute())
