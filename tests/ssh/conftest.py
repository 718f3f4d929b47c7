"""Real SSH hosts, or a skip that says why there are none."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosting import LabHost, make_key, remove_hosts, run_lab_script, start_host

from pytest_staging.ssh.connection import SshConnection

MakeHost = Callable[..., LabHost]


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's agent nor its user's ~/.ssh has a say."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("STAGING_SSH_KEY_PASSPHRASE", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeHost]:
    """Makes hosts, and removes them all at the end."""
    if os.environ.get("STAGING_ENGINE_SOCKET") is None:
        os.environ.pop("DOCKER_CONTEXT", None)
    run_lab_script("start-engine.sh")
    run_lab_script("hosts.sh")
    folder = tmp_path_factory.mktemp("hosts")
    key = make_key(folder / "key")
    made: list[str] = []
    numbers = itertools.count()

    def make(**options: object) -> LabHost:
        host = start_host(key, folder / str(next(numbers)), **options)  # type: ignore[arg-type]
        made.append(host.container)
        return host

    try:
        yield make
    finally:
        remove_hosts(made)


@pytest.fixture(scope="session")
def hosts(lab: MakeHost) -> list[LabHost]:
    """Two hosts that tests share: they leave them as they found them, folders below /tmp apart."""
    return [lab(), lab()]


@pytest.fixture(scope="session")
def host(hosts: list[LabHost]) -> LabHost:
    return hosts[0]


@pytest.fixture
def connection(host: LabHost) -> Iterator[SshConnection]:
    """To the shared host; closed at the end."""
    with host.connection() as one:
        yield one


@pytest.fixture
def make_host(lab: MakeHost) -> Iterator[MakeHost]:
    """Hosts of the test's own, to be broken; they go with it."""
    made: list[str] = []

    def make(**options: object) -> LabHost:
        host = lab(**options)
        made.append(host.container)
        return host

    yield make
    remove_hosts(made)
