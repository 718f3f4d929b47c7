"""Services that end, are never healthy, or flap, on a real engine: found out, told, rolled back, and cleaned up."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from dockering import Engine
from operating import Place, own_system
from workspaces import wait_for

from pytest_staging.targets.container import LOOPBACK

# Of the sample's images the one with a shell: what has to begin and end soon may not be a Python program.
IMAGE = "staging-lab/rabbitmq:3"
COMPOSE = f"""
x-check: &check {{interval: 500ms, timeout: 20s, retries: 2}}
services:
  good:
    image: {IMAGE}
    init: true
    entrypoint: [sleep, "600"]
    healthcheck: {{<<: *check, test: [CMD, "true"]}}
    volumes: [data:/data]
  once:
    image: {IMAGE}
    entrypoint: [echo, migrated]
  ends:
    image: {IMAGE}
    profiles: [ends]
    entrypoint: [sh, -c, "echo no licence; exit 3"]
    healthcheck: {{<<: *check, test: [CMD, "true"]}}
  sick:
    image: {IMAGE}
    init: true
    profiles: [sick]
    entrypoint: [sleep, "600"]
    healthcheck: {{<<: *check, test: [CMD, sh, -c, "echo not connected; exit 1"]}}
  flaps:
    image: {IMAGE}
    profiles: [flaps]
    entrypoint: [sh, -c, "sleep 0.2; exit 1"]
    restart: always
  taken:
    image: {IMAGE}
    init: true
    profiles: [taken]
    entrypoint: [sleep, "600"]
    ports: ["127.0.0.1:${{TAKEN_PORT:-1}}:80"]
    healthcheck: {{<<: *check, test: [CMD, "true"]}}
  slow:
    image: {IMAGE}
    init: true
    profiles: [slow]
    entrypoint: [sleep, "600"]
    healthcheck: {{<<: *check, test: [CMD, "false"], start_period: 600s}}
