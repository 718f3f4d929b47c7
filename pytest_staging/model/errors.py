"""The whole error tree. Each error says what failed, where, and what to do next.

`UsageProblem` means that the user can put it right (exit code 2); `CampaignProblem` that the run itself went wrong
(exit code 1). Foreign exceptions are translated where they arise and stay as `__cause__`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class StagingError(Exception):
    """Root of every error that pytest-staging raises on purpose."""

    exit_code = 1


class UsageProblem(StagingError):
    """Bad input: an option, a file, a name."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong in one file. `path` is dotted (`load.rate`), `line` counts from 1."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class ContractError(UsageProblem):
    """A file breaks its contract. Holds every problem of the file, not only the first."""

    def __init__(self, source: str, problems: Sequence[Problem], advice: str = "") -> None:
        self.source = source
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = f"{source}: {self.problems[0]}"
        else:
            lines = "\n".join(f"  {problem}" for problem in self.problems)
            text = f"{source}: {len(self.problems)} errors\n{lines}"
        super().__init__(f"{text}\n{advice}" if advice else text)


class UnsafeName(UsageProblem):
    """A slug, mode or id that must not become part of a path."""


class WorkspaceError(UsageProblem):
    """A folder, version, campaign or benchmark is missing, double, or in the way."""


class StorageError(StagingError):
    """The file system refused: disk full, read-only, no permission."""


class ToolMissing(UsageProblem):
    """A program or package that the benchmark names is not installed, or not in the version it asks for."""


class LeaseTimeout(StagingError):
    """Another campaign measures on this host."""


class PinChanged(UsageProblem):
    """Something that a campaign pinned (benchmark, snapshot, seed, matrix) is not what it was."""


class PromotionRefused(StagingError):
    """A transition that the rules or the evidence do not allow."""


class CellFailure(StagingError):
    """A cell could not be measured. `log_tail` holds the last lines of the log that explains it."""

    def __init__(self, reason: str, log_tail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.log_tail = log_tail


class BuildFailed(CellFailure):
    """A version's build command failed."""


class ServiceFailed(CellFailure):
    """The service died, never got healthy, or somebody else answered on its port."""


class PortTaken(ServiceFailed):
    """Somebody else listens on the port that was free a moment ago."""


class LoadFailed(CellFailure):
    """The load tool crashed, wrote nothing usable, or every request failed."""
