"""What the engine says of a Compose project, found by Compose's own labels and never by name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pytest_staging.engine import GONE, Engine
from pytest_staging.model.capacity import ContainerFacts
from pytest_staging.targets.container import OVER

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
OUTPUT_CHARACTERS = 120
ERROR_CHARACTERS = 300
"""What the engine says of a port that is taken has the port and the reason at its end."""


def read_containers(engine: Engine, project: str) -> list[ContainerFacts]:
    """Of every service, sorted by name. Raises EngineMissing or EngineLost."""
    api = engine.client.api
    found = []
    for listed in engine.call("list containers", api.containers, all=True, filters=_of(project)):
        if str(listed.get("Labels", {}).get(ONE_OFF_LABEL, "")).lower() == "true":
            continue
        facts = engine.call("inspect container", api.inspect_container, listed["Id"], accept=(GONE,))
        if facts is not None:  # it was removed between both calls
            found.append(parse_container(facts, time.time()))
    return sorted(found, key=lambda one: (one.service, one.name))


def remove_project(engine: Engine, project: str, kept: str = "") -> list[str]:
    """Removes what carries the project's label, and names it: containers, networks and volumes.

    Containers whose names begin with `kept` stay.
    """
    api = engine.client.api
    removed = []
    for one in engine.call("list containers", api.containers, all=True, filters=_of(project)):
        if kept and any(name.startswith(f"/{kept}") for name in one["Names"]):
            continue
        engine.call("remove", api.remove_container, one["Id"], v=True, force=True, accept=OVER)
        removed.append(f"container {one['Names'][0].lstrip('/')}")
    for one in engine.call("list networks", api.networks, filters=_of(project)):
        engine.call("remove network", api.remove_network, one["Id"], accept=(GONE,))
        removed.append(f"network {one['Name']}")
    volumes = engine.call("list volumes", api.volumes, filters=_of(project)).get("Volumes") or []
    for one in volumes:
        engine.call("remove volume", api.remove_volume, one["Name"], accept=(GONE,))
        removed.append(f"volume {one['Name']}")
    return removed


def parse_container(facts: Mapping[str, Any], now_s: float) -> ContainerFacts:
    """From the engine's own record; `now_s` in epoch seconds."""
    state = facts.get("State") or {}
    health = state.get("Health") or {}
    policy = (facts.get("HostConfig") or {}).get("RestartPolicy") or {}
    log = health.get("Log") or []
    output = " ".join(str(log[-1].get("Output", "")).split()) if log else ""
    status = str(health.get("Status") or "")
    return ContainerFacts(
        id=str(facts["Id"]),
        name=str(facts.get("Name", "")).lstrip("/"),
        service=str((facts.get("Config") or {}).get("Labels", {}).get(SERVICE_LABEL, "")),
        state=str(state.get("Status") or "unknown"),
        health="" if status == "none" else status,
        health_output=output[:OUTPUT_CHARACTERS],
        exit_code=int(state.get("ExitCode") or 0),
        error=" ".join(str(state.get("Error") or "").split())[-ERROR_CHARACTERS:],
        restarts=int(facts.get("RestartCount") or 0),
        restarts_itself=str(policy.get("Name") or "no") != "no",
        up_s=max(0.0, now_s - _epoch_s(str(state.get("StartedAt") or ""))),
        ports=_ports((facts.get("NetworkSettings") or {}).get("Ports") or {}),
    )


def _of(project: str) -> dict[str, list[str]]:
    return {"label": [f"{PROJECT_LABEL}={project}"]}


def _ports(published: Mapping[str, Any]) -> dict[int, int]:
    found = {}
    for inside, bindings in published.items():
        number, _, protocol = inside.partition("/")
        if bindings and protocol == "tcp":
            found[int(number)] = int(bindings[0]["HostPort"])
    return found


def _epoch_s(text: str) -> float:
    """The engine's instants are UTC with nanoseconds, which Python does not read; without fraction `Z` follows."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole[:19]}.{fraction[:6]:0<6}+00:00").timestamp()
    except ValueError:
        return 0.0
