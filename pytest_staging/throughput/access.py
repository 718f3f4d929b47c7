"""Who may read the policy and who may change it: bearer tokens, and where the API may listen. Pure."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from pytest_staging.model.errors import UsageProblem

MIN_TOKEN = 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
EXAMPLE = "Write one line each: NAME read|operate TOKEN, for example with: openssl rand -hex 24"


class Role(str, Enum):
    """`operate` may read too."""

    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True)
class Token:
    """A token is kept as its digest only."""

    name: str
    role: Role
    digest: bytes = field(repr=False)


@dataclass(frozen=True)
class Visitor:
    """Who a request comes from."""

    name: str
    role: Role


EVERYBODY_HERE = Visitor("loopback", Role.OPERATE)


def parse_tokens(text: str, source: str) -> list[Token]:
    """Lines `NAME ROLE TOKEN`; empty ones and those with # are left out. Raises UsageProblem, with no token in it."""
    found: list[Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = line.split()
        where = f"{source}, line {number}"
        if len(parts) != 3 or parts[1] not in (Role.READ.value, Role.OPERATE.value):
            raise UsageProblem(f"{where}: is no token. {EXAMPLE}")
        if not _NAME.fullmatch(parts[0]):
            raise UsageProblem(f"{where}: a name may have letters, digits, '.', '_', '@' and '-'.")
        if len(parts[2]) < MIN_TOKEN or not parts[2].isascii():
            raise UsageProblem(f"{where}: a token needs at least {MIN_TOKEN} ASCII characters. {EXAMPLE}")
        if any(one.name == parts[0] for one in found):
            raise UsageProblem(f"{where}: {parts[0]} stands twice.")
        found.append(Token(parts[0], Role(parts[1]), _digest(parts[2].encode())))
    if not found:
        raise UsageProblem(f"{source} holds no token. {EXAMPLE}")
    return found


def find_visitor(tokens: Sequence[Token], authorization: bytes) -> Visitor | None:
    """Whose token the header `Authorization: Bearer TOKEN` holds. Every token is compared, each in constant time."""
    scheme, _, given = authorization.partition(b" ")
    digest = _digest(given.strip())
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = Visitor(token.name, token.role)
    return found if scheme.lower() == b"bearer" else None


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, leads nowhere but to this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, tokens: Sequence[Token], tls: bool, behind_proxy: bool) -> None:
    """Raises UsageProblem where the API would be open to others, or send tokens in the clear."""
    if is_loopback(host):
        return
    missing = [] if tokens else ["a token (--token-file FILE)"]
    if not tls and not behind_proxy:
        missing.append("TLS (--tls-cert FILE --tls-key FILE, or --behind-tls-proxy when a proxy does it)")
    if missing:
        raise UsageProblem(f"--host {host} is not loopback: beyond this machine the API needs {' and '.join(missing)}.")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
