"""`versions/<slug>/images/manifest.json`: what was built from what; and the decision whether it still fits. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pytest_staging.model.errors import WorkspaceError

SCHEMA_VERSION = 1
KEPT = 8
"""Entries per mode and builder: a source put back to what it was is found again."""
FITS = "fingerprints match"
NEVER_BUILT = "never built"
UNREADABLE = "the manifest was unreadable"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One build. `inputs` are what decided it besides the snapshot; `build_fingerprint` is their digest."""

    mode: str
    builder: str
    image_ref: str
    image_id: str
    size_bytes: int
    snapshot_fingerprint: str
    build_fingerprint: str
    inputs: Mapping[str, str]
    built_at: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an image must have been built from."""

    mode: str
    builder: str
    snapshot_fingerprint: str
    inputs: Mapping[str, str]

    @property
    def build_fingerprint(self) -> str:
        """Digest of `inputs`."""
        return digest_inputs(self.inputs)

    @property
    def fingerprint(self) -> str:
        """One digest of both."""
        both = f"{self.snapshot_fingerprint}\n{self.build_fingerprint}\n"
        return hashlib.sha256(both.encode()).hexdigest()

    def fits(self, entry: Entry) -> bool:
        mine = (self.snapshot_fingerprint, self.build_fingerprint)
        return mine == (entry.snapshot_fingerprint, entry.build_fingerprint)


@dataclass(frozen=True)
class Manifest:
    """Newest entry first. `damage` says why an unreadable file was taken for an empty one."""

    entries: tuple[Entry, ...] = ()
    damage: str = ""

    def of(self, mode: str, builder: str) -> list[Entry]:
        """Its entries of one mode and builder, newest first."""
        return [one for one in self.entries if (one.mode, one.builder) == (mode, builder)]

    def with_entry(self, entry: Entry) -> Manifest:
        """`entry` first; the same build's earlier entry and the oldest beyond KEPT go."""
        same = [one for one in self.of(entry.mode, entry.builder) if one.image_ref != entry.image_ref]
        kept = {id(one) for one in same[: KEPT - 1]}
        others = [one for one in self.entries if (one.mode, one.builder) != (entry.mode, entry.builder)]
        return Manifest((entry, *(one for one in same if id(one) in kept), *others))

    def without(self, refs: set[str]) -> Manifest:
        """Without the entries whose `image_ref` is named."""
        return Manifest(tuple(one for one in self.entries if one.image_ref not in refs))


@dataclass(frozen=True)
class Decision:
    """Hit or miss, and why. A hit names the entry."""

    reason: str
    entry: Entry | None = None

    @property
    def hit(self) -> bool:
        return self.entry is not None


def decide(manifest: Manifest, wanted: Wanted, inspect: Callable[[str], str | None]) -> Decision:
    """A hit needs both fingerprints and that `inspect(ref)`, the engine's own answer, is the id that was built."""
    known = manifest.of(wanted.mode, wanted.builder)
    entry = next((one for one in known if wanted.fits(one)), None)
    if entry is None:
        never = UNREADABLE if manifest.damage else NEVER_BUILT
        return Decision(f"changed: {', '.join(_changes(known[0], wanted))}" if known else never)
    found = inspect(entry.image_ref)
    if found is None:
        return Decision(f"{entry.image_ref} is gone")
    if found != entry.image_id:
        return Decision(f"{entry.image_ref} is not what was built")
    return Decision(FITS, entry)


def parse_manifest(text: str, source: str) -> Manifest:
    """A damaged file is an empty manifest that says so: a cache may be lost.

    Raises WorkspaceError for the file of a newer program, which is not ours to overwrite.
    """
    try:
        raw = json.loads(text)
        version = raw["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise WorkspaceError(
                f"{source} has schema version {version}, this program knows {SCHEMA_VERSION}. "
                "Upgrade pytest-staging, or remove the file to build anew."
            )
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version!r}")
        if not isinstance(raw["images"], list):
            raise ValueError(f"images is {raw['images']!r}")
        return Manifest(tuple(_parse_entry(one) for one in raw["images"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return Manifest(damage=f"{type(error).__name__}: {error}")


def render_manifest(manifest: Manifest) -> str:
    """The file's text; the same entries give the same bytes."""
    data = {"schema_version": SCHEMA_VERSION, "images": [asdict(one) for one in manifest.entries]}
    return json.dumps(data, indent=2) + "\n"


def digest_inputs(inputs: Mapping[str, str]) -> str:
    """SHA-256, in hexadecimal, whatever the order."""
    return hashlib.sha256(json.dumps(dict(inputs), sort_keys=True).encode()).hexdigest()


def _changes(entry: Entry, wanted: Wanted) -> Sequence[str]:
    names = [*entry.inputs, *(name for name in wanted.inputs if name not in entry.inputs)]
    changed = [name for name in names if entry.inputs.get(name) != wanted.inputs.get(name)]
    return ["snapshot", *changed] if entry.snapshot_fingerprint != wanted.snapshot_fingerprint else changed


def _parse_entry(raw: Any) -> Entry:
    entry = Entry(**raw)
    for field in fields(Entry):
        wanted = {"inputs": dict, "size_bytes": int, "seconds": (int, float)}.get(field.name, str)
        value = getattr(entry, field.name)
        # What JSON can hold and no name may: NUL, half a surrogate pair, a terminal's escape sequences.
        if not isinstance(value, wanted) or (wanted is str and not value.isprintable()):  # type: ignore[arg-type]
            raise ValueError(f"{field.name} is {value!r}")
    if not all(isinstance(value, str) for value in entry.inputs.values()):
        raise ValueError(f"inputs is {entry.inputs!r}")
    if entry.build_fingerprint != digest_inputs(entry.inputs):
        raise ValueError("build_fingerprint is not that of inputs")
    return entry
