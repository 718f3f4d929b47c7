"""The places of a load: the generators of its request, or this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pytest_staging.loadtools.addresses import free_addresses
from pytest_staging.model.errors import LoadUnfit
from pytest_staging.model.placing import Place
from pytest_staging.model.ports import LoadRequest


def places_of(request: LoadRequest, program: str = "", ports: int = 0) -> Sequence[Place]:
    """Those of the request; or this machine, with `program` and that many free ports."""
    if request.places:
        return request.places
    free = tuple(int(address.rpartition(":")[2]) for address in free_addresses(ports))
    cpus = float(os.cpu_count() or 1)
    processes = request.load.processes
    return (Place(processes=processes, python=sys.executable, program=program, ports=free, cpus=cpus),)


def place_of(request: LoadRequest, tool: str, program: str) -> Place:
    """The only one. Raises LoadUnfit when there are several."""
    first, *others = places_of(request, program)
    if others:
        raise LoadUnfit(f"{tool} runs on one generator only, and {len(request.places)} are named")
    return first


def numbered(places: Sequence[Place]) -> Sequence[tuple[Place, range]]:
    """Each place with the numbers, from 0, of the load's processes that run there."""
    found, first = [], 0
    for place in places:
        found.append((place, range(first, first + place.processes)))
        first += place.processes
    return found


def clock_of(request: LoadRequest, number: int) -> float:
    """Seconds by which the clock of process `number` (from 0) is ahead of this machine's."""
    for place, numbers in numbered(request.places):
        if number in numbers:
            return place.clock.ahead_s
    return 0.0


def own_name(name: str, place: Place, places: Sequence[Place]) -> str:
    """`load-plan@gen-1.json` is the file of one generator of several; a single place has plain `load-plan.json`."""
    stem, _, suffix = name.rpartition(".")
    if len(places) == 1:
        return name
    return f"{stem}@{place.name}.{suffix}" if stem else f"{name}@{place.name}"
