"""Every single value of every kind of output, replaced by a bad one: refused by name, or harmless; never a crash."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_k6_summary import FILES, as_machine, recorded
from test_wrk import REPORT
from toolcases import FullLoad

from pytest_staging.loadtools.command_result import parse_result
from pytest_staging.loadtools.k6_summary import parse_counts, parse_summary
from pytest_staging.loadtools.wrk import build_result, parse_report
from pytest_staging.model.benchmark import LoadShape

BAD = [None, True, "1,5", "", "NaN", -1, 0.5, 1e300, 10**400, math.nan, math.inf, [], {}, [[]], {"": None}]
OPEN = FullLoad(shape=LoadShape.OPEN, users=2, duration_s=1.0, rate=5.0)
RESULT = {
    "schema": "staging-load/1",
    "requests": 4,
    "failures": 1,
    "first_error": "x",
    "latencies_ms": [3, 1.5, 2],
    "duration_s": 2,
    "program": {"name": "a", "version": "1"},
    "pace": {"intended_rps": 5, "achieved_rps": 4.5, "dropped": 1, "late": 2, "from_intended_start": True},
}
HISTOGRAM = {**{key: value for key, value in RESULT.items() if key != "latencies_ms"}, "histogram_ms": [[1, 1], [2, 2]]}
PERCENTILES = {**HISTOGRAM, "histogram_ms": None, "percentiles_ms": {"p50": 1, "p95": 2, "p99": 3}}
Parse = Callable[[Any], Any]
OUTPUTS: list[tuple[str, Any, Parse]] = [
    *((path.stem, json.loads(path.read_text()), lambda raw: parse_summary(raw, False)) for path in FILES),
    ("machine", as_machine(recorded("summary-export-arrival-rate")), lambda raw: parse_summary(raw, False)),
    ("counts", recorded("handle-summary-threshold-breached"), parse_counts),
    ("wrk", REPORT, lambda raw: build_result(parse_report(raw))),
    ("command", RESULT, lambda raw: parse_result(raw, OPEN)),
    ("command-histogram", HISTOGRAM, lambda raw: parse_result(raw, OPEN)),
    ("command-percentiles", PERCENTILES, lambda raw: parse_result(raw, OPEN)),
]


def places(raw: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, inner ones and leaves."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize(("raw", "parse"), [one[1:] for one in OUTPUTS], ids=[one[0] for one in OUTPUTS])
def test_each_value_replaced(raw: Any, parse: Parse) -> None:
    """XP-06: what is read after all is finite, ordered, and has no more failures than requests."""
    parse(raw)
    for path in places(raw):
        for bad in BAD:
            changed = copy.deepcopy(raw)
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = bad
            try:
                found = parse(changed)
            except ValueError:
                continue
            percentiles = [found.percentiles_ms[name] for name in ("p50", "p95", "p99") if name in found.percentiles_ms]
            assert all(math.isfinite(value) and value >= 0 for value in percentiles), (path, bad)
            assert percentiles == sorted(percentiles), (path, bad)
            assert 0 <= found.failures <= found.requests, (path, bad)


@pytest.mark.parametrize(("raw", "parse"), [one[1:] for one in OUTPUTS], ids=[one[0] for one in OUTPUTS])
def test_each_value_missing(raw: Any, parse: Parse) -> None:
    """XP-06: the same without it."""
    for path in places(raw):
        changed = copy.deepcopy(raw)
        place = changed
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        try:
            found = parse(changed)
        except ValueError:
            continue
        assert 0 <= found.failures <= found.requests, path
