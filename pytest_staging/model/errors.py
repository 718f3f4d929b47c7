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


class EngineMissing(ToolMissing):
    """No container engine answers, or its Python client is not installed."""


class LeaseTimeout(StagingError):
    """Another campaign measures on this host."""


class PinChanged(UsageProblem):
    """Something that a campaign pinned (benchmark, snapshot, seed, matrix) is not what it was."""


class PromotionRefused(StagingError):
    """A transition that the rules or the evidence do not allow."""


class NotComparable(StagingError):
    """Two campaigns did not measure by the same measure. Holds every reason."""

    def __init__(self, first: str, second: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        lines = "\n".join(f"  - {reason}" for reason in self.reasons)
        super().__init__(f"{first} and {second} cannot be compared:\n{lines}\nRun both by one benchmark and setup.")


class CellFailure(StagingError):
    """A cell could not be measured. `log_tail` holds the last lines of the log that explains it."""

    def __init__(self, reason: str, log_tail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.log_tail = log_tail


class BuildFailed(CellFailure):
    """A version's build command failed."""


class EngineLost(CellFailure):
    """The container engine went away, or refused, in the middle of something."""


class EngineRefused(EngineLost):
    """The container engine is there, and said no to one call, with this HTTP status."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class ServiceFailed(CellFailure):
    """The service died, never got healthy, or somebody else answered on its port."""


class PortTaken(ServiceFailed):
    """Somebody else listens on the port that was free a moment ago."""


class LoadFailed(CellFailure):
    """The load tool crashed, wrote nothing usable, or every request failed."""


class SshConfigError(UsageProblem):
    """The SSH configuration names something that cannot be used. Says the file and the line."""


class HostUnreachable(StagingError):
    """No SSH connection to a host came about: refused, silent, no such name, no route."""


class HostKeyRefused(UsageProblem):
    """A host showed a key that is not known, or not the known one."""


class LoginRefused(UsageProblem):
    """A host took none of the keys, or a key cannot be opened."""


class HostBusy(CellFailure):
    """A host opens no further session on its connection."""


class ConnectionLost(CellFailure):
    """A host's connection ended in the middle of something; whether that was done is not known."""


class RemoteFailed(CellFailure):
    """A host answered, and what it was asked to do failed: no space, no permission, a program missing."""


class ShellTextBroken(UsageProblem):
    """A shell text makes no sense from this line on: a quote, a parenthesis, a here-document has no end."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class CommandRefused(UsageProblem):
    """A program's parser does not take a command that a document shows; in the parser's own words."""


class ParserLeft(StagingError):
    """A program's parser would end the program with success, as for --help."""

    exit_code = 0


HOST_GONE = (HostUnreachable, ConnectionLost)
"""What says that a host, and not the version on it, is at fault: the cell may be tried on another one."""


class NoHostLeft(StagingError):
    """Every host of the campaign is gone."""


class HostTaken(StagingError):
    """A host of the pool is held by somebody else, or has just gone: another one is tried."""


class LeaseLost(CellFailure):
    """A host's lease ran out under a cell, or somebody else has it: what was measured may have been disturbed."""


class VmFailed(StagingError):
    """A VM could not be launched, found, reached or deleted. Ends with what its manager said."""


class ToolUnsupported(ToolMissing):
    """A program is installed, in a version that is not known to work."""


class LoadUnfit(UsageProblem):
    """The load tool cannot make the load that the benchmark asks for."""


class ComposeMissing(ToolMissing):
    """Neither Compose v2 nor v1 is installed, or it does not answer."""


class ComposeFailed(StagingError):
    """A Compose command failed or took too long. Ends with what it said."""


class CapacityMismatch(UsageProblem):
    """A profile does not fit its compose files, so nothing was started."""


class PolicyRefused(UsageProblem):
    """The throughput policy does not allow that: an unknown preset, a TTL out of bounds."""


class PolicyUnreachable(StagingError):
    """No policy API answers, or it does not let this token in."""


class EvidenceMissing(StagingError):
    """Evidence of a change is not there, not whole, or not what was collected."""

    exit_code = 3
