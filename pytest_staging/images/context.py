"""What the engine gets of a snapshot, packed as the SDK packs it.

Done here and not by the SDK's call, in which nobody can tell what this machine's disk says from what the engine does.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from pytest_staging import durable
from pytest_staging.dockerignore import split_for_sdk
from pytest_staging.model.building import Build
from pytest_staging.model.errors import BuildFailed, WorkspaceError

IGNORE_FILE = ".dockerignore"


def read_ignore_file(path: Path) -> str | None:
    """A .dockerignore's text, or None when there is none. Raises WorkspaceError for a folder or pipe of that name."""
    if not path.exists():
        return None
    if not path.is_file():
        raise WorkspaceError(f"{path} is no file. Remove it, or write into a file of that name what is to be left out.")
    return path.read_text(encoding="utf-8", errors="replace")


def pack_context(build: Build, dockerfile: str) -> IO[bytes]:
    """An archive, as a temporary file that its closing removes.

    Raises StorageError naming the file, or the snapshot, and the folder of temporary files; BuildFailed for a rule of
    .dockerignore that the SDK cannot read.
    """
    from docker.utils.build import tar

    rules = split_for_sdk(read_ignore_file(build.snapshot / IGNORE_FILE) or "")
    with _packing(build), ExitStack() as stack:  # to close a file for which the disk has no room fails as well
        file = stack.enter_context(tempfile.TemporaryFile())
        tar(str(build.snapshot), exclude=rules, dockerfile=(dockerfile, None), fileobj=file)
        stack.pop_all()
        return file


@contextmanager
def _packing(build: Build) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The SDK puts an error of its own, without a number, before that of the system.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        where = tempfile.tempdir or "the folder of temporary files"
        what = f"pack {cause.filename or build.snapshot} into a file in {where} for the {build.label}"
        raise durable.refused(what, cause) from error
    except re.error as error:
        what = f"{build.snapshot / IGNORE_FILE} has a pattern that the Docker SDK cannot read ({error}). Correct it."
        raise BuildFailed(f"{build.label}: {what}") from error
