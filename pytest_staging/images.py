"""The cache of what versions are built into: made once per version and mode, found again by fingerprint.

An artifact is a folder that appears whole, by a rename, under a name that is its fingerprint; a build that fails or is
killed leaves none. Builds of one version and mode are serialised over processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import BuildFailed, LeaseTimeout
from pytest_staging.model.ports import Command, Target
from pytest_staging.model.version import ModeSpec, Version

LOCK_MARGIN_S = 60.0


@dataclass(frozen=True)
class Artifact:
    """A built version in one mode. `hit` says that it was there; otherwise `reason` why it was built."""

    path: Path
    fingerprint: str
    hit: bool
    reason: str
    seconds: float


@dataclass(frozen=True)
class ArtifactCache:
    """Artifacts below `versions/<slug>/images/`, built by `target`."""

    versions_folder: Path
    target: Target

    def fingerprint(self, version: Version, mode: str) -> str:
        """Digest of everything that decides what comes out: snapshot, commands, mode, platform, and the compilers."""
        spec = version.service.modes[mode]
        inputs = {
            "snapshot": version.snapshot_fingerprint,
            "mode": mode,
            "build": [list(argv) for argv in spec.build],
            "platform": f"{platform.system()}-{platform.machine()}",
            "builder": self.target.name,
            "tools": {argv[0]: _identity(argv[0]) for argv in spec.build},
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    def look_up(self, version: Version, mode: str) -> Artifact | None:
        """The artifact when it is there; builds nothing."""
        fingerprint = self.fingerprint(version, mode)
        path = self._folder(version.slug) / f"{mode}-{fingerprint[:16]}"
        return Artifact(path, fingerprint, True, "fingerprints match", 0.0) if path.is_dir() else None

    def ensure(self, version: Version, mode: str, log: Path, force: bool = False) -> Artifact:
        """The artifact, built when it is not there or `force` is set. Raises BuildFailed with the log's tail."""
        from filelock import FileLock, Timeout

        if not force and (found := self.look_up(version, mode)):
            return found
        spec = version.service.modes[mode]
        folder = self._folder(version.slug)
        with durable.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        timeout_s = spec.build_timeout_s * max(1, len(spec.build)) + LOCK_MARGIN_S
        try:
            with FileLock(str(folder / f".{mode}.lock"), timeout=timeout_s, poll_interval=0.02):
                # Another process may have built it while this one waited.
                if not force and (found := self.look_up(version, mode)):
                    return found
                return self._build(version, mode, log, "forced" if force else self._miss(folder, mode))
        except Timeout as error:
            raise LeaseTimeout(
                f"{version.slug} in mode {mode} is being built elsewhere for over {timeout_s:g} s. Let that finish."
            ) from error

    def build_commands(self, version: Version, mode: str, artifact: str) -> list[list[str]]:
        """The exact commands of a build into the folder `artifact`."""
        spec = version.service.modes[mode]
        return [[word.replace("{artifact}", artifact) for word in argv] for argv in spec.build]

    def _folder(self, slug: str) -> Path:
        return self.versions_folder / slug / "images"

    def _miss(self, folder: Path, mode: str) -> str:
        earlier = re.compile(re.escape(mode) + "-[0-9a-f]{16}")
        return "inputs changed" if any(earlier.fullmatch(one.name) for one in folder.iterdir()) else "never built"

    def _build(self, version: Version, mode: str, log: Path, reason: str) -> Artifact:
        fingerprint = self.fingerprint(version, mode)
        final = self._folder(version.slug) / f"{mode}-{fingerprint[:16]}"
        started = time.monotonic()
        spec = version.service.modes[mode]
        with durable.new_folder(final) as temporary:
            # Built from a copy: a build that writes beside its sources must not change the snapshot.
            sources = temporary / ".sources"
            durable.copy_tree(self.versions_folder / version.slug / "snapshot", sources)
            if durable.fingerprint_tree(sources) != version.snapshot_fingerprint:
                raise BuildFailed(f"the snapshot of {version.slug} was changed while it was read. Run again.")
            for argv in self.build_commands(version, mode, str(temporary)):
                self._run(argv, sources, log, version.slug, mode, spec)
            with durable.storing(final):
                shutil.rmtree(sources)
                _retire(final)
        return Artifact(final, fingerprint, False, reason, time.monotonic() - started)

    def _run(self, argv: list[str], cwd: Path, log: Path, slug: str, mode: str, spec: ModeSpec) -> None:
        label = f"build of {slug} in mode {mode}"
        try:
            status = self.target.run(
                Command(argv=argv, cwd=cwd, log=log, env=_build_environment(slug, mode)), spec.build_timeout_s
            )
        except FileNotFoundError as error:
            raise BuildFailed(f"{label}: {argv[0]} is not installed. Install it, or put it on PATH.") from error
        except OSError as error:
            raise BuildFailed(f"{label}: {argv[0]} cannot be run: {error.strerror or error}.") from error
        if status is None:
            raise BuildFailed(f"{label} did not end in {spec.build_timeout_s:g} s; see {log}", durable.read_tail(log))
        if status != 0:
            raise BuildFailed(f"{label}: {argv[0]} ended with status {status}; see {log}", durable.read_tail(log))


def _retire(final: Path) -> None:
    """Makes room for a forced rebuild, only once the new build is there."""
    if final.exists():
        with tempfile.TemporaryDirectory(prefix=".retired.", dir=final.parent, ignore_cleanup_errors=True) as grave:
            os.rename(final, Path(grave) / final.name)


def _build_environment(slug: str, mode: str) -> Mapping[str, str]:
    return {"STAGING_VERSION": slug, "STAGING_MODE": mode}


def _identity(program: str) -> str:
    """Path, size and change time of the compiler: another one may build something else."""
    found = shutil.which(program)
    if found is None:
        return "missing"
    resolved = Path(found).resolve()
    facts = resolved.stat()
    return f"{resolved} {facts.st_size} {facts.st_mtime_ns}"
