"""Builds on another host for targets that run processes there: its own compilers fill a folder of its work directory.

    versions/<slug>/artifacts/<tag>/files    what was built; a service may write beside it
    versions/<slug>/artifacts/<tag>/built    the manifest of `files` as the build left it

The folder `<tag>` appears whole, by a rename.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.images.artifact import artifact_commands, require_own, run_build_step
from pytest_staging.model.building import Build, Image
from pytest_staging.model.errors import BuildFailed, WorkspaceError
from pytest_staging.model.ports import Command, CommandRunner
from pytest_staging.model.version import Version
from pytest_staging.ssh.files import QUICK_S
from pytest_staging.ssh.host import SYNC_DEADLINE_S, Host

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# Prints what a folder holds, sorted: contents, executable bits, folders and links.
_SURVEY = r"""
survey() (
  export LC_ALL=C; cd "$1" || exit 1
  { find . -type f -exec sha256sum {} + ; find . -type f -perm -100 | sed 's/^/program /'
    find . -type d | sed 's/^/folder /'
    find . -type l | while IFS= read -r link; do printf 'link %s -> %s\n' "$link" "$(readlink "$link")"; done
  } | sort
)
"""
# $1 system, $@ programs: path, size and change time of each compiler, for another one may build something else.
_INPUTS = r"""
echo "$(uname -s)-$(uname -m)"
for program in "$@"; do
  path=$(command -v "$program") && path=$(readlink -f "$path") && stat -c '%n %s %Y' "$path" || echo missing
done
"""
# $1 temporary folder, $2 snapshot, $3 what to remove: unfinished builds of the same name
_BEGIN = r"""
find "$(dirname "$1")" -maxdepth 1 -name "$3" -exec rm -rf {} + 2>/dev/null
mkdir -p "$1/files" && cp -a "$2" "$1/sources"
"""
# $1 temporary folder, $2 final name, $3 grave
_FINISH = (
    _SURVEY
    + r"""
rm -rf "$1/sources" && survey "$1/files" >"$1/built" && [ -s "$1/built" ] || exit 1
find "$1/files" -type f -exec stat -c %s {} + >"$1/sizes" || exit 1
[ ! -e "$2" ] || mv "$2" "$3" || exit 1
mv "$1" "$2" && rm -rf "$3"
"""
)
# $1 the folder. Of what lies there now only what the build left counts.
_INSPECT = (
    _SURVEY
    + r"""
[ -s "$1/built" ] || exit 0
survey "$1/files" | grep -Fxf "$1/built" | sha256sum; cat "$1/sizes"
"""
)
# $1 the folder, $2 grave
_REMOVE = r"""[ ! -s "$1/built" ] || { mv "$1" "$2" && rm -rf "$2"; }"""


@dataclass(frozen=True)
class RemoteArtifactBuilder:
    """Artifacts of the versions below `versions_folder` on `host`, whose commands `runner` runs.

    An image's `path` is the folder on the host.
    """

    versions_folder: Path
    host: Host
    runner: CommandRunner

    @property
    def name(self) -> str:
        """In manifests: what one host has built is not there on another."""
        return f"artifact@{self.host.name}"

    def require_ready(self) -> None:
        """Raises what connecting raises, and WorkspaceError for a work directory that is not ours."""
        self.host.prepare()

    def fingerprint(self, version: Version, mode: str, snapshot: Path) -> str:
        return version.snapshot_fingerprint

    def inputs(self, version: Version, mode: str, snapshot: Path) -> Mapping[str, str]:
        spec = version.service.modes[mode]
        programs = list(dict.fromkeys(argv[0] for argv in spec.build))
        platform, *identities = self._ask(_INPUTS, *programs, what="looking at the compilers").splitlines()
        return {
            "mode": mode,
            "build commands": json.dumps([list(argv) for argv in spec.build]),
            "platform": platform,
            **dict(zip(programs, identities, strict=True)),
        }

    def commands(self, build: Build) -> list[list[str]]:
        return artifact_commands(build, f"{self._path(self._ref(build))}/files")

    def build(self, build: Build) -> Image:
        """As the Protocol says. Raises ConnectionLost, RemoteFailed (no space) too."""
        snapshot = self.host.sync_snapshot(build.snapshot)
        if durable.fingerprint_tree(build.snapshot) != build.version.snapshot_fingerprint:
            raise BuildFailed(f"the snapshot of {build.version.slug} was changed while it was read. Run again.")
        final = self._path(self._ref(build))
        temporary, grave = self._beside(final, "tmp"), self._beside(final, "retired")
        self._change(_BEGIN, temporary, snapshot, f".{build.tag}.*", what=f"copying {snapshot}")
        for argv in artifact_commands(build, f"{temporary}/files"):
            self._run(argv, f"{temporary}/sources", build)
        self._change(_FINISH, temporary, final, grave, what=f"putting {final} in place")
        image = self.inspect(self._ref(build))
        if image is None:
            raise BuildFailed(f"{build.label}: {final} on {self.host.name} was removed at once. Run again.")
        return image

    def inspect(self, ref: str) -> Image | None:
        path = self._path(ref)
        found = self._ask(_INSPECT, path, what=f"looking at {path}", deadline_s=SYNC_DEADLINE_S).split()
        if not found:
            return None
        digest, sizes = found[0], [int(word) for word in found[2:]]
        return Image(ref=ref, id=f"sha256:{digest}", size_bytes=sum(sizes), path=Path(path, "files"))

    def remove(self, slug: str, ref: str) -> None:
        path = self._path(ref)
        require_own(slug, ref)
        self._change(_REMOVE, path, self._beside(path, "retired"), what=f"removing {path}")

    def _ref(self, build: Build) -> str:
        return f"{build.version.slug}/artifacts/{build.tag}"

    def _path(self, ref: str) -> str:
        """Raises WorkspaceError: a manifest is a file that anybody may have written."""
        parts = ref.split("/")
        if len(parts) != 3 or parts[1] != "artifacts" or not all(_NAME.fullmatch(part) for part in parts):
            raise WorkspaceError(f"{ref!r} in a manifest below {self.versions_folder} is no folder of built files.")
        slug, _, tag = parts
        return f"{self.host.version_folder(self.versions_folder / slug / 'snapshot')}/artifacts/{tag}"

    def _beside(self, path: str, what: str) -> str:
        folder, _, name = path.rpartition("/")
        return f"{folder}/.{name}.{secrets.token_hex(4)}.{what}"

    def _run(self, argv: list[str], cwd: str, build: Build) -> None:
        names = {"STAGING_VERSION": build.version.slug, "STAGING_MODE": build.mode}
        command = Command(argv=argv, cwd=Path(cwd), log=build.log, env=names, echo=build.echo)
        run_build_step(self.runner, command, build, where=f" on {self.host.name}")

    def _ask(self, script: str, *arguments: str, what: str, deadline_s: float = QUICK_S) -> str:
        result = self.host.connection.run_script(script, *arguments, deadline_s=deadline_s).require(what)
        return result.stdout.decode(errors="replace")

    def _change(self, script: str, *arguments: str, what: str) -> None:
        self._ask(script, *arguments, what=what, deadline_s=SYNC_DEADLINE_S)
