"""Builds for targets that run processes: a version's own build commands fill a folder of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.fingerprint import TreeIndex
from pytest_staging.model.building import Build, Image
from pytest_staging.model.errors import BuildFailed, WorkspaceError
from pytest_staging.model.ports import Command, CommandRunner
from pytest_staging.model.version import Version


@dataclass(frozen=True)
class ArtifactBuilder:
    """Artifacts are `versions/<slug>/images/<tag>`, which appears whole, by a rename. `runner` runs the commands."""

    versions_folder: Path
    runner: CommandRunner
    name = "artifact"

    def require_ready(self) -> None:
        """A compiler that is missing is found by the build that needs it: not every mode does."""

    def fingerprint(self, version: Version, mode: str, snapshot: Path) -> str:
        return version.snapshot_fingerprint

    def inputs(self, version: Version, mode: str, snapshot: Path) -> Mapping[str, str]:
        spec = version.service.modes[mode]
        return {
            "mode": mode,
            "build commands": json.dumps([list(argv) for argv in spec.build]),
            "platform": f"{platform.system()}-{platform.machine()}",
            **{argv[0]: _identity(argv[0]) for argv in spec.build},
        }

    def commands(self, build: Build) -> list[list[str]]:
        return artifact_commands(build, str(self._path(self._ref(build))))

    def build(self, build: Build) -> Image:
        final = self._path(self._ref(build))
        durable.sweep_new_folders(final)  # the cache lets nobody else build it now
        with durable.new_folder(final) as temporary:
            # Built from a copy: a build that writes beside its sources must not change the snapshot.
            sources = temporary / ".sources"
            durable.copy_tree(build.snapshot, sources)
            if durable.fingerprint_tree(sources) != build.version.snapshot_fingerprint:
                raise BuildFailed(f"the snapshot of {build.version.slug} was changed while it was read. Run again.")
            for argv in artifact_commands(build, str(temporary)):
                self._run(argv, sources, build)
            with durable.storing(final):
                shutil.rmtree(sources)
                durable.write_text(
                    _names_path(final), json.dumps([name for name, _ in durable.iterate_tree(temporary)])
                )
                _retire(final)
        image = self.inspect(self._ref(build))
        if image is None:
            raise BuildFailed(f"{build.label}: {final} was removed at once. Run again.")
        return image

    def inspect(self, ref: str) -> Image | None:
        path = self._path(ref)
        try:
            names = _BuiltFiles(frozenset(json.loads(_names_path(path).read_text())))
            digest = TreeIndex(path.parent / f".{path.name}.index").fingerprint(path, names)
            size = sum((path / name).lstat().st_size for name in names.names)
        except (OSError, ValueError, TypeError):
            return None
        return Image(ref=ref, id=f"sha256:{digest}", size_bytes=size, path=path)

    def remove(self, slug: str, ref: str) -> None:
        path = self._path(ref)
        require_own(slug, ref)
        if not _names_path(path).is_file():
            return  # then no build made it
        with durable.storing(path):
            _retire(path)
            for beside in (_names_path(path), path.parent / f".{path.name}.index"):
                beside.unlink(missing_ok=True)

    def _ref(self, build: Build) -> str:
        return f"{build.version.slug}/images/{build.tag}"

    def _path(self, ref: str) -> Path:
        """Raises WorkspaceError: a manifest is a file that anybody may have written."""
        parts = ref.split("/")
        if len(parts) != 3 or parts[1] != "images" or any(part.startswith(".") or not part for part in parts):
            raise WorkspaceError(f"{ref!r} in a manifest below {self.versions_folder} is no folder of built files.")
        return self.versions_folder.joinpath(*parts)

    def _run(self, argv: list[str], cwd: Path, build: Build) -> None:
        names = {"STAGING_VERSION": build.version.slug, "STAGING_MODE": build.mode}
        command = Command(argv=argv, cwd=cwd, log=build.log, env=names, echo=build.echo)
        run_build_step(self.runner, command, build)


def require_own(slug: str, ref: str) -> None:
    """Raises WorkspaceError for another version's files: a manifest is a file that anybody may have written."""
    if not ref.startswith(f"{slug}/"):
        raise WorkspaceError(f"{ref} was not built for {slug}, so it is not removed. Correct the manifest of {slug}.")


def run_build_step(runner: CommandRunner, command: Command, build: Build, where: str = "") -> None:
    """Raises BuildFailed with the log's tail when the command is missing (`where`: on which host), fails or hangs."""
    program, log, timeout_s = command.argv[0], build.log, build.spec.build_timeout_s
    try:
        status = runner.run(command, timeout_s)
    except FileNotFoundError as error:
        advice = "Install it, or put it on PATH."
        raise BuildFailed(f"{build.label}: {program} is not installed{where}. {advice}") from error
    except OSError as error:
        raise BuildFailed(f"{build.label}: {program} cannot be run{where}: {error.strerror or error}.") from error
    if status is None:
        raise BuildFailed(f"{build.label} did not end in {timeout_s:g} s; see {log}", durable.read_tail(log))
    if status != 0:
        raise BuildFailed(f"{build.label}: {program} ended with status {status}; see {log}", durable.read_tail(log))


@dataclass(frozen=True)
class _BuiltFiles:
    """Ignores what a service wrote into its folder later: that is not what was built."""

    names: frozenset[str]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\0".join(sorted(self.names)).encode(errors="surrogateescape")).hexdigest()

    def __call__(self, path: str) -> bool:
        return path not in self.names


def artifact_commands(build: Build, artifact: str) -> list[list[str]]:
    """The build's commands, which fill the folder `artifact`."""
    return [[word.replace("{artifact}", artifact) for word in argv] for argv in build.spec.build]


def _names_path(path: Path) -> Path:
    return path.parent / f".{path.name}.names"


def _retire(final: Path) -> None:
    """Takes a folder away at once, whole: for a rebuild only when the new one is there."""
    if final.exists():
        with tempfile.TemporaryDirectory(prefix=".retired.", dir=final.parent, ignore_cleanup_errors=True) as grave:
            os.rename(final, Path(grave) / final.name)


def _identity(program: str) -> str:
    """Path, size and change time of the compiler: another one may build something else."""
    found = shutil.which(program)
    if found is None:
        return "missing"
    resolved = Path(found).resolve()
    facts = resolved.stat()
    return f"{resolved} {facts.st_size} {facts.st_mtime_ns}"
