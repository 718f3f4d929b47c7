"""The hosts of a campaign as one target, for as long as it is planned."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from pytest_staging.model.errors import StagingError, UsageProblem
from pytest_staging.model.ports import HostTarget
from pytest_staging.model.version import ModeSpec


class HostFleet:
    """`targets` by their place in the inventory, at least one. What a mode needs is the same on all of them."""

    def __init__(self, targets: Mapping[str, HostTarget]) -> None:
        self._targets = targets
        self._any = next(iter(targets.values()))
        self.name = self._any.name
        self.left_out: dict[str, str] = {}

    def unfit_reason(self, mode: ModeSpec) -> str | None:
        """As the Protocol says."""
        return self._any.unfit_reason(mode)

    def require_ready(self) -> None:
        """Asks all at once; one is enough, and the others are `left_out` with the reason.

        Raises UsageProblem when there is none.
        """
        with ThreadPoolExecutor(len(self._targets)) as pool:
            found = dict(zip(self._targets, pool.map(_problem_of, self._targets.values()), strict=True))
        problems = {name: error for name, error in found.items() if error is not None}
        self.left_out = {name: str(error) for name, error in problems.items()}
        if len(problems) < len(found):
            return
        if len(problems) == 1:
            raise UsageProblem(next(iter(self.left_out.values())))
        reasons = "".join(f"\n  {name}: {error}" for name, error in problems.items())
        raise UsageProblem(f"no host slot can be used, of {len(problems)} (staging-manager hosts check):{reasons}")


def _problem_of(target: HostTarget) -> StagingError | None:
    try:
        target.require_ready()
    except StagingError as error:
        return error
    finally:
        target.close()
    return None
