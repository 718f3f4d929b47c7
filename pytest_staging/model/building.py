"""Images and the narrow Protocol behind which their builders live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_staging.model.version import ModeSpec, Version


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a version in one mode was built into: a container image, or a folder of files (`path`) on this machine.

    `ref` is its name, `id` what identifies its content; two builds of equal inputs need not have equal ids.
    """

    ref: str
    id: str
    size_bytes: int
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Build:
    """A version to be built in one mode. `tag` names the result; output goes to `log` and, if wanted, to `echo`.

    `fresh` is a build that takes nothing from a cache of the builder's own either.
    """

    version: Version
    mode: str
    snapshot: Path
    tag: str
    log: Path
    echo: Callable[[bytes], None] | None = None
    fresh: bool = False

    @property
    def spec(self) -> ModeSpec:
        return self.version.service.modes[self.mode]

    @property
    def label(self) -> str:
        """For messages: `build of nodelay in mode jvm`."""
        return f"build of {self.version.slug} in mode {self.mode}"


NOT_HERE = "not here"
"""Value of a builder's input that only the build will fetch."""


class Builder(Protocol):
    """Makes images. What it makes is found again by `ref`; whether it still fits is the cache's to decide."""

    @property
    def name(self) -> str: ...

    def require_ready(self) -> None:
        """Raises ToolMissing (EngineMissing) with what to install or start."""
        ...

    def fingerprint(self, version: Version, mode: str, snapshot: Path) -> str:
        """Digest of those files of the snapshot that a build can see."""
        ...

    def inputs(self, version: Version, mode: str, snapshot: Path) -> Mapping[str, str]:
        """Everything besides the snapshot that decides what comes out, by a name that people understand."""
        ...

    def commands(self, build: Build) -> list[list[str]]:
        """The exact commands of a build, as a person would type them in the snapshot's folder."""
        ...

    def build(self, build: Build) -> Image:
        """Raises BuildFailed with the log's tail, or EngineLost. Leaves nothing half made."""
        ...

    def inspect(self, ref: str) -> Image | None:
        """What `ref` names now, or None."""
        ...

    def remove(self, slug: str, ref: str) -> None:
        """Removes what `ref` names, if it is there and nothing runs from it.

        Raises WorkspaceError when it was not built for the version `slug`.
        """
        ...
