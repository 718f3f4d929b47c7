"""Formats of services that track benchmarks: Bencher's, and github-action-benchmark's."""

from __future__ import annotations

import json

import jsonschema
import pytest
from made_up import make_benchmark, slower
from recorded import make_record

from pytest_staging.reports.tracking import render_bigger_is_better, render_bmf, render_smaller_is_better

# As Bencher publishes it: https://bencher.dev/bmf.json. Stricter in one thing: no further keys.
BMF = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"minLength": 1, "maxLength": 64},
        "additionalProperties": {
            "type": "object",
            "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
            "required": ["value"],
            "additionalProperties": False,
        },
    },
    "propertyNames": {"minLength": 1, "maxLength": 1024},
}
# The fields of a custom benchmark that the action's README names; range and extra are text.
CUSTOM = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {**{name: {"type": "string", "minLength": 1} for name in ("name", "unit", "range", "extra")},
                       "value": {"type": "number"}},
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
    },
}
BOTH = {"smaller": render_smaller_is_better, "bigger": render_bigger_is_better}


def row_of(record, metric, mode="jvm", slug="fast"):
    """One row of the aggregate."""
    return next(row for row in record.aggregate["rows"]
                if (row["candidate_slug"], row["platform_mode"], row["metric"]) == (slug, mode, metric))


def test_bmf():
    """XP-05: medians of both versions, and the estimate with its limits where there is an interval."""
    record = make_record(metrics=slower())
    found = json.loads(render_bmf(record))
    jsonschema.validate(found, BMF)
    assert list(found) == ["jvm/baseline", "jvm/fast", "native/baseline", "native/fast"]
    p95, failing = row_of(record, "p95"), row_of(record, "fail_rate")
    assert found["jvm/baseline"]["p95"] == {"value": p95["baseline"]["median"]}
    assert found["jvm/fast"]["p95"] == {"value": p95["candidate"]["median"]}
    assert found["jvm/fast"]["p95-ratio"] == {"value": p95["ratio"], "lower_value": p95["ci_low"],
                                              "upper_value": p95["ci_high"]}
    assert found["jvm/fast"]["fail_rate-difference"]["value"] == failing["difference"]
    assert "gc_pause" not in found["native/fast"], "what was not measured is not there"
    assert render_bmf(record) == render_bmf(record)


def test_bmf_without_an_interval():
    """XP-05: an interval that is not bounded yet has no limits, and what nobody measured has no entry."""
    few = json.loads(render_bmf(make_record(runs=3)))
    jsonschema.validate(few, BMF)
    assert list(few["jvm/fast"]["p95-ratio"]) == ["value"]
    assert json.loads(render_bmf(make_record(change=lambda summary: None))) == {}


def test_names_are_stable_and_short_enough():
    """XP-05: a measure's name depends on the metric alone; two long ones stay two, with 64 characters each."""
    names = ["m" * 70 + "a", "m" * 70 + "b"]
    benchmark = make_benchmark({name: {"unit": "ms", "direction": "lower", "tolerance": 0.1} for name in names})

    def metrics(cell, values):
        values.update(dict.fromkeys(names, 5.0))

    found = [json.loads(render_bmf(make_record(benchmark=benchmark, metrics=metrics, runs=runs))) for runs in (5, 6)]
    jsonschema.validate(found[0], BMF)
    assert list(found[0]["jvm/fast"]) == list(found[1]["jvm/fast"])
    assert len(found[0]["jvm/fast"]) == 4


@pytest.mark.parametrize("name", BOTH)
def test_custom_benchmarks(name):
    """XP-05: github-action-benchmark's arrays; each metric stands in that of its direction, under a name of its own."""
    record = make_record(metrics=slower(), candidates=("fast", "small"))
    found = json.loads(BOTH[name](record))
    jsonschema.validate(found, CUSTOM)
    metrics = {one["name"].split()[1] for one in found}
    assert metrics == ({"throughput"} if name == "bigger" else {"p95", "fail_rate", "gc_pause", "heap_peak"})
    assert len({one["name"] for one in found}) == len(found), "the action would draw two series as one"
    assert {one["name"].split()[0] for one in found} == {f"{mode}/{slug}" for mode in ("jvm", "native")
                                                         for slug in ("baseline", "fast", "small")}


def test_an_entry():
    """XP-05: the value is the median; range says from where to where; extra has the estimate and the verdict."""
    record = make_record(metrics=slower())
    found = {one["name"]: one for one in json.loads(render_smaller_is_better(record))}
    row = row_of(record, "p95")
    one = found["jvm/fast p95"]
    assert (one["value"], one["unit"]) == (row["candidate"]["median"], "ms")
    assert one["range"] == f"{row['candidate']['min']:.4g} ms .. {row['candidate']['max']:.4g} ms"
    assert "ratio to baseline: 1.526 (95 %: 1.518 .. 1.533)" in one["extra"]
    assert "regression: worse by" in one["extra"]
    assert "native/fast gc_pause" not in found
    assert "regression" not in found["jvm/baseline p95"]["extra"]
