"""What of a benchmark's load only some tools read."""

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
