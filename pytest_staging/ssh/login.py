"""Proving to a host who we are: keys of the agent, then key files. Passwords are never used.

Which keys were tried is said by fingerprint and path; passphrases are in no message.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko

from pytest_staging.model.errors import ConnectionLost, LoginRefused
from pytest_staging.ssh.config import Endpoint

PASSPHRASE = "STAGING_SSH_KEY_PASSPHRASE"
"""Environment variable with the passphrase of encrypted key files."""
_LIST_KEYS = b"\0\0\0\1\x0b"  # SSH_AGENTC_REQUEST_IDENTITIES


@dataclass(frozen=True)
class _Candidate:
    """A key to offer. `path` is a file that is opened only when its turn has come, `key` one of the agent's."""

    name: str
    key: paramiko.PKey | None = None
    path: Path | None = None


def log_in(transport: paramiko.Transport, endpoint: Endpoint, timeout_s: float) -> None:
    """Offers one key after the other. Raises LoginRefused with what was tried and why each was of no use."""
    transport.auth_timeout = timeout_s
    tried: list[str] = []
    with _agent(timeout_s) as agent_keys:
        for candidate in _candidates(endpoint, agent_keys):
            key, problem = (candidate.key, "") if candidate.key else _open(candidate.path)
            if key is None:
                tried.append(f"{candidate.name}: {problem}")
            elif _accepts(transport, endpoint, key, [*tried, f"{candidate.name}: refused"]):
                return
            else:
                tried.append(f"{candidate.name}: refused")
    raise LoginRefused(_refusal(endpoint, tried))


def _accepts(transport: paramiko.Transport, endpoint: Endpoint, key: paramiko.PKey, tried: list[str]) -> bool:
    try:
        return not transport.auth_publickey(endpoint.user, key)
    except paramiko.BadAuthenticationType as error:
        raise LoginRefused(f"{endpoint}: the host takes no keys, only {', '.join(error.allowed_types)}.") from error
    except paramiko.AuthenticationException as error:
        if transport.is_active():
            return False
        # After some refusals, six by default, sshd ends the connection.
        advice = "The host then ended the connection: offer fewer keys, with IdentitiesOnly yes."
        raise LoginRefused(f"{_refusal(endpoint, tried)}\n{advice}") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectionLost(f"{endpoint}: the connection ended during the login: {error or 'closed'}.") from error


def _refusal(endpoint: Endpoint, tried: list[str]) -> str:
    advice = f"Put the public key into ~/.ssh/authorized_keys of {endpoint.user} there, or name another IdentityFile."
    if not tried:
        return f"{endpoint}: there is no key to log in with: no agent, and no key file."
    return "\n".join([f"{endpoint}: the host took none of the keys.", *(f"  {line}" for line in tried), advice])


def _candidates(endpoint: Endpoint, agent_keys: tuple[paramiko.AgentKey, ...]) -> Iterator[_Candidate]:
    """As ssh: the agent's keys of which there are files, its other keys, the files that the agent does not have."""
    held = {key.asbytes(): key for key in agent_keys}
    public = {path: _public_part(path) for path in endpoint.key_files}
    first = [held[blob] for blob in public.values() if blob in held] if endpoint.given_keys else []
    others = [key for key in agent_keys if key not in first and not endpoint.identities_only]
    if endpoint.identities_only:
        first = [held[blob] for blob in public.values() if blob in held]
    files = [_Candidate(str(path), path=path) for path in endpoint.key_files if public[path] not in held]
    named = files if endpoint.given_keys else []
    yield from (_Candidate(f"agent key {_fingerprint(key)}", key=key) for key in first)
    yield from named
    yield from (_Candidate(f"agent key {_fingerprint(key)}", key=key) for key in others)
    yield from (one for one in files if one not in named)


def _public_part(path: Path) -> bytes | None:
    with suppress(OSError, ValueError, IndexError):
        return base64.b64decode(path.with_name(path.name + ".pub").read_text().split()[1], validate=True)
    return None


def _fingerprint(key: paramiko.PKey) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _open(path: Path | None) -> tuple[paramiko.PKey | None, str]:
    """The key, or None and the reason."""
    assert path is not None
    passphrase = os.environ.get(PASSPHRASE)
    try:
        return paramiko.PKey.from_path(path), ""
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    except (paramiko.PasswordRequiredException, TypeError):
        if not passphrase:
            return None, f"is encrypted: run `ssh-add {path}`, or set {PASSPHRASE}"
    except (paramiko.SSHException, ValueError, paramiko.pkey.UnknownKeyType):
        return None, "is no private key that can be read here"
    # Outside the handler: the first failure would be said to be the cause of the second.
    try:
        # What opens the file wants bytes, whatever the signature says.
        return paramiko.PKey.from_path(path, passphrase.encode()), ""  # type: ignore[arg-type]
    except (paramiko.SSHException, ValueError, OSError):
        return None, f"is encrypted, and {PASSPHRASE} does not open it"


@contextmanager
def _agent(timeout_s: float) -> Iterator[tuple[paramiko.AgentKey, ...]]:
    """The keys of the agent, if there is one; it is asked to sign while the block runs."""
    agent = None
    with suppress(paramiko.SSHException, OSError, EOFError):
        # paramiko would wait for ever for an agent that hangs.
        if _agent_answers(timeout_s):
            agent = paramiko.Agent()
    try:
        connection = getattr(agent, "_conn", None)
        if connection is not None and hasattr(connection, "settimeout"):
            connection.settimeout(timeout_s)
        yield agent.get_keys() if agent else ()
    finally:
        if agent:
            agent.close()


def _agent_answers(timeout_s: float) -> bool:
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout_s)
        probe.connect(path)
        probe.sendall(_LIST_KEYS)
        return bool(probe.recv(1))
