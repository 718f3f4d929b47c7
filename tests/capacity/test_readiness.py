"""Readiness judged from what an engine says: every state of a container, without one."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_staging.capacity.readiness import EXIT_CODES, Matrix, State, Wanted, judge, matrix_data
from pytest_staging.capacity.showing import Invocation
from pytest_staging.model.capacity import ContainerFacts
from pytest_staging.targets.compose_reading import parse_container

HERE = Invocation("dev")


def container(service: str = "api", state: str = "running", **more: Any) -> ContainerFacts:
    facts: dict[str, Any] = {"id": "1", "name": f"x-{service}-1", "up_s": 100.0, **more}
    return ContainerFacts(service=service, state=state, **facts)


def matrix(*containers: ContainerFacts, replicas: int = 1, core: bool = True, checked: bool = True) -> Matrix:
    wanted = [Wanted("api", replicas, core, checked), Wanted("db", 1, True, False)]
    return judge("wide", HERE, wanted, [*containers, container("db")])


STATES: dict[str, tuple[ContainerFacts, State, str]] = {
    "healthy": (container(health="healthy"), State.HEALTHY, "health check passes"),
    "starting": (container(health="starting"), State.UNHEALTHY, "starting: no health check has passed yet"),
    "unhealthy": (container(health="unhealthy", health_output="no"), State.UNHEALTHY, "health check fails: no"),
    "flapping": (container(health="healthy", restarts=3, up_s=2.0), State.DEGRADED, "restarted 3 times, the last 2 s"),
    "settled": (container(health="healthy", restarts=3, up_s=60.0), State.HEALTHY, "health check passes"),
    "flapping, and it fails its check": (
        container(health="unhealthy", restarts=3, up_s=2.0), State.UNHEALTHY, "health check fails"
    ),
    "flapping, and nothing checks it": (container(restarts=3, up_s=2.0), State.UNHEALTHY, "restarted 3 times"),
    "new and unchecked": (
        container(up_s=0.4), State.UNHEALTHY, "starting: it has no health check, and has not run for"
    ),
    "unchecked": (container(up_s=2.4), State.HEALTHY, "runs"),
    "new and checked": (container(up_s=0.4, health="healthy"), State.HEALTHY, "health check passes"),
    "restarting": (container(state="restarting", restarts=4, exit_code=7), State.UNHEALTHY, "restarting, 4 times"),
    "exited": (container(state="exited", exit_code=3), State.UNHEALTHY, "ended with status 3"),
    "paused": (container(state="paused"), State.UNHEALTHY, "paused"),
    "created": (container(state="created"), State.UNHEALTHY, "starting"),
    "port taken": (
        container(state="created", exit_code=128, error="address already in use"),
        State.UNHEALTHY,
        "could not be started: address already in use",
    ),
    "never started, and no word why": (
        container(state="created", exit_code=127), State.UNHEALTHY, "could not be started: status 127"
    ),
    "could not be started again": (
        container(state="exited", error="no such file"), State.UNHEALTHY, "could not be started: no such file"
    ),
    "ended well, but it was to stay": (container(state="exited"), State.UNHEALTHY, "ended with status 0"),
}


@pytest.mark.parametrize("name", STATES)
def test_each_state_of_a_container_is_judged(name: str) -> None:
    """CP-04: healthy, degraded or unhealthy, and why; the exit codes are 0, 3 and 1."""
    facts, state, words = STATES[name]
    found = matrix(facts)
    assert (found.rows[0].state, found.state) == (state, state)
    assert words in found.rows[0].detail
    assert EXIT_CODES[found.state] == {"healthy": 0, "degraded": 3, "unhealthy": 1}[state.value]
    if state is State.HEALTHY:
        assert found.next == "staging-manager capacity evidence wide --env dev"
    elif "could not be started" in found.rows[0].detail:
        assert (found.next, found.hopeless) == ("staging-manager capacity start wide --env dev", True)
    elif found.rows[0].detail.startswith("starting"):
        assert (found.next, found.hopeless) == ("staging-manager capacity status wide --env dev", False)
    elif facts.state in ("running", "exited"):
        assert found.next == "docker logs --tail 50 x-api-1"


def test_a_one_shot_service_that_ended_well_is_fine() -> None:
    """CP-04: without a health check, status 0 is the end that was wanted; another status is not."""
    assert matrix(container(state="exited"), checked=False).state is State.HEALTHY
    assert matrix(container(state="exited", exit_code=1), checked=False).state is State.UNHEALTHY


def test_only_core_services_make_it_unhealthy() -> None:
    """CP-04: a service that the system can do without makes it degraded."""
    assert matrix(container(health="unhealthy"), core=False).state is State.DEGRADED
    assert matrix(container(health="unhealthy"), core=True).state is State.UNHEALTHY


def test_a_core_service_of_which_nothing_works_yet_is_unhealthy() -> None:
    """CP-04: exit code 3 says that the system works; one that is not core, or half there, only degrades it."""
    coming = container(health="starting", name="x-api-2")
    assert matrix(coming, core=True).state is State.UNHEALTHY
    assert matrix(coming, core=False).state is State.DEGRADED
    assert matrix(container(health="healthy"), coming, replicas=2).state is State.DEGRADED


def test_what_went_wrong_is_named_before_what_waits_for_it() -> None:
    """CP-04: Compose starts no service whose dependency fails; the step to take is about the dependency."""
    wanted = [Wanted("api", 1, True, True), Wanted("db", 1, True, True)]
    found = judge("wide", HERE, wanted, [container(state="created"), container("db", health="unhealthy")])
    assert (found.state, found.next) == (State.UNHEALTHY, "docker logs --tail 50 x-db-1")


def test_no_container_and_too_few_of_them() -> None:
    """CP-04: none is unhealthy and says start; some are degraded; too many are not what was wanted."""
    none = matrix()
    assert (none.state, none.rows[0].detail) == (State.UNHEALTHY, "no container")
    assert none.next == "staging-manager capacity start wide --env dev"
    two = [container(health="healthy"), container(health="healthy", name="x-api-2")]
    assert matrix(*two, replicas=2).state is State.HEALTHY
    assert (matrix(*two, replicas=3).state, matrix(*two, replicas=3).rows[0].ready) == (State.DEGRADED, 2)
    assert matrix(*two, replicas=1).state is State.DEGRADED
    one_bad = [two[0], container(health="unhealthy", name="x-api-2")]
    assert matrix(*one_bad, replicas=2).state is State.DEGRADED
    assert matrix(replicas=0).state is State.HEALTHY


def test_what_runs_and_was_not_asked_for_is_told() -> None:
    """CP-04: a service of another profile is no part of this one."""
    found = matrix(container(health="healthy"), container("worker-3"))
    assert (found.state, found.rows[-1].service) == (State.DEGRADED, "worker-3")
    assert matrix(container(health="healthy"), container("old", state="exited")).state is State.HEALTHY


def test_waiting_ends_when_it_is_hopeless() -> None:
    """CP-04: a core service that ended and is not restarted will not become ready; one that is restarted may."""
    assert matrix(container(state="exited", exit_code=1)).hopeless
    assert not matrix(container(state="exited", exit_code=1), core=False).hopeless
    assert not matrix(container(state="exited", exit_code=1, restarts_itself=True)).hopeless
    assert not matrix(container(health="starting")).hopeless


def test_the_matrix_as_data() -> None:
    """CP-04: what status --json prints has the state of all and of each."""
    told = matrix_data(matrix(container(health="healthy")))
    assert (told["schema_version"], told["state"]) == (1, "healthy")


def test_the_engines_own_record_is_read() -> None:
    """CP-04: health, restarts, times and ports of `docker inspect`; fields that an engine leaves out are fine."""
    facts = {
        "Id": "abc",
        "Name": "/p_api_1",
        "RestartCount": 2,
        "Config": {"Labels": {"com.docker.compose.service": "api"}},
        "HostConfig": {"RestartPolicy": {"Name": "always"}},
        "State": {
            "Status": "running",
            "ExitCode": 0,
            "StartedAt": "1970-01-01T00:01:40.123456789Z",
            "Health": {"Status": "unhealthy", "Log": [{"Output": "no\n  route"}]},
        },
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": "8123"}], "53/udp": [{"HostPort": "53"}], "9/tcp": None}},
    }
    found = parse_container(facts, 160.623456)
    assert (found.name, found.service, found.restarts, found.restarts_itself) == ("p_api_1", "api", 2, True)
    assert (found.up_s, found.ports, found.health_output, found.error) == (60.5, {80: 8123}, "no route", "")
    facts["State"] = {"Status": "created", "ExitCode": 128, "Error": "driver failed" + " .\n" * 300 + "port in use"}
    found = parse_container(facts, 160.0)
    assert (found.exit_code, found.error.endswith(". . port in use"), len(found.error)) == (128, True, 300)
    facts["State"] = {"StartedAt": "1970-01-01T00:01:40Z"}
    assert parse_container(facts, 160.0).up_s == 60.0
    assert parse_container({"Id": "x"}, 0.0).state == "unknown"
