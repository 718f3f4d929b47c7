"""Several profiles in several environments checked at once: the gate that needs no containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_staging.capacity.validating import Description, validate
from pytest_staging.model.capacity import Mismatch
from pytest_staging.operating.describing import require_environment, require_profile


@dataclass(frozen=True)
class Checked:
    """What was found of one profile in one environment; `missing` are variables to set before a start."""

    profile: str
    environment: str
    mismatches: tuple[Mismatch, ...]
    missing: tuple[str, ...]


def check_profiles(
    description: Description, profile: str | None, environment: str | None, ours: Mapping[str, str]
) -> list[Checked]:
    """None stands for every one. Raises UsageProblem for an unknown name."""
    capacity = description.capacity
    profiles = [require_profile(description, profile)] if profile else list(capacity.profiles)
    environments = [require_environment(description, environment)] if environment else list(capacity.environments)
    return [
        Checked(one, where, tuple(validate(description, one, where, ours)), tuple(description.missing(where, ours)))
        for one in profiles
        for where in environments
    ]
