"""Strict reading of what tools write: JSON without NaN, numbers that are numbers, counts that are counts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from pytest_staging.model.errors import LoadFailed

MAX_JSON_BYTES = 512 * 1024 * 1024
MAX_LATENCY_MS = 1e8
"""More than a day: no request takes that long, so a number above it is no latency."""
MAX_COUNT = 1e15


def load_json(path: Path, tool: str) -> Any:
    """The file's value. Raises LoadFailed when it is missing, huge, cut off, or no JSON in the strict sense."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise LoadFailed(f"{path.name} of {tool} is larger than {MAX_JSON_BYTES >> 20} MiB")
        return strict_json(path.read_bytes())
    except FileNotFoundError as error:
        raise LoadFailed(f"{tool} wrote no {path.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.name} of {tool} is broken: {error}") from error


def strict_json(text: bytes) -> Any:
    """As json.loads, but NaN and Infinity are errors (ValueError), as JSON has it."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Raises ValueError naming `what` when it is no JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value


def number(value: Any, what: str) -> float:
    """A finite number. Raises ValueError naming `what`; true, text and null are no numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} is {_shown(value)}, not a number")
    try:
        found = float(value)
    except OverflowError as error:
        raise ValueError(f"{what} is too large") from error
    if not math.isfinite(found):
        raise ValueError(f"{what} is {found}, not a finite number")
    return found


def latency(value: Any, what: str) -> float:
    """A time in ms: not negative, and less than a day. Raises ValueError."""
    found = number(value, what)
    if not 0 <= found <= MAX_LATENCY_MS:
        raise ValueError(f"{what} is {found:g} ms, which is no latency")
    return found


def count(value: Any, what: str) -> int:
    """A whole number that is not negative. Raises ValueError."""
    found = number(value, what)
    if found < 0 or found > MAX_COUNT or found != int(found):
        raise ValueError(f"{what} is {_shown(value)}, not a count")
    return int(found)


def ordered(percentiles: Mapping[str, float]) -> Mapping[str, float]:
    """The same. Raises ValueError when a higher percentile (`p99`) lies below a lower one (`p50`)."""
    names = sorted(percentiles, key=lambda name: float(name.removeprefix("p")))
    for lower, higher in pairwise(names):
        if percentiles[lower] > percentiles[higher]:
            raise ValueError(f"{lower} is above {higher}")
    return percentiles


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
