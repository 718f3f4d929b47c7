"""What k6 is given: the default script, and the scenarios that part the warm-up from the measured load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.placing import Place
from pytest_staging.model.ports import LoadRequest

LEAST_SCENARIO_S = 1.0
"""k6 takes no shorter scenario."""
MEASURED = "measured"
MEASURED_TAG = f"{{scenario:{MEASURED}}}"
SUCCEEDED_TAG = f"{{scenario:{MEASURED},expected_response:true}}"
TREND_STATS = "avg,min,med,max,p(50),p(90),p(95),p(99)"

SCRIPT = """\
import exec from 'k6/execution';
import http from 'k6/http';

const BASE = {base};
const PARAMS = {params};
const FUNCTIONS = {functions}.map((one) => ({{ name: one.name, body: open(one.file, 'b') }}));

export default function () {{
  const one = FUNCTIONS[exec.scenario.iterationInTest % FUNCTIONS.length];
  http.post(`${{BASE}}/invoke/${{one.name}}`, one.body, {{ ...PARAMS, tags: {{ name: one.name }} }});
}}
"""


def build_script(request: LoadRequest, place: Place) -> str:
    """The default script for a place: the benchmark's functions in turn, over all users."""
    functions = [{"name": name, "file": place.there(path.resolve())} for name, path in sorted(request.bodies.items())]
    params = {
        "headers": {"Content-Type": "application/json"},
        "timeout": f"{request.load.request_timeout_s * 1000:.0f}ms",
    }
    return SCRIPT.format(base=json.dumps(request.base_url), params=json.dumps(params), functions=json.dumps(functions))


def build_config(load: Load) -> Mapping[str, Any]:
    """k6's options: two scenarios that share their users, and thresholds that cannot be breached.

    Only what a threshold names is summarised by scenario, and only so can a summary leave out the warm-up.
    """
    warm_up_s = warm_up_seconds(load)
    measured = _scenario(load, load.duration_s, _milliseconds(load.request_timeout_s))
    scenarios = {MEASURED: measured | {"startTime": _milliseconds(warm_up_s)}}
    if warm_up_s > 0:
        scenarios = {"warm_up": _scenario(load, warm_up_s, "0s")} | scenarios
    never = {
        f"http_req_duration{SUCCEEDED_TAG}": ["max>=0"],
        f"http_reqs{MEASURED_TAG}": ["count>=0"],
        f"http_req_failed{MEASURED_TAG}": ["rate>=0"],
        f"iterations{MEASURED_TAG}": ["count>=0"],
        f"dropped_iterations{MEASURED_TAG}": ["count>=0"],
    }
    return {"scenarios": scenarios, "thresholds": never}


def warm_up_seconds(load: Load) -> float:
    """What is asked for, or k6's least; 0 is none."""
    return max(load.warm_up_s, LEAST_SCENARIO_S) if load.warm_up_s > 0 else 0.0


def _scenario(load: Load, seconds: float, grace: str) -> dict[str, Any]:
    common = {"duration": _milliseconds(seconds), "gracefulStop": grace}
    if load.shape is LoadShape.CLOSED or load.rate is None:
        return {"executor": "constant-vus", "vus": load.users, **common}
    # k6 takes whole iterations per time unit: 12.5 per second are 25 in two.
    rate = Fraction(load.rate).limit_denominator(1000)
    return {
        "executor": "constant-arrival-rate",
        "rate": rate.numerator,
        "timeUnit": f"{rate.denominator}s",
        "preAllocatedVUs": load.users,
        "maxVUs": load.users,
        **common,
    }


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"
