"""Which profile a campaign's versions run under: `PROFILE`, or `PROFILE,SLUG=PROFILE`; `@ENVIRONMENT` may follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_staging.model.capacity import Capacity
from pytest_staging.model.errors import UsageProblem

FORM = "--staging-target compose:PROFILE[,VERSION=PROFILE...][@ENVIRONMENT]"


@dataclass(frozen=True)
class Choice:
    """`default` is the profile of every version that `by_slug` does not name."""

    default: str
    environment: str
    by_slug: Mapping[str, str] = field(default_factory=dict)

    @property
    def profiles(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys((self.default, *self.by_slug.values())))

    def profile_of(self, slug: str) -> str:
        """The profile under which a version runs."""
        return self.by_slug.get(slug, self.default)


def parse_choice(text: str, capacity: Capacity) -> Choice:
    """The environment is the file's first one unless it is named. Raises UsageProblem naming what there is."""
    names, _, environment = text.partition("@")
    default, *others = names.split(",")
    pairs = dict(_pair(one) for one in others)
    if "@" not in text:
        environment = next(iter(capacity.environments))
    choice = Choice(default, environment, pairs)
    for profile in choice.profiles:
        if profile not in capacity.profiles:
            raise _unknown("profile", profile, capacity.profiles)
    if environment not in capacity.environments:
        raise _unknown("environment", environment, capacity.environments)
    return choice


def _pair(text: str) -> tuple[str, str]:
    slug, equals, profile = text.partition("=")
    if not (slug and equals and profile):
        raise UsageProblem(f"--staging-target: {text!r} is no VERSION=PROFILE. The form is {FORM}.")
    return slug, profile


def _unknown(what: str, name: str, known: Mapping[str, object]) -> UsageProblem:
    return UsageProblem(
        f"--staging-target: there is no {what} {name!r}. Known: {', '.join(known)}. The form is {FORM}."
    )
