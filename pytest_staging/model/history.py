"""Campaigns in the order of time: what a metric was, where it changed, when versions were promoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A version became the baseline. `after` is how many of the history's campaigns were planned before that."""

    slug: str
    at: str
    campaign_id: str | None
    replaced: str | None
    after: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A candidate's median in one campaign, in the metric's unit, and the verdict on it; None when not applicable."""

    slug: str
    median: float | None
    verdict: str | None


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """One campaign's medians of a metric. `place` is the campaign's in the history, from 0.

    `yardstick` names what it was measured by: only points of one yardstick can be compared.
    """

    place: int
    yardstick: str
    baseline_slug: str
    baseline: float | None
    candidates: Sequence[Judged]


@dataclass(frozen=True, kw_only=True)
class Change:
    """`kind` is step or drift. A step lies between the places `start` and `end`, a drift goes from one to the other.

    `amount` is the new level divided by the old one when `relative`, else the difference in the metric's unit.
    """

    kind: str
    start: int
    end: int
    amount: float
    relative: bool
    worse: bool = False
    promoted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trend:
    """One metric on one target in one mode. `searched` is the number of points in which changes were looked for."""

    target: str
    platform_mode: str
    metric: str
    unit: str
    higher_is_better: bool
    points: Sequence[TrendPoint]
    changes: Sequence[Change] = ()
    searched: int = 0


@dataclass(frozen=True, kw_only=True)
class CampaignMark:
    """A campaign as the history names it. `yardstick` is a short name of benchmark, load tool, target and CPUs."""

    campaign_id: str
    created_at: str
    target: str
    yardstick: str
    yardstick_text: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class History:
    """All campaigns of a workspace that measured something, oldest first; `left_out` are (id, reason)."""

    campaigns: Sequence[CampaignMark]
    promotions: Sequence[Promotion]
    trends: Sequence[Trend]
    left_out: Sequence[tuple[str, str]]
