"""Two presets compared like two versions: each cell runs while its version's preset overrides, and proves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pytest_staging.model.campaign import Cell
from pytest_staging.model.errors import CellFailure, UsageProblem
from pytest_staging.throughput.client import PolicyClient

FORM = "--staging-policy-preset PRESET[,VERSION=PRESET...]"


def parse_presets(text: str, known: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """The preset of every version that is not named, and those of the others. Raises UsageProblem."""
    default, *others = text.split(",")
    named = dict(_pair(one) for one in others)
    for preset in (default, *named.values()):
        if preset not in known:
            names = ", ".join(known)
            raise UsageProblem(f"--staging-policy-preset: there is no preset {preset!r}; known are {names}. {FORM}")
    return default, named


def presets_of(slugs: tuple[str, ...], default: str, named: Mapping[str, str]) -> dict[str, str]:
    """Version to preset. Raises UsageProblem for a version that the campaign does not have."""
    if unknown := sorted(set(named) - set(slugs)):
        raise UsageProblem(
            f"--staging-policy-preset: {unknown[0]!r} is no version of this campaign; it has {', '.join(slugs)}."
        )
    return {slug: named.get(slug, default) for slug in slugs}


class UnderPreset:
    """`client` may operate. What ends an override before its cell has ended makes the cell a failed one."""

    def __init__(self, client: PolicyClient, campaign_id: str, presets: Mapping[str, str]) -> None:
        self._client, self._campaign_id, self._presets = client, campaign_id, presets

    @contextmanager
    def __call__(self, cell: Cell) -> Iterator[None]:
        preset = self._presets[cell.version_slug]
        why = f"campaign {self._campaign_id}, {cell.cell_id}"[:200]
        self._client.set_override(preset, None, why)
        try:
            self._require(preset, why)
            yield
            self._require(preset, why)
        finally:
            if self._client.override().get("reason") == why:
                self._client.clear_override()

    def _require(self, preset: str, why: str) -> None:
        found, status = self._client.override(), self._client.status()
        if (found.get("preset"), found.get("reason")) != (preset, why):
            by = f"another one of {found.get('who')} took its place" if found.get("active") else "it is over"
            raise CellFailure(
                f"the override {preset} did not last for the whole cell: {by}. Keep others away, or raise "
                "override.default_ttl_s of the policy."
            )
        if status["fail_safe"]:
            raise CellFailure(f"the policy was in its fail-safe, not in {preset}: {status['fail_safe_reason']}")


def _pair(text: str) -> tuple[str, str]:
    slug, equals, preset = text.partition("=")
    if not (slug and equals and preset):
        raise UsageProblem(f"--staging-policy-preset: {text!r} is no VERSION=PRESET. {FORM}")
    return slug, preset
