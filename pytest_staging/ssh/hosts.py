"""From an inventory's host to a connection."""

from __future__ import annotations

from pathlib import Path

from pytest_staging.model.inventory import HostKeys, HostSpec
from pytest_staging.ssh.config import Endpoint, resolve_endpoint
from pytest_staging.ssh.connection import SshConnection


def endpoint_of(name: str, host: HostSpec) -> Endpoint:
    """What the inventory says wins over ~/.ssh/config, where its name is looked up. Raises SshConfigError."""
    return resolve_endpoint(
        name,
        address=host.address,
        user=host.user,
        port=host.port,
        key_file=Path(host.key).expanduser() if host.key else None,
        known_hosts=Path(host.known_hosts).expanduser() if host.known_hosts else None,
        accept_new=True if host.host_keys is HostKeys.ACCEPT_NEW else None,
    )


def connection_to(name: str, host: HostSpec) -> SshConnection:
    """Not dialled yet."""
    return SshConnection(endpoint_of(name, host))
