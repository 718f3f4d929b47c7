"""Whether a host is who it should be: known_hosts files, read, matched and added to.

Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. Keys of certificate authorities are passed over.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable
from pytest_staging.model.errors import HostKeyRefused, StorageError
from pytest_staging.ssh.config import Endpoint
from pytest_staging.ssh.configfile import matches_patterns

# What a key of one type signs with.
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True)
class HostKey:
    """A public key: its type and its base64 text."""

    type: str
    text: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class KnownKey:
    """A line of a known_hosts file that is about the host."""

    key: HostKey
    path: Path
    line: int
    revoked: bool = False


def known_keys(endpoint: Endpoint) -> list[KnownKey]:
    """Every line about the host in its known_hosts files. Raises StorageError for a file that cannot be read."""
    return [known for path in endpoint.known_hosts for known in _read(path, endpoint.key_name)]


def algorithms(known: Sequence[KnownKey]) -> list[str]:
    """Host key algorithms to ask for, so that the host shows a key that can be compared; empty for an unknown host."""
    types = dict.fromkeys(known_key.key.type for known_key in known if not known_key.revoked)
    return [name for one in types for name in _ALGORITHMS.get(one, (one,))]


def require_known(endpoint: Endpoint, shown: HostKey) -> None:
    """Raises HostKeyRefused with what to do, or adds the key of a new host when the endpoint accepts new ones."""
    known = known_keys(endpoint)
    for one in known:
        if one.key == shown and one.revoked:
            raise HostKeyRefused(
                f"{endpoint}: the host key {shown.fingerprint} is revoked by {one.path}, line {one.line}."
            )
    if any(one.key == shown for one in known):
        return
    if stored := [one for one in known if not one.revoked]:
        raise HostKeyRefused(_changed(endpoint, shown, stored[0]))
    if not endpoint.accept_new:
        raise HostKeyRefused(_unknown(endpoint, shown))
    _add(endpoint, shown)


def _unknown(endpoint: Endpoint, shown: HostKey) -> str:
    lines = [
        f"{endpoint}: the host key is not known: {shown.type} {shown.fingerprint}.",
        "Compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` prints on the host itself.",
    ]
    if endpoint.known_hosts:
        lines += [f"If they are equal, add this line to {endpoint.known_hosts[0]}:", _line(endpoint, shown).rstrip()]
    else:
        lines += ["There is no known_hosts file to add it to: name one with UserKnownHostsFile."]
    return "\n".join(lines)


def _changed(endpoint: Endpoint, shown: HostKey, stored: KnownKey) -> str:
    return (
        f"{endpoint}: the host key has changed. {stored.path}, line {stored.line} holds {stored.key.fingerprint}, and "
        f"the host shows {shown.fingerprint}. Somebody may be in between, so nothing was sent.\n"
        f"If the host was really made anew: ssh-keygen -f {stored.path} -R '{endpoint.key_name}'"
    )


def _line(endpoint: Endpoint, shown: HostKey) -> str:
    return f"{endpoint.key_name} {shown.type} {shown.text}\n"


def _add(endpoint: Endpoint, shown: HostKey) -> None:
    """Appends one line in one write under a lock: what others have in the file is never written again."""
    if not endpoint.known_hosts:
        raise HostKeyRefused(_unknown(endpoint, shown))
    path = endpoint.known_hosts[0]
    with durable.storing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # Held by others for as long as it takes to write a line.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            found = list(_read(path, endpoint.key_name))
            if any(one.key == shown for one in found):
                return
            if found:
                raise HostKeyRefused(_changed(endpoint, shown, found[0]))
            _append(descriptor, _line(endpoint, shown).encode())
        finally:
            os.close(descriptor)


def _append(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    broken = size and os.pread(descriptor, 1, size - 1) != b"\n"
    content = b"\n" + line if broken else line
    try:
        written = os.write(descriptor, content)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    if written != len(content):
        os.ftruncate(descriptor, size)
        raise OSError(28, "No space left on device")


def _read(path: Path, name: str) -> Iterator[KnownKey]:
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}. Check its owner and mode.") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        with suppress(binascii.Error):  # somebody else's broken line
            if _is_about(name, words[0]):
                base64.b64decode(words[2], validate=True)
                yield KnownKey(HostKey(words[1], words[2]), path, number, revoked=marker == "@revoked")


def _is_about(name: str, names: str) -> bool:
    if not names.startswith("|1|"):
        return matches_patterns(name, names.split(","))
    salt, _, digest = names[3:].partition("|")
    made = hmac.new(base64.b64decode(salt), name.lower().encode(), hashlib.sha1).digest()
    return hmac.compare_digest(made, base64.b64decode(digest))
