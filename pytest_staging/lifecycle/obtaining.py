"""Hosts for as long as they are needed: all obtained at once, and what was made for it is gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from typing import cast

from pytest_staging.lifecycle.provider import HostProvider, Say
from pytest_staging.model.errors import StagingError
from pytest_staging.model.inventory import HostSpec, Lifecycle

PROVIDERS = {
    Lifecycle.EXTERNAL: "pytest_staging.lifecycle.external:ExternalHosts",
    Lifecycle.MULTIPASS: "pytest_staging.lifecycle.multipass:MultipassVms",
}


def _in_silence(sentence: str) -> None:
    pass


@contextmanager
def obtained(hosts: Mapping[str, HostSpec], say: Say = _in_silence) -> Iterator[dict[str, HostSpec]]:
    """The hosts, in the given order, as ones that can be connected to; nothing of ours is left of them at the end.

    `say` is told what takes long, and at the end of a failed or interrupted block what could not be taken away. Raises
    ToolMissing, UsageProblem, VmFailed, LeaseTimeout, StorageError or what connecting raises; then no host is held.
    """
    stop = threading.Event()
    providers = _providers(hosts, stop, say)
    try:
        yield _obtain(hosts, providers, stop)
    except BaseException:
        for problem in _release(hosts, providers):
            say(str(problem))
        raise
    problems = _release(hosts, providers)
    for problem in problems[1:]:
        say(str(problem))
    if problems:
        raise problems[0]


def find_host(name: str, host: HostSpec) -> HostSpec | None:
    """The host if it is there now; None for a VM that is launched only when a campaign begins. Raises as `obtained`."""
    return _providers({name: host}, threading.Event(), _in_silence)[host.lifecycle].find(name, host)


def _providers(hosts: Mapping[str, HostSpec], stop: threading.Event, say: Say) -> dict[Lifecycle, HostProvider]:
    made = {}
    for kind in dict.fromkeys(host.lifecycle for host in hosts.values()):
        module, _, name = PROVIDERS[kind].partition(":")
        made[kind] = cast(HostProvider, getattr(import_module(module), name)(stop, say))
    return made


def _obtain(
    hosts: Mapping[str, HostSpec], providers: Mapping[Lifecycle, HostProvider], stop: threading.Event
) -> dict[str, HostSpec]:
    with _pool(hosts) as pool:
        futures = {name: pool.submit(providers[host.lifecycle].obtain, name, host) for name, host in hosts.items()}
        try:
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
        except BaseException:  # Ctrl-C reaches this thread only
            stop.set()
            raise
        # Of the others those that are told to stop fail too, which nobody wants to hear.
        failed = [error for future in done if (error := future.exception())]
        if failed:
            stop.set()
    if failed:
        raise failed[0]
    return {name: future.result() for name, future in futures.items()}


def _release(hosts: Mapping[str, HostSpec], providers: Mapping[Lifecycle, HostProvider]) -> list[StagingError]:
    """What went wrong."""
    with _pool(hosts) as pool:
        futures = [pool.submit(providers[host.lifecycle].release, name, host) for name, host in hosts.items()]
    errors = [error for future in futures if (error := future.exception())]
    for error in errors:
        if not isinstance(error, StagingError):
            raise error
    return cast("list[StagingError]", errors)


def _pool(hosts: Mapping[str, HostSpec]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, len(hosts)), "host lifecycle")
