"""Readiness of a running system: what the engine says about its containers, judged against what a profile wants."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_staging.capacity.showing import Invocation
from pytest_staging.model.capacity import ContainerFacts

SETTLED_S = 30.0
"""A container that was restarted counts as flapping until it has run for so long."""

NEVER_STARTED = "could not be started"

UNCHECKED_S = 2.0
"""A container without a health check counts as starting until then: one that ends at once looks well at first."""


class State(str, Enum):
    """In the order of how bad it is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


EXIT_CODES = {State.HEALTHY: 0, State.DEGRADED: 3, State.UNHEALTHY: 1}
_BADNESS = list(State)


@dataclass(frozen=True)
class Wanted:
    """What a profile wants of a service."""

    name: str
    replicas: int
    core: bool
    has_health_check: bool


@dataclass(frozen=True)
class Row:
    """A service's readiness. `hopeless` means that waiting will not help; `next` is the command to run."""

    service: str
    core: bool
    wanted: int
    ready: int
    state: State
    detail: str
    next: str = ""
    hopeless: bool = False


@dataclass(frozen=True)
class Matrix:
    """All of them. `next` is the one command to run now."""

    profile: str
    environment: str
    state: State
    rows: tuple[Row, ...]
    next: str

    @property
    def hopeless(self) -> bool:
        """Whether a core service will not become ready by itself."""
        return any(row.hopeless and row.core for row in self.rows)


def judge(
    profile: str, invocation: Invocation, wanted: Sequence[Wanted], containers: Sequence[ContainerFacts]
) -> Matrix:
    """An unhealthy core service makes the system unhealthy; anything else that is not as wanted, degraded."""
    by_service: dict[str, list[ContainerFacts]] = {}
    for one in containers:
        by_service.setdefault(one.service, []).append(one)
    rows = [_row(one, by_service.get(one.name, []), profile, invocation) for one in wanted]
    known = {one.name for one in wanted}
    rows += [
        _stray(name, found, profile, invocation) for name, found in sorted(by_service.items()) if name not in known
    ]
    state = State.HEALTHY
    if any(row.core and row.state is State.UNHEALTHY for row in rows):
        state = State.UNHEALTHY
    elif any(row.state is not State.HEALTHY for row in rows):
        state = State.DEGRADED
    # What only waits, often for another service, comes after what went wrong.
    worst = max(rows, key=lambda row: (_BADNESS.index(row.state), row.core, not _waits(row.detail)), default=None)
    step = worst.next if worst and worst.next else invocation.line("evidence", profile)
    return Matrix(profile, invocation.environment, state, tuple(rows), step)


def _row(wanted: Wanted, containers: Sequence[ContainerFacts], profile: str, invocation: Invocation) -> Row:
    def row(state: State, detail: str, following: str = "", hopeless: bool = False) -> Row:
        return Row(wanted.name, wanted.core, wanted.replicas, ready, state, detail, following, hopeless)

    judged = [(_container_state(one, wanted.has_health_check), one) for one in containers]
    ready = sum(state is State.HEALTHY for (state, _, _), _ in judged)
    bad = [(state, detail, gone, one) for (state, detail, gone), one in judged if state is not State.HEALTHY]
    start = invocation.line("start", profile)
    if not bad and ready == wanted.replicas:
        details = {detail for (_, detail, _), _ in judged}
        return row(State.HEALTHY, ", ".join(sorted(details)))
    if not containers and wanted.replicas:
        return row(State.UNHEALTHY, "no container", start)
    if not bad:
        return row(State.DEGRADED if ready else State.UNHEALTHY, f"{ready} of {wanted.replicas} run", start)
    state, detail, gone, one = max(bad, key=lambda each: _BADNESS.index(each[0]))
    # One that flaps may work at this instant, and then its health check says so.
    works = ready or any(one.state == "running" and one.health == "healthy" for one in containers)
    if works and state is State.UNHEALTHY:
        state = State.DEGRADED  # some of it works
    if not works and wanted.core and wanted.replicas:
        state = State.UNHEALTHY  # whatever is yet to come of it
    if _waits(detail):
        step = invocation.line("status", profile)
    elif detail.startswith(NEVER_STARTED):
        step = start  # it has no logs
    else:
        step = shlex.join(["docker", "logs", "--tail", "50", one.name])
    return row(state, detail, step, gone)


def _waits(detail: str) -> bool:
    return detail.startswith("starting")


def _stray(name: str, containers: Sequence[ContainerFacts], profile: str, invocation: Invocation) -> Row:
    detail = "runs, and is no service of this profile"
    running = sum(one.state == "running" for one in containers)
    state = State.DEGRADED if running else State.HEALTHY
    step = invocation.line("start", profile) if running else ""
    return Row(name, False, 0, running, state, detail if running else "left over, does not run", step)


def _container_state(one: ContainerFacts, has_health_check: bool) -> tuple[State, str, bool]:
    """State, in words, and whether it will stay so."""
    if one.state == "running":
        return *_running_state(one), False
    if one.state in ("created", "exited") and (one.error or (one.state == "created" and one.exit_code)):
        return State.UNHEALTHY, f"{NEVER_STARTED}: {one.error or f'status {one.exit_code}'}", True
    if one.state == "exited" and one.exit_code == 0 and not has_health_check:
        return State.HEALTHY, "done: ended with status 0", False
    if one.state == "restarting":
        return State.UNHEALTHY, f"restarting, {one.restarts} times so far; last status {one.exit_code}", False
    if one.state == "exited":
        return State.UNHEALTHY, f"ended with status {one.exit_code}", not one.restarts_itself
    return (State.DEGRADED, "starting", False) if one.state == "created" else (State.UNHEALTHY, one.state, False)


def _running_state(one: ContainerFacts) -> tuple[State, str]:
    if one.health == "unhealthy":
        return State.UNHEALTHY, f"health check fails{f': {one.health_output}' if one.health_output else ''}"
    if one.health == "starting":
        return State.DEGRADED, "starting: no health check has passed yet"
    if one.restarts and one.up_s < SETTLED_S:
        return State.DEGRADED, f"flapping: restarted {one.restarts} times, the last {one.up_s:.0f} s ago"
    if one.health == "healthy":
        return State.HEALTHY, "health check passes"
    if one.up_s < UNCHECKED_S:
        return State.DEGRADED, f"starting: it has no health check, and has not run for {UNCHECKED_S:g} s yet"
    return State.HEALTHY, "runs"


def matrix_data(matrix: Matrix) -> Mapping[str, object]:
    """What `status --json` prints."""
    return {
        "schema_version": 1,
        "profile": matrix.profile,
        "environment": matrix.environment,
        "state": matrix.state.value,
        "next": matrix.next,
        "services": [
            {
                "service": row.service,
                "core": row.core,
                "wanted": row.wanted,
                "ready": row.ready,
                "state": row.state.value,
                "detail": row.detail,
                "next": row.next,
            }
            for row in matrix.rows
        ],
    }
