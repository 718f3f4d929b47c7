"""Hosts that are given: never made, never deleted."""

from __future__ import annotations

import threading

from pytest_staging.lifecycle.provider import Say
from pytest_staging.model.inventory import HostSpec


class ExternalHosts:
    """Somebody else looks after them. Whether one answers is found out by whoever connects to it."""

    def __init__(self, stop: threading.Event, say: Say) -> None:
        pass

    def obtain(self, name: str, host: HostSpec) -> HostSpec:
        return host

    def release(self, name: str, host: HostSpec) -> None:
        pass

    def find(self, name: str, host: HostSpec) -> HostSpec | None:
        return host
