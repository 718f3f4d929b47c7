"""The model: names of cells, and errors that say everything that is wrong."""

from __future__ import annotations

import inspect

import pytest

from pytest_staging.model import errors
from pytest_staging.model.campaign import Cell, CellSummary
from pytest_staging.model.errors import ContractError, Problem, StagingError, UsageProblem


def test_a_cells_names() -> None:
    """SM-07: folders and ids are deterministic."""
    cell = Cell(run_index=1, platform_mode="jvm", version_slug="pool-v2", position=1)
    assert cell.cell_id == "run001-jvm-pool-v2"
    assert cell.block_id == "run001-jvm"
    assert cell.folder == "runs/run-001/pool-v2__jvm"
    assert Cell(1234, "jvm", "a").folder == "runs/run-1234/a__jvm"


def test_the_position_is_no_part_of_a_cells_identity() -> None:
    assert Cell(1, "jvm", "a", 0) == Cell(1, "jvm", "a", 1)
    assert sorted([Cell(2, "jvm", "a"), Cell(1, "native", "a"), Cell(1, "jvm", "b")]) == [
        Cell(1, "jvm", "b"), Cell(1, "native", "a"), Cell(2, "jvm", "a"),
    ]  # fmt: skip


@pytest.mark.parametrize(("outcome", "passed"), [("passed", True), ("failed", False), ("", False), ("PASSED", False)])
def test_only_passed_is_a_pass(outcome: str, passed: bool) -> None:
    summary = CellSummary(
        campaign_id="c", run_index=1, version_slug="a", platform_mode="jvm", attempt=1, outcome=outcome,
        started_at="", finished_at="",
    )  # fmt: skip
    assert summary.passed is passed
    assert summary.cell == Cell(1, "jvm", "a")


def test_contract_errors() -> None:
    """SM-04: one problem stands on one line; several stand below each other."""
    one = ContractError("f.yaml", [Problem("load.rate", "is missing", 3)])
    assert str(one) == "f.yaml: line 3: load.rate: is missing"
    several = ContractError("f.yaml", [Problem("a", "x"), Problem("", "y", 2)], "Do this.")
    assert str(several) == "f.yaml: 2 errors\n  a: x\n  line 2: y\nDo this."


# Codes of their own: evidence that is not whole yet, and how a parser that was borrowed would have ended the program.
OTHER_EXITS = {errors.EvidenceMissing: 3, errors.ParserLeft: 0}


@pytest.mark.parametrize(
    "error", [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)]
)
def test_exit_codes(error: type[Exception]) -> None:
    """2 is for what the user can put right, 1 for what went wrong; others are listed."""
    assert issubclass(error, StagingError)
    assert error.exit_code == OTHER_EXITS.get(error, 2 if issubclass(error, UsageProblem) else 1)
