"""What of a benchmark's load only some tools read, and who takes which of it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_staging.model.benchmark import Load


@dataclass(frozen=True)
class LoadOptions:
    """`exact_percentiles` asks for every single latency; `command` is the argv of the tool `command`."""

    exact_percentiles: bool = False
    command: tuple[str, ...] = ()


def options_of(load: Load) -> LoadOptions:
    """The fields of that name, or what holds without them."""
    return LoadOptions(
        exact_percentiles=bool(getattr(load, "exact_percentiles", False)),
        command=tuple(getattr(load, "command", None) or ()),
    )


def alone_reason(load: Load) -> str | None:
    """Why a tool that is a single process cannot make this load, or None."""
    return f"runs as one process, and load.processes is {load.processes}" if load.processes > 1 else None


def shared_reason(load: Load) -> str | None:
    """Why several processes cannot share this load, or None."""
    if load.processes <= load.users:
        return None
    return f"gives each process a user at least, and load.processes is {load.processes}, load.users {load.users}"
