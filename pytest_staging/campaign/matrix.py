"""The matrix version × mode × run index, and its order: pure, and the same for the same seed everywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pytest_staging.model.campaign import Cell

ORDERS = ("balanced", "fixed")


def build_cells(slugs: Sequence[str], modes: Sequence[str], runs: int, seed: int, order: str) -> tuple[Cell, ...]:
    """Cells in the order in which they run, block by block.

    balanced: within every group of len(slugs) blocks of a mode each version stands once at each position (a cyclic
    Latin square over a random permutation, its rows shuffled), because the slot itself biases. fixed: as given.
    """
    rng = random.Random(seed)
    orders = {mode: _version_orders(slugs, runs, rng, order) for mode in modes}
    cells = []
    for run in range(runs):
        for mode in modes if order == "fixed" else _shuffled(modes, rng):
            cells += [Cell(run + 1, mode, slug, position) for position, slug in enumerate(orders[mode][run])]
    return tuple(cells)


def _version_orders(slugs: Sequence[str], runs: int, rng: random.Random, order: str) -> list[list[str]]:
    if order == "fixed":
        return [list(slugs)] * runs
    rows: list[list[str]] = []
    while len(rows) < runs:
        permutation = _shuffled(slugs, rng)
        square = [permutation[shift:] + permutation[:shift] for shift in range(len(permutation))]
        rows += _shuffled(square, rng)
    return rows[:runs]


def _shuffled(items: Sequence[object], rng: random.Random) -> list:  # type: ignore[type-arg]
    # By random() keys: its sequence is guaranteed over Python versions, that of shuffle() is not.
    return [item for _, item in sorted(((rng.random(), item) for item in items), key=lambda pair: pair[0])]
