"""Images in a pytest session: what the fixture `staging_images` gives, and builds that a campaign is told to force."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pytest_staging import store, wiring
from pytest_staging.model.building import Image
from pytest_staging.model.campaign import Campaign
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.inventory import HostSpec
from pytest_staging.store import Workspace

DEFAULT_TARGET = "docker"
REBUILD_LEASE_S = 3600.0


class ImagesForTests:
    """Builds a version in a mode once, over all tests, workers and sessions."""

    def __init__(self, workspace: Workspace, target: str | None) -> None:
        self._workspace = workspace
        self._target = target or DEFAULT_TARGET

    def __call__(self, slug: str, mode: str, target: str | None = None) -> Image:
        """Raises a StagingError of some kind, with the end of the build's log, when there is no image to be had."""
        version = store.load_version(self._workspace, slug)
        if mode not in version.service.modes:
            known = ", ".join(version.service.modes)
            raise UsageProblem(f"staging_images: version {slug!r} has no mode {mode!r}; it has {known}.")
        option = "staging_images: target" if target else wiring.TARGET_OPTION
        cache = wiring.make_images(self._workspace, target or self._target, option=option)
        return cache.ensure(version, mode, cache.folder(slug) / f"{mode}.log").image


def check_forced(modes: Collection[str], campaign: Campaign, resumed: bool) -> None:
    """Raises UsageProblem."""
    if modes and resumed:
        raise UsageProblem("--force-rebuild-* does not go with --staging-resume: half of the cells ran what was there.")
    for mode in modes:
        if mode not in campaign.platform_modes:
            known = ", ".join(campaign.platform_modes)
            raise UsageProblem(f"--force-rebuild-mode {mode}: the benchmark has {known}.")


def foresee_builds(
    workspace: Workspace, campaign: Campaign, modes: Collection[str], seats: Mapping[str, HostSpec]
) -> Iterator[str]:
    """A line for what each cell would run from, on each host that builds for itself; `modes` are forced.

    Builds nothing. Raises what looking raises.
    """
    here = wiring.images_here(workspace, campaign.target)
    for seat in [None] if here else seats.items():
        cache = here or wiring.make_images(workspace, campaign.target, seat)
        where = f" on {seat[0]}" if seat else ""
        for slug in campaign.slugs:
            version = store.load_version(workspace, slug)
            for mode in campaign.platform_modes:
                found = cache.foresee(version, mode, mode in modes)
                verdict, then = ("hit", "nothing to build") if found.hit else ("miss", "to be built")
                yield f"{slug} {mode}{where}: {verdict} ({found.reason}), {then}"


def rebuild_forced(
    workspace: Workspace,
    campaign: Campaign,
    modes: Collection[str],
    folder: Path,
    seats: Mapping[str, HostSpec],
) -> None:
    """Builds each version in `modes`, once on each host, before any cell. Raises BuildFailed; logs stay in `folder`."""
    if not modes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if wiring.images_here(workspace, campaign.target):
        _rebuild(workspace, campaign, modes, folder, None)
        return
    for seat in seats.items():
        # Somebody may be measuring there, and who takes the lease ends what others run.
        target = wiring.make_target(workspace, campaign.target, seat)
        with target.lease(f"campaign {campaign.campaign_id}, building", REBUILD_LEASE_S):
            _rebuild(workspace, campaign, modes, folder, seat)


def _rebuild(
    workspace: Workspace, campaign: Campaign, modes: Collection[str], folder: Path, seat: wiring.Seat | None
) -> None:
    cache = wiring.make_images(workspace, campaign.target, seat)
    end = f"@{seat[0]}" if seat else ""
    for slug in campaign.slugs:
        version = store.load_version(workspace, slug)
        for mode in dict.fromkeys(modes):
            cache.ensure(version, mode, folder / f"{slug}__{mode}{end}.log", force=True)
