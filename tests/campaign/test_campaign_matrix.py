"""The matrix and its order."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.campaign.matrix import build_cells

SLUGS = st.lists(st.sampled_from(["baseline", "a", "b", "c-1"]), min_size=2, max_size=4, unique=True)
MODES = st.lists(st.sampled_from(["jvm", "native", "graal"]), min_size=1, max_size=3, unique=True)
RUNS = st.integers(1, 13)
SEEDS = st.integers(-(2**40), 2**40)
ORDER = st.sampled_from(["balanced", "fixed"])


@given(SLUGS, MODES, RUNS, SEEDS, ORDER)
def test_every_cell_stands_once_in_whole_blocks(slugs, modes, runs, seed, order):
    """SM-07: a campaign is the matrix version × mode × run index, block by block."""
    cells = build_cells(slugs, modes, runs, seed, order)
    found = [(cell.run_index, cell.platform_mode, cell.version_slug) for cell in cells]
    assert sorted(found) == sorted(itertools.product(range(1, runs + 1), modes, slugs))
    blocks = [list(group) for _, group in itertools.groupby(cells, key=lambda cell: cell.block_id)]
    assert len(blocks) == runs * len(modes), "a block is split"
    assert all([cell.position for cell in block] == list(range(len(slugs))) for block in blocks)
    assert [cell.run_index for cell in cells] == sorted(cell.run_index for cell in cells)


@given(SLUGS, MODES, RUNS, SEEDS)
def test_each_version_takes_each_position_once_per_group(slugs, modes, runs, seed):
    """SM-07: the order is balanced: a Latin square in every group of as many blocks of a mode as versions."""
    cells = build_cells(slugs, modes, runs, seed, "balanced")
    size = len(slugs)
    for mode, first in itertools.product(modes, range(1, runs + 1, size)):
        group = [c for c in cells if c.platform_mode == mode and first <= c.run_index < first + size]
        places = [(cell.version_slug, cell.position) for cell in group]
        assert len(set(places)) == len(places), "a version stands at one position twice"
        if first + size <= runs + 1:
            assert set(places) == set(itertools.product(slugs, range(size)))


@given(SLUGS, MODES, RUNS, SEEDS)
def test_a_fixed_order_is_as_given(slugs, modes, runs, seed):
    """SM-07: --staging-order fixed keeps the order in which modes and versions are named."""
    cells = build_cells(slugs, modes, runs, seed, "fixed")
    expected = [(run, mode, slug) for run in range(1, runs + 1) for mode in modes for slug in slugs]
    assert [(cell.run_index, cell.platform_mode, cell.version_slug) for cell in cells] == expected


@given(SLUGS, MODES, RUNS, SEEDS)
def test_the_same_seed_gives_the_same_order(slugs, modes, runs, seed):
    """PT-04: the order comes from the seed alone, so that every worker computes the same."""
    assert build_cells(slugs, modes, runs, seed, "balanced") == build_cells(slugs, modes, runs, seed, "balanced")


def test_other_seeds_give_other_orders():
    """SM-07: the order is randomised: over many seeds every possible beginning appears, of versions and modes."""
    orders = [build_cells(["baseline", "a", "b"], ["jvm", "native"], 2, seed, "balanced") for seed in range(200)]
    beginnings = {(cells[0].platform_mode, *(cell.version_slug for cell in cells[:3])) for cells in orders}
    assert len(beginnings) == 2 * 6


def test_the_order_of_a_seed_is_the_same_on_every_python():
    """PT-04: a recorded seed reproduces its order on another machine; these orders were recorded."""
    assert _shown(["baseline", "fast"], 7) == RECORDED_TWO
    assert _shown(["baseline", "fast", "small"], 11) == RECORDED_THREE


def _shown(slugs, seed):
    cells = build_cells(slugs, ["jvm", "native"], 3, seed, "balanced")
    blocks = itertools.groupby(cells, key=lambda cell: cell.block_id)
    return [f"{block}: {' '.join(cell.version_slug for cell in group)}" for block, group in blocks]


RECORDED_TWO = [
    "run001-jvm: baseline fast",
    "run001-native: baseline fast",
    "run002-native: fast baseline",
    "run002-jvm: fast baseline",
    "run003-native: baseline fast",
    "run003-jvm: fast baseline",
]
RECORDED_THREE = [
    "run001-jvm: baseline fast small",
    "run001-native: fast small baseline",
    "run002-native: small baseline fast",
    "run002-jvm: fast small baseline",
    "run003-native: baseline fast small",
    "run003-jvm: small baseline fast",
]
