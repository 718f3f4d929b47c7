"""Steps and drifts: found where they are, and hardly ever where there are none."""

from __future__ import annotations

import math
import random

import pytest

pytest.importorskip("ruptures", reason="the extra report is not installed")

from pytest_staging.stats.changes import ALPHA, FEWEST, find_changes


def noisy(count: int, seed: int, spread: float = 0.03) -> list[float]:
    drawn = random.Random(seed)
    return [20.0 * math.exp(drawn.gauss(0.0, spread)) for _ in range(count)]


@pytest.mark.parametrize("count", [10, 25])
def test_noise_is_hardly_ever_flagged(count: int) -> None:
    """XP-04: the share of false alarms is what the module says. 200 series; the limit is exceeded by chance in .1 %."""
    flagged = sum(bool(find_changes(noisy(count, seed))) for seed in range(200))
    assert flagged / 200 <= ALPHA + 3.1 * math.sqrt(ALPHA * (1 - ALPHA) / 200)


@pytest.mark.parametrize(("count", "place"), [(12, 6), (20, 5), (30, 24)])
def test_a_step_is_found_where_it_is(count: int, place: int) -> None:
    """XP-04: one step, of about its size, within one campaign of its place."""
    values = [value * (1.25 if number >= place else 1.0) for number, value in enumerate(noisy(count, 5))]
    (found,) = find_changes(values)
    assert found.kind == "step"
    assert abs(found.end - place) <= 1
    assert found.end == found.start + 1
    assert 1.18 < found.amount < 1.32
    assert found.relative


def test_two_steps_are_two() -> None:
    """XP-04: up and down again is not no change."""
    values = [value * (1.4 if 10 <= number < 20 else 1.0) for number, value in enumerate(noisy(30, 7))]
    found = find_changes(values)
    assert [change.kind for change in found] == ["step", "step"]
    assert [change.end for change in found] == [10, 20]
    assert found[0].amount > 1 > found[1].amount


def test_a_drift_is_no_staircase() -> None:
    """XP-04: what grows a little each time is one drift and not many steps."""
    values = [value * 1.02**number for number, value in enumerate(noisy(25, 3, 0.02))]
    (found,) = find_changes(values)
    assert (found.kind, found.start, found.end) == ("drift", 0, 24)
    assert 1.4 < found.amount < 1.85


def test_zeros_are_compared_as_differences() -> None:
    """XP-04: a fail rate that begins to be above zero has no ratio."""
    (found,) = find_changes([0.0] * 8 + [0.01, 0.011, 0.009, 0.01, 0.01])
    assert not found.relative
    assert found.amount == pytest.approx(0.01, rel=0.05)
    assert found.end == 8


def test_too_few_and_equal_values_say_nothing() -> None:
    """XP-04: nine campaigns are not enough, whatever they show; no change at all is none."""
    assert find_changes([1.0] * 5 + [9.0] * (FEWEST - 6)) == []
    assert find_changes([5.0] * 40) == []


def test_the_same_values_give_the_same_changes() -> None:
    """XP-04: the shuffles are drawn from a fixed seed."""
    values = [value * (1.1 if number >= 9 else 1.0) for number, value in enumerate(noisy(18, 11))]
    assert find_changes(values) == find_changes(values)
