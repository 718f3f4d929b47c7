"""Blocks that are run for real, in a temporary copy of the workspace, with a deadline."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_staging import durable

LEFT_OUT = (".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox", ".*_cache", ".hypothesis")
GRACE_S = 3.0
_SHOWN_LINES = 30


@dataclass(frozen=True)
class Block:
    """A shell text and what is expected of it. `output` is searched in what it prints on both streams."""

    line: int
    text: str
    timeout_s: float
    exit_code: int = 0
    output: str | None = None


def run_block(
    root: Path, block: Block, before: Sequence[Block], after: Sequence[Block], made: Sequence[str]
) -> list[tuple[int, str]]:
    """Runs `before`, the block, and in any case `after`, all in one copy of `root` without `made` (globs).

    Returns what went wrong, as (line, message). Raises StorageError when the copy cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="staging-runbook-", ignore_cleanup_errors=True) as name:
        folder = Path(name, "workspace")
        copy_workspace(root, folder, made)
        problems: list[tuple[int, str]] = []
        for one in (*before, block):
            problems = _attempt(one, folder)
            if problems:
                break
        return problems + [problem for one in after for problem in _attempt(one, folder)]


def copy_workspace(root: Path, folder: Path, made: Sequence[str]) -> None:
    """Copies what a clean clone would have: no caches, no environments, nothing that the program makes."""

    def left_out(where: str, names: list[str]) -> set[str]:
        relative = Path(where).relative_to(root)
        return {
            name
            for name in names
            if any(fnmatchcase(name, glob) for glob in LEFT_OUT)
            or any(fnmatchcase((relative / name).as_posix(), glob) for glob in made)
            or not _can_be_copied(Path(where, name))
        }

    with durable.storing(folder):
        try:
            shutil.copytree(root, folder, symlinks=True, ignore=left_out)
        except shutil.Error as error:
            first = error.args[0][0]
            raise OSError(f"{first[0]}: {first[2]}") from error


def _can_be_copied(path: Path) -> bool:
    """A pipe would block its reader for ever."""
    return path.is_symlink() or path.is_dir() or path.is_file()


def _attempt(block: Block, folder: Path) -> list[tuple[int, str]]:
    with tempfile.TemporaryFile() as output:
        code = _run(block, folder, output.fileno())
        output.seek(0)
        printed = output.read(1 << 20).decode(errors="replace")
    if code is None:
        return [(block.line, f"the block did not end within {block.timeout_s:g} s{_quoted(printed)}")]
    if code != block.exit_code:
        return [(block.line, f"the block ended with {code}, expected was {block.exit_code}{_quoted(printed)}")]
    if block.output is not None and not re.search(block.output, printed, re.MULTILINE):
        return [(block.line, f"the block did not print what matches {block.output!r}{_quoted(printed)}")]
    return []


def _run(block: Block, folder: Path, output: int) -> int | None:
    """The exit code, or None when the deadline passed. Everything that the block started goes with it."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment(folder.parent),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        return process.wait(block.timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole group: what the block left in the background too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def environment(folder: Path) -> dict[str, str]:
    """This process's, with this Python's programs first, and without what pytest and a campaign set for themselves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "STAGING_"))}
    programs = str(Path(sys.executable).parent)
    state = {name: str(folder / name.lower()) for name in ("STAGING_LEASE_FOLDER", "STAGING_STATE_FOLDER", "TMPDIR")}
    for path in state.values():
        Path(path).mkdir(exist_ok=True)
    return {**kept, "PATH": os.pathsep.join([programs, kept.get("PATH", os.defpath)]), **state, "COLUMNS": "120"}


def _quoted(printed: str) -> str:
    lines = printed.rstrip().splitlines()
    if not lines:
        return "; it printed nothing"
    return "\n" + "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
