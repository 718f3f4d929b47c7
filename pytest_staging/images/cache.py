"""The cache of what versions are built into: built once per version and mode, over processes, and found again.

An image is in the manifest only when it is whole: a build that fails or is killed leaves no entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pytest_staging import durable
from pytest_staging.images.manifest import Decision, Entry, Manifest, Wanted, decide, parse_manifest, render_manifest
from pytest_staging.model.building import Build, Builder, Image
from pytest_staging.model.errors import BuildFailed, LeaseTimeout
from pytest_staging.model.version import Version

LOCK_MARGIN_S = 60.0
MANIFEST_LOCK_S = 30.0
TAG_LETTERS = 128  # what engines allow


@dataclass(frozen=True)
class BuiltImage:
    """A version in one mode, built. `hit` says that it was there; otherwise `reason` why it was built."""

    image: Image
    fingerprint: str
    hit: bool
    reason: str
    seconds: float


@dataclass(frozen=True)
class ImageCache:
    """Images of the versions below `versions_folder`, made by `builder`."""

    versions_folder: Path
    builder: Builder

    def fingerprint(self, version: Version, mode: str) -> str:
        """Digest of everything that decides what comes out: snapshot, commands, mode, platform, compilers, bases."""
        return self._wanted(version, mode).fingerprint

    def look_up(self, version: Version, mode: str) -> tuple[Decision, Image | None]:
        """Whether the image is there, and it; builds nothing."""
        return self._look_up(version.slug, self._wanted(version, mode))

    def foresee(self, version: Version, mode: str, force: bool = False) -> Decision:
        """What `ensure` would find; builds nothing."""
        return Decision("forced") if force else self.look_up(version, mode)[0]

    def ensure(
        self, version: Version, mode: str, log: Path, force: bool = False, echo: Callable[[bytes], None] | None = None
    ) -> BuiltImage:
        """The image, built when it does not fit or `force` is set. Raises BuildFailed with the log's tail."""
        wanted = self._wanted(version, mode)
        if not force and (found := self._hit(version.slug, wanted)):
            return found
        with self._building(version, mode):
            # Another process may have built it while this one waited.
            if not force and (found := self._hit(version.slug, wanted)):
                return found
            decision, _ = self._look_up(version.slug, wanted)
            build = self.plan(version, mode, log, wanted)
            return self._build(replace(build, echo=echo, fresh=force), wanted, "forced" if force else decision.reason)

    def plan(self, version: Version, mode: str, log: Path = Path(), wanted: Wanted | None = None) -> Build:
        """The build that `ensure` would run."""
        wanted = wanted or self._wanted(version, mode)
        end = f"-{mode}-{wanted.fingerprint[:12]}"
        tag = f"{version.slug[: TAG_LETTERS - len(end)]}{end}"
        return Build(version=version, mode=mode, snapshot=self.snapshot(version.slug), tag=tag, log=log)

    def snapshot(self, slug: str) -> Path:
        """Where a version's files lie."""
        return self.versions_folder / slug / "snapshot"

    def folder(self, slug: str) -> Path:
        """Where a version's manifest, build logs and built files lie."""
        return self.versions_folder / slug / "images"

    def manifest_path(self, slug: str) -> Path:
        """Where it is said what a version was built into."""
        return self.folder(slug) / "manifest.json"

    def read_manifest(self, slug: str) -> Manifest:
        """Empty when there is none. Raises WorkspaceError for a newer program's."""
        path = self.manifest_path(slug)
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            return Manifest()
        except (OSError, UnicodeDecodeError) as error:
            return Manifest(damage=str(error))
        return parse_manifest(text, str(path))

    def forget(self, slug: str, refs: set[str]) -> None:
        """Removes images and their entries. What cannot be removed keeps its entry, so as to be found again."""
        self.read_manifest(slug)  # a newer program's images are not ours to remove either
        for ref in sorted(refs):
            self.builder.remove(slug, ref)
            self._forget_entry(slug, ref)

    def _wanted(self, version: Version, mode: str) -> Wanted:
        snapshot = self.snapshot(version.slug)
        return Wanted(
            mode=mode,
            builder=self.builder.name,
            snapshot_fingerprint=self.builder.fingerprint(version, mode, snapshot),
            inputs=self.builder.inputs(version, mode, snapshot),
        )

    def _look_up(self, slug: str, wanted: Wanted) -> tuple[Decision, Image | None]:
        seen: dict[str, Image | None] = {}

        def inspect(ref: str) -> str | None:
            found = seen[ref] = self.builder.inspect(ref)
            return found.id if found else None

        decision = decide(self.read_manifest(slug), wanted, inspect)
        return decision, seen.get(decision.entry.image_ref) if decision.entry else None

    def _hit(self, slug: str, wanted: Wanted) -> BuiltImage | None:
        decision, image = self._look_up(slug, wanted)
        return BuiltImage(image, wanted.fingerprint, True, decision.reason, 0.0) if image else None

    @contextmanager
    def _building(self, version: Version, mode: str) -> Iterator[None]:
        spec = version.service.modes[mode]
        timeout_s = spec.build_timeout_s * max(1, len(spec.build)) + LOCK_MARGIN_S
        # What one host builds does not wait for another.
        name = f"{mode}.{self.builder.name}"
        with self._locked(version.slug, name, timeout_s, f"{version.slug} in mode {mode} is being built"):
            yield

    @contextmanager
    def _locked(self, slug: str, name: str, timeout_s: float, what: str) -> Iterator[None]:
        from filelock import FileLock, Timeout

        folder = self.folder(slug)
        with durable.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(folder / f".{name}.lock"))
            try:
                lock.acquire(timeout=timeout_s, poll_interval=0.02)
            except Timeout as error:  # which is an OSError too
                raise LeaseTimeout(f"{what} elsewhere for over {timeout_s:g} s. Let that finish.") from error
        try:
            yield
        finally:
            lock.release()

    def _build(self, build: Build, wanted: Wanted, reason: str) -> BuiltImage:
        self.builder.require_ready()
        with durable.storing(build.log):
            build.log.unlink(missing_ok=True)  # only now: until then it is the log of somebody who builds
        started = time.monotonic()
        image = self.builder.build(build)
        seconds = time.monotonic() - started
        built = self._wanted(build.version, build.mode)
        # A base image that was fetched by the build has an id only now; whatever had one before must have kept it.
        if built.snapshot_fingerprint != wanted.snapshot_fingerprint or not _refines(wanted, built):
            self.builder.remove(build.version.slug, image.ref)
            raise BuildFailed(f"{build.label}: its snapshot or a base image changed while it was read. Run again.")
        entry = Entry(
            mode=build.mode,
            builder=self.builder.name,
            image_ref=image.ref,
            image_id=image.id,
            size_bytes=image.size_bytes,
            snapshot_fingerprint=built.snapshot_fingerprint,
            build_fingerprint=built.build_fingerprint,
            inputs=dict(built.inputs),
            built_at=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
            seconds=round(seconds, 3),
        )
        self._change_manifest(build.version.slug, lambda manifest: manifest.with_entry(entry))
        return BuiltImage(image, built.fingerprint, False, reason, seconds)

    def _forget_entry(self, slug: str, ref: str) -> None:
        self._change_manifest(slug, lambda manifest: manifest.without({ref}))

    def _change_manifest(self, slug: str, change: Callable[[Manifest], Manifest]) -> None:
        # The modes of a version are built side by side and share the file.
        with self._locked(slug, "manifest", MANIFEST_LOCK_S, f"the manifest of {slug} is held"):
            changed = change(self.read_manifest(slug))
            durable.write_text(self.manifest_path(slug), render_manifest(changed))


def _refines(before: Wanted, after: Wanted) -> bool:
    from pytest_staging.model.building import NOT_HERE

    return before.inputs.keys() == after.inputs.keys() and all(
        value in (after.inputs[name], NOT_HERE) for name, value in before.inputs.items()
    )