volumes: {{data: {{}}}}
"""
READY_TIMEOUT_S = 600
CAPACITY: dict[str, Any] = {
    "compose_files": ["compose.yaml"],
    "ready_timeout_s": READY_TIMEOUT_S,
    "environments": {"dev": {}},
    "profiles": {
        "fine": {"services": ["good", "once"], "core": ["good"]},
        "ends": {"services": ["good", "once", "ends"], "core": ["good", "ends"], "compose_profiles": ["ends"]},
        "sick": {
            "services": ["good", "once", "sick"],
            "core": ["good", "sick"],
            "compose_profiles": ["sick"],
            "ready_timeout_s": 5,
        },
        "flaps": {
            "services": ["good", "once", "flaps"],
            "core": ["good"],
            "compose_profiles": ["flaps"],
            "ready_timeout_s": 3,
        },
        "taken": {"services": ["good", "once", "taken"], "core": ["good", "taken"], "compose_profiles": ["taken"]},
        "slow": {
            "services": ["good", "once", "slow"],
            "core": ["good", "slow"],
            "compose_profiles": ["slow"],
            "ready_timeout_s": 3,
        },
    },
}


@pytest.fixture(scope="module")
def place(
    engine: Engine, compose: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """With each generation of Compose, really."""
    with own_system(tmp_path_factory.mktemp("faults") / "workspace", engine, COMPOSE, CAPACITY, compose) as found:
        yield found


def state_of(place: Place, profile: str) -> dict[str, Any]:
    return dict(json.loads(place("status", profile, "--json").stdout))


def service(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in told["services"] if one["service"] == name)


def test_a_service_that_ends_is_found_at_once_and_rolled_back(
    place: Place, engine: Engine, request: pytest.FixtureRequest
) -> None:
    """CP-04: start fails long before its deadline, names the log to read, and rollback brings back what ran."""
    program = "docker compose " if "v2" in request.node.callspec.id else "docker-compose "
    assert program in place("start", "fine", "--dry-run").stdout
    environment = {**engine.environment, **place.environment}
    done = place("start", "fine")
    assert (done.returncode, "fine (dev): healthy" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "done: ended with status 0" in done.stdout
    done = place("start", "ends", timeout_s=READY_TIMEOUT_S / 2)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ended with status 3" in done.stdout
    following = done.stdout.splitlines()[-1].removeprefix("next: ")
    logs = subprocess.run(shlex.split(following), capture_output=True, text=True, timeout=60, env=environment)
    assert "no licence" in logs.stdout
    assert (place.root / "capacity" / place.project / "history.json").exists()
    wrong = place("rollback", "sick")
    assert (wrong.returncode, "profile ends runs, not sick" in wrong.stderr) == (2, True)
    done = place("rollback", "ends")
    assert (done.returncode, "rolling back from ends to fine" in done.stdout) == (0, True), done.stdout + done.stderr
    assert state_of(place, "fine")["state"] == "healthy"
    assert [one["service"] for one in state_of(place, "fine")["services"]] == ["good", "once"], "ends was removed"
    path = place.root / "deploy" / "compose.yaml"
    whole = path.read_text()
    path.write_text(whole.replace(f"image: {IMAGE}", "image: 127.0.0.1:9/none:1", 1))
    try:
        done = place("start", "fine")
    finally:
        path.write_text(whole)
    assert (done.returncode, "127.0.0.1:9" in done.stderr) == (1, True), "what ran before runs on, and is not it"
    assert state_of(place, "fine")["state"] == "healthy"


def test_a_service_that_never_gets_healthy(place: Place, engine: Engine) -> None:
    """CP-04: start gives up at the profile's deadline, exits 1 and says what the health check said.

    Clean then works although Compose cannot read its files any more: what carries the project's label is removed.
    """
    done = place("start", "sick")
    assert done.returncode == 1, done.stdout + done.stderr
    told = place("status", "sick", "--json")
    sick = service(json.loads(told.stdout), "sick")
    assert (told.returncode, sick["state"], "not connected" in sick["detail"]) == (1, "unhealthy", True), sick
    path = place.root / "deploy" / "compose.yaml"
    whole = path.read_text()
    path.write_text(whole.replace("services:", "servces:"))
    try:
        done = place("clean", "fine")
    finally:
        path.write_text(whole)
    assert (done.returncode, "removed container" in done.stdout) == (0, True), done.stdout + done.stderr
    assert place.left(engine) == []


def test_a_core_service_that_cannot_start_or_is_late_is_no_working_system(place: Place, engine: Engine) -> None:
    """CP-04: a port that is taken, in the engine's words, and a start that takes too long: exit code 1, never 3."""
    with socket.create_server((LOOPBACK, 0)) as other:
        place.environment["TAKEN_PORT"] = str(other.getsockname()[1])
        done = place("start", "taken", timeout_s=READY_TIMEOUT_S / 2)
        told = place("status", "taken", "--json")
        del place.environment["TAKEN_PORT"]
    assert done.returncode == 1, done.stdout + done.stderr
    following = f"next: staging-manager --root {place.root} capacity start taken --env dev"
    assert done.stdout.splitlines()[-1] == following
    taken = service(json.loads(told.stdout), "taken")
    assert (told.returncode, taken["state"], "address already in use" in taken["detail"]) == (1, "unhealthy", True)
    done = place("start", "slow")
    assert done.returncode == 1, done.stdout + done.stderr
    slow = service(state_of(place, "slow"), "slow")
    assert (slow["state"], "no health check has passed yet" in slow["detail"]) == ("unhealthy", True), slow
    assert place("clean", "fine").returncode == 0
    assert place.left(engine) == []


def test_a_service_that_flaps_degrades(place: Place, engine: Engine) -> None:
    """CP-04: one that is not core makes the system degraded, exit code 3, however well it looks at some instants.

    Stop keeps the containers; clean takes services of every compose profile along, and leaves nothing.
    """
    done = place("start", "flaps")
    assert done.returncode == 3, done.stdout + done.stderr

    def found() -> dict[str, Any] | None:
        told = state_of(place, "flaps")
        return told if "restart" in service(told, "flaps")["detail"] else None

    assert wait_for(found, 60)["state"] == "degraded"
    done = place("stop", "fine")
    assert done.returncode == 0, done.stderr
    ours = f"label=com.docker.compose.project={place.project}"
    assert engine("ps", "--quiet", "--filter", ours) == ""
    assert place.left(engine) != []
    assert place("status", "fine").returncode == 1
    done = place("clean", "fine")
    assert done.returncode == 0, done.stderr
    assert place.left(engine) == []
    done = place("rollback", "fine")
    assert (done.returncode, "there is nothing to roll back" in done.stderr) == (2, True)
