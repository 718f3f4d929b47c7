"""Programs that make load: where they are, and whether their version is one that is known to work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from pytest_staging.model.errors import ToolMissing, ToolUnsupported

ASK_TIMEOUT_S = 20.0


def find_program(name: str, advice: str) -> str:
    """Its path: on PATH, or beside this Python, where a package puts it. Raises ToolMissing with the advice."""
    beside = Path(sys.executable).parent
    found = shutil.which(name) or shutil.which(name, path=str(beside))
    if found is None:
        raise ToolMissing(f"the benchmark asks for {name}, which is not installed. {advice}")
    return found


def ask(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a short question to its end. Raises ToolMissing when the program does not start or does not answer."""
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=ASK_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissing(f"{argv[0]} does not run: {error}") from error


def read_version(argv: list[str], pattern: str, least: tuple[int, ...]) -> str:
    """The version that a program prints (as `1.1.0`). Raises ToolUnsupported when it is older, or cannot be read."""
    done = ask(argv)
    said = f"{done.stdout}\n{done.stderr}"
    found = re.search(pattern, said)
    wanted = ".".join(map(str, least))
    if found is None:
        shown = " ".join(said.split())[:120]
        raise ToolUnsupported(f"{' '.join(argv)} says no version: {shown!r}. Install {wanted} or newer.")
    version = found[1]
    if tuple(map(int, version.split("."))) < least:
        raise ToolUnsupported(f"{argv[0]} is {version}, and {wanted} or newer is needed. Install one that fits.")
    return version
