"""The steps of a runbook in order: `<!-- staging: sequence start validate evidence rollback -->`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_staging.model.errors import Problem
from pytest_staging.runbooks.nearest import hint


@dataclass(frozen=True)
class Step:
    """A command, or a block that a comment names, by the words that it may be called by."""

    line: int
    names: tuple[str, ...]


def check_sequence(claim_line: int, wanted: Sequence[str], steps: Sequence[Step]) -> list[Problem]:
    """`steps` are those of the section that claims the order `wanted`; `a|b` is either of two.

    Each wanted step has to stand somewhere after the one before it; others may stand between them.
    """
    problems: list[Problem] = []
    order = ", ".join(wanted)
    reached, last = -1, ""
    for name in wanted:
        places = [index for index, step in enumerate(steps) if set(name.split("|")) & set(step.names)]
        following = [index for index in places if index > reached]
        if following:
            reached, last = following[0], name
        elif places:
            line, before = steps[places[-1]].line, steps[reached].line
            message = f"the step {name!r} stands before {last!r} (line {before}); the order is {order}"
            problems.append(Problem("", message, line))
        else:
            known = {one for step in steps for one in step.names}
            message = f"the step {name!r} is missing in this section.{hint(name, known)} The order is {order}"
            problems.append(Problem("", message, claim_line))
    return problems
