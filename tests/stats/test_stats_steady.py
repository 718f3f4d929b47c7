"""The rule by which a warm-up ends, on recorded warm-ups of a JVM and of a native program, and on made-up ones."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.stats.steady import SteadyRule, is_steady, level_of, steady_after

RECORDED = json.loads((Path(__file__).parent / "data" / "warm-ups.json").read_text())["levels_ms"]
RULE = SteadyRule()
LEVELS = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60)


def test_recorded_jit_warm_up() -> None:
    """XP-06: while the JIT still makes the service faster, the rule does not hold; it holds once it has settled."""
    warming = RECORDED["nodelay-jvm"]
    assert warming[0] > 5 * min(warming), "the recording shows a warm-up"
    found = steady_after(warming, RULE)
    assert found is None or found >= 10
    assert not is_steady(warming[:10], RULE)
    long = [*warming, *warming[-5:] * 4]
    assert steady_after(long, SteadyRule(tolerance=0.25)) is not None


@pytest.mark.parametrize("name", ["baseline-jvm", "baseline-native"])
def test_recorded_steady_services(name: str) -> None:
    """XP-06: where the network's 44 ms hide the JIT, the rule holds as soon as it can."""
    assert steady_after(RECORDED[name], RULE) == 2 * RULE.windows


def test_a_slow_warm_up_is_not_steady() -> None:
    """Three percent a second is little within a window and much over ten."""
    levels = [100 * 0.97**second for second in range(60)]
    assert steady_after(levels, RULE) is None
    assert steady_after([*levels, *[levels[-1]] * 20], RULE) is not None


def test_one_pause_does_not_hide_that_it_is_steady() -> None:
    """A garbage collection in one window moves neither median."""
    levels = [2.0] * 7 + [40.0] + [2.0] * 4
    assert steady_after(levels, RULE) == 10


def test_noise_alone_is_found_steady() -> None:
    """With noise of 3 % per window every warm-up of a steady service ends, most of them soon."""
    random.seed(5)
    found = [steady_after([5 * math.exp(random.gauss(0, 0.03)) for _ in range(60)], RULE) for _ in range(200)]
    assert None not in found
    assert sorted(one for one in found if one)[100] <= 12


@given(LEVELS, st.floats(0.01, 100))
def test_the_unit_does_not_matter(levels: list[float], factor: float) -> None:
    """A share is a share, but for rounding at the very edge."""
    loose, tight = SteadyRule(tolerance=0.1 + 1e-9), SteadyRule(tolerance=0.1 - 1e-9)
    if is_steady(levels, tight):
        assert is_steady([factor * level for level in levels], loose)


@given(LEVELS)
def test_constant_is_steady_and_windows_without_requests_are_not(levels: list[float]) -> None:
    """Nothing sent proves nothing."""
    assert steady_after([levels[0]] * 10, RULE) == 10
    assert steady_after([None] * 30, RULE) is None
    assert not is_steady([*[levels[0]] * 10, None], RULE)


def test_level_of_a_window() -> None:
    """Geometric mean in ms."""
    assert level_of([1.0, 100.0]) == pytest.approx(10.0)
    assert level_of([]) is None
