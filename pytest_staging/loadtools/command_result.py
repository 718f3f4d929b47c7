"""The JSON that a load command writes: counts, and latencies in one of three forms."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_staging.loadtools.histogram import Histogram
from pytest_staging.loadtools.reading import count, latency, mapping, number, ordered
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.ports import LoadResult, Pace

SCHEMA = "staging-load/1"
FORMS = ("latencies_ms", "histogram_ms", "percentiles_ms")
KNOWN = {"schema", "requests", "failures", "first_error", "duration_s", "program", "pace", *FORMS}
PERCENTILES = ("p50", "p95", "p99")
MAX_SECONDS = 1e6


def parse_result(raw: Any, load: Load) -> LoadResult:
    """Raises ValueError for an unknown key, a number that is none, or latencies that do not fit the counts."""
    top = mapping(raw, "the result")
    if top.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {top.get('schema')!r}, and {SCHEMA!r} is known here")
    if unknown := sorted(set(top) - KNOWN):
        raise ValueError(f"{unknown[0]!r} is not known; known are {', '.join(sorted(KNOWN))}")
    requests, failures = count(top.get("requests"), "requests"), count(top.get("failures"), "failures")
    if failures > requests:
        raise ValueError(f"{failures} of {requests} requests failed")
    given = [name for name in FORMS if top.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"it must hold one of {', '.join(FORMS)}, and has {', '.join(given) or 'none'}")
    latencies, percentiles = _measured(top, given[0], requests - failures)
    absent = [name for name in PERCENTILES if name not in percentiles] if given[0] == "percentiles_ms" else []
    return LoadResult(
        latencies_ms=latencies,
        requests=requests,
        failures=failures,
        first_error=_text(top.get("first_error"), "first_error"),
        facts={"program": _program(top["program"])} if top.get("program") is not None else {},
        percentiles_ms=percentiles,
        missing=dict.fromkeys(absent, "the load command gives no such percentile"),
        duration_s=_seconds(top.get("duration_s")),
        pace=_pace(top.get("pace"), load),
    )


def _measured(top: Mapping[str, Any], form: str, successes: int) -> tuple[Sequence[float], Mapping[str, float]]:
    if form == "percentiles_ms":
        given = mapping(top[form], form)
        if unknown := sorted(set(given) - set(PERCENTILES)):
            raise ValueError(f"{form} holds {unknown[0]!r}; known are {', '.join(PERCENTILES)}")
        return (), ordered({name: latency(value, f"{form}.{name}") for name, value in given.items()})
    if not isinstance(top[form], list):
        raise ValueError(f"{form} is no list")
    if form == "latencies_ms":
        found: Sequence[float] = array("d", sorted(latency(one, form) for one in top[form]))
    else:
        found = Histogram(_pair(one) for one in top[form])
    if len(found) != successes:
        raise ValueError(f"{form} holds {len(found)} latencies, and {successes} requests succeeded")
    return found, {}


def _pair(one: Any) -> tuple[float, int]:
    if not isinstance(one, list) or len(one) != 2:
        raise ValueError(f"histogram_ms holds {str(one)[:40]}, not [milliseconds, count]")
    return latency(one[0], "a value of histogram_ms"), count(one[1], "a count of histogram_ms")


def _pace(raw: Any, load: Load) -> Pace | None:
    if raw is None:
        if load.shape is LoadShape.OPEN:
            raise ValueError("an open load needs pace: intended_rps and achieved_rps")
        return None
    given = mapping(raw, "pace")
    known = ("intended_rps", "achieved_rps", "dropped", "late", "from_intended_start")
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"pace holds {unknown[0]!r}; known are {', '.join(known)}")
    intended, achieved = (latency(given.get(name), f"pace.{name}") for name in known[:2])
    dropped, late = (None if given.get(name) is None else count(given[name], f"pace.{name}") for name in known[2:4])
    counted = given.get("from_intended_start", False)
    if not isinstance(counted, bool):
        raise ValueError("pace.from_intended_start is neither true nor false")
    return Pace(intended_rps=intended, achieved_rps=achieved, dropped=dropped, late=late, from_intended_start=counted)


def _seconds(raw: Any) -> float | None:
    if raw is None:
        return None
    found = number(raw, "duration_s")
    if not 0 < found <= MAX_SECONDS:
        raise ValueError(f"duration_s is {found:g}")
    return found


def _program(raw: Any) -> str:
    given = mapping(raw, "program")
    return f"{_text(given.get('name'), 'program.name') or '?'} {_text(given.get('version'), 'program.version') or '?'}"


def _text(raw: Any, what: str) -> str | None:
    if raw is not None and not isinstance(raw, str):
        raise ValueError(f"{what} is no text")
    return " ".join(raw.split())[:200] if raw else None
