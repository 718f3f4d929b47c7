"""What a new VM is told by cloud-init: who may log in, and the host key that it is to have.

The key is made here, so that the VM is known before its first answer and no key has to be taken on trust.
Source: cloud-init's module "SSH" (ssh_authorized_keys, ssh_keys).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import yaml

from pytest_staging.model.errors import LoginRefused
from pytest_staging.model.inventory import HostSpec
from pytest_staging.ssh.hosts import endpoint_of

USER = "ubuntu"
"""Whom the images let in with the keys that cloud-init is given."""


@dataclass(frozen=True)
class HostKeyPair:
    """`public` is `TYPE BASE64`, `private` PEM text, which goes to the VM and is kept nowhere here."""

    public: str
    private: str = field(repr=False)


def make_host_key() -> HostKeyPair:
    """A new ECDSA key, of the only modern type that paramiko makes itself."""
    key = paramiko.ECDSAKey.generate()
    text = io.StringIO()
    key.write_private_key(text)
    return HostKeyPair(f"{key.get_name()} {key.get_base64()}", text.getvalue())


def public_keys(name: str, host: HostSpec) -> list[str]:
    """The public halves, as `authorized_keys` has them, of the key files that a login uses. Raises LoginRefused."""
    files = [Path(f"{path}.pub") for path in endpoint_of(name, host).key_files]
    found = [path.read_text(errors="replace").strip() for path in files if path.is_file()]
    if not found:
        advice = "Name a key for it in targets.yaml, or with E2E_SSH_KEY; ssh-keygen -t ed25519 makes one."
        if files:
            advice = f"There is no {files[0]}: ssh-keygen -y -f {files[0].with_suffix('')} >{files[0]} makes it."
        raise LoginRefused(f"{name}: the VM needs a public key of yours to let you in. {advice}")
    return found


def build_cloud_init(authorised: list[str], host_key: HostKeyPair) -> str:
    """A cloud-config document."""
    data = {
        "ssh_authorized_keys": authorised,
        "ssh_deletekeys": True,
        "ssh_keys": {"ecdsa_private": host_key.private, "ecdsa_public": f"{host_key.public} pytest-staging"},
    }
    return "#cloud-config\n" + yaml.safe_dump(data, width=4096, sort_keys=True)
