"""Where a host is and who may log in: what ssh_config(5) says about it, as one frozen value.

Followed: Host, Match (all, host, originalhost, user, localuser), Include, HostName, User, Port, IdentityFile,
IdentitiesOnly, ProxyJump, ProxyCommand, UserKnownHostsFile, GlobalKnownHostsFile, StrictHostKeyChecking, HostKeyAlias.
Everything else is passed over. A `Match` with other criteria, `exec` among them, never matches: nothing is run here.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_staging.model.errors import SshConfigError
from pytest_staging.ssh.configfile import SYSTEM_CONFIG, Settings, load_settings

DEFAULT_PORT = 22
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
MAX_JUMPS = 8


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A host that can be dialled. `jumps` are passed in order; the first known hosts file is the one to add to.

    `given_keys` says that the key files were named and not just the usual ones, `proxy_place` where the command stands.
    """

    alias: str
    address: str
    port: int = DEFAULT_PORT
    user: str
    key_files: tuple[Path, ...] = ()
    given_keys: bool = False
    identities_only: bool = False
    jumps: tuple[Endpoint, ...] = ()
    # May hold a password.
    proxy_command: str | None = field(default=None, repr=False)
    proxy_place: str = ""
    known_hosts: tuple[Path, ...] = ()
    accept_new: bool = False
    host_key_alias: str | None = None

    def __str__(self) -> str:
        """For messages: `lab (root@10.0.0.7:22)`."""
        place = f"{self.user}@{self.address}:{self.port}"
        return f"{self.alias} ({place})" if self.alias != self.address else place

    @property
    def key_name(self) -> str:
        """The name under which known_hosts files hold the host's key."""
        name = self.host_key_alias or self.address
        return name if self.port == DEFAULT_PORT or self.host_key_alias else f"[{name}]:{self.port}"


def resolve_endpoint(
    alias: str,
    *,
    address: str | None = None,
    user: str | None = None,
    port: int | None = None,
    key_file: Path | None = None,
    known_hosts: Path | None = None,
    accept_new: bool | None = None,
    config_files: Sequence[Path] | None = None,
) -> Endpoint:
    """What ssh would dial for `alias`. An argument that is given wins over the configuration.

    `config_files` default to ~/.ssh/config and /etc/ssh/ssh_config; the first value found counts. Raises SshConfigError
    with file and line.
    """
    files = [Path.home() / ".ssh" / "config", SYSTEM_CONFIG] if config_files is None else config_files
    forced = {
        "hostname": address,
        "user": user,
        "port": None if port is None else str(port),
        "identityfile": None if key_file is None else _literal(key_file),
        "userknownhostsfile": None if known_hosts is None else _literal(known_hosts),
        "stricthostkeychecking": None if accept_new is None else ("accept-new" if accept_new else "yes"),
    }
    given = {name: value for name, value in forced.items() if value is not None}
    return _resolve(alias, files, given, through=())


def _resolve(alias: str, files: Sequence[Path], given: Mapping[str, str], through: tuple[str, ...]) -> Endpoint:
    settings = load_settings(alias, files, given)
    address = settings.text("hostname", alias, tokens={"h": alias})
    port = _port(settings)
    user = settings.text("user", getpass.getuser())
    tokens = {"h": address, "n": alias, "p": str(port), "r": user, "u": getpass.getuser(), "d": str(Path.home())}
    jumps, command = _way(settings, files, (*through, alias))
    named = settings.paths("identityfile", tokens)
    strict = settings.text("stricthostkeychecking", "ask").lower()
    return Endpoint(
        alias=alias,
        address=address,
        port=port,
        user=user,
        key_files=tuple(named) or _usual_keys(),
        given_keys=bool(named),
        identities_only=settings.text("identitiesonly", "no").lower() in ("yes", "true"),
        jumps=jumps,
        proxy_command=command and settings.expanded(command, tokens),
        proxy_place=str(settings.places.get("proxycommand", "")) if command else "",
        known_hosts=_known_hosts(settings, tokens),
        # `no` would accept a changed key too; that is never done here.
        accept_new=strict in ("accept-new", "no", "off", "false"),
        host_key_alias=settings.text("hostkeyalias", "") or None,
    )


def _port(settings: Settings) -> int:
    text = settings.text("port", str(DEFAULT_PORT))
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise settings.wrong("port", f"{text!r} is no port: give a number from 1 to 65535.")
    return int(text)


def _way(
    settings: Settings, files: Sequence[Path], through: tuple[str, ...]
) -> tuple[tuple[Endpoint, ...], str | None]:
    """Jumps or a command, whichever the configuration names first."""
    name = settings.first("proxyjump", "proxycommand")
    value = settings.text(name, "none") if name else "none"
    if value.lower() == "none":
        return (), None
    if name == "proxycommand":
        return (), value
    jumps: list[Endpoint] = []
    for hop in value.split(","):
        alias, given = _parse_hop(hop.strip(), settings)
        if alias in through or len(through) > MAX_JUMPS:
            raise settings.wrong("proxyjump", f"the jumps go round in a circle: {' -> '.join((*through, alias))}.")
        # Only the first hop is reached in its own way; each later one is reached through the hop before it.
        own_way = {} if not jumps else {"proxyjump": "none"}
        endpoint = _resolve(alias, files, {**own_way, **given}, through)
        jumps += [*endpoint.jumps, endpoint]
    return tuple(jumps), None


def _parse_hop(hop: str, settings: Settings) -> tuple[str, dict[str, str]]:
    """`[ssh://][user@]host[:port]`, as the host's name and what it says besides."""
    user, _, place = hop.removeprefix("ssh://").rstrip("/").rpartition("@")
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    if not host or host.startswith("-"):
        raise settings.wrong("proxyjump", f"{hop!r} names no host.")
    return host, {name: value for name, value in (("user", user), ("port", port)) if value}


def _usual_keys() -> tuple[Path, ...]:
    folder = Path.home() / ".ssh"
    return tuple(folder / name for name in DEFAULT_KEYS if (folder / name).is_file())


def _known_hosts(settings: Settings, tokens: Mapping[str, str]) -> tuple[Path, ...]:
    folder = Path.home() / ".ssh"
    own = settings.paths("userknownhostsfile", tokens) or [folder / "known_hosts", folder / "known_hosts2"]
    shared = settings.paths("globalknownhostsfile", tokens) or [Path("/etc/ssh/ssh_known_hosts")]
    return tuple(path for path in (*own, *shared) if str(path) != "none")


def _literal(path: Path) -> str:
    """A path as a configuration value that stays as it is."""
    text = os.path.abspath(path.expanduser()).replace("%", "%%")
    if '"' in text or "$" in text:
        raise SshConfigError(f'{path}: a path with " or $ cannot be used for SSH. Move the file.')
    return f'"{text}"'
