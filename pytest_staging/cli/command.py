"""How a command is declared: name, one line of help, an example, and the function that runs it."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_staging.cli.strict import StrictParser
from pytest_staging.model.errors import UsageProblem
from pytest_staging.store import Workspace


def add_command(
    commands: Any, name: str, text: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A subcommand whose --help ends with `example`."""
    parser = _add_parser(commands, name, text, example)
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Any, name: str, text: str, example: str) -> Any:
    """A command that has commands of its own, to be added to what this returns."""
    parser = _add_parser(commands, name, text, example)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=StrictParser)


def _add_parser(commands: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def repeat(options: argparse.Namespace, *names: str) -> list[str]:
    """Those of the options that were given, for a command that is to follow this one in the same place."""
    given = [(name, getattr(options, name)) for name in names]
    told = [(name, value) for name, value in given if value and (name, value) != ("root", Path())]
    return [word for name, value in told for word in (f"--{name.replace('_', '-')}", str(value))]


def workspace_of(options: argparse.Namespace) -> Workspace:
    """The workspace that --root names. Raises UsageProblem when there is no such folder."""
    root: Path = options.root.absolute()
    if not root.is_dir():
        raise UsageProblem(f"--root {root} is no folder. Make it, or name the one with versions/ and benchmark/.")
    return Workspace(root)


def terminal_width() -> int | None:
    """Columns of the terminal that reads the output; None for a pipe or a file, which takes lines as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write(path: Path, text: str) -> None:
    """Whole or not at all; a link or a device (/dev/stdout) is written to, not replaced. Raises StorageError."""
    from pytest_staging import durable

    if not path.is_symlink() and (path.is_file() or not path.exists()):
        durable.write_text(path, text)
        return
    with durable.storing(path), path.open("wb") as file:
        file.write(text.encode())
