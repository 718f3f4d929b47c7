"""Who the host is, and who we are: host keys and logins against a real sshd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hosting import LabHost, call, make_key

from pytest_staging.model.errors import HostKeyRefused, LoginRefused, StorageError
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.hostkeys import HostKey, known_keys, require_known

FOREIGN = "elsewhere ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPlO0W1n3u1gJZ3Cq3e2l0uNn2lJm9cY9y0T7q5y0v0A"


def greet(host: LabHost, **changes: object) -> str:
    with host.connection(**changes) as connection:
        return connection.run(["echo", "hello"], deadline_s=10).require("greeting").stdout.decode().strip()


def test_unknown_host_is_refused_with_the_line_to_add(host: LabHost, tmp_path: Path) -> None:
    """By default, and nothing is written; with the line added as the message says, it is known."""
    known = tmp_path / "known"
    with pytest.raises(HostKeyRefused, match="the host key is not known: ssh-ed25519 SHA256:") as caught:
        greet(host, known_hosts=known)
    assert not known.exists()
    message = str(caught.value)
    assert f"add this line to {known}" in message
    assert "ssh-keygen -lf" in message
    known.write_text(message.splitlines()[-1] + "\n")
    assert greet(host, known_hosts=known) == "hello"


def test_new_host_may_be_accepted(host: LabHost, tmp_path: Path) -> None:
    """One line comes to what others wrote, broken lines and a missing end of line included."""
    known = tmp_path / "new" / "known"
    assert greet(host, known_hosts=known, accept_new=True) == "hello"
    line = f"{host.address} {host.host_key()}\n"
    assert known.read_text() == line
    assert known.stat().st_mode & 0o077 == 0
    known.write_text(f"# mine\n{FOREIGN}\nnonsense\n|1|broken|hash ssh-rsa x")
    before = known.read_text()
    assert greet(host, known_hosts=known, accept_new=True) == "hello"
    assert known.read_text() == f"{before}\n{line}"
    assert greet(host, known_hosts=known, accept_new=True) == "hello"
    assert known.read_text() == f"{before}\n{line}", "known by now"


def test_hosts_accepted_at_the_same_time_are_all_written(host: LabHost, tmp_path: Path) -> None:
    known = tmp_path / "known"
    endpoints = [host.endpoint(known_hosts=known, accept_new=True, address=f"10.0.0.{n}") for n in range(30)]
    shown = HostKey(*host.host_key().split())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda endpoint: require_known(endpoint, shown), endpoints * 2))
    assert sorted(known.read_text().splitlines()) == sorted(f"{one.address} {host.host_key()}" for one in endpoints)


def test_changed_key_is_refused_always(host: LabHost, tmp_path: Path) -> None:
    """Also where new ones are accepted; the message says where the old one stands and how to remove it."""
    known = tmp_path / "known"
    other = make_key(tmp_path / "other").with_name("other.pub").read_text()
    known.write_text(f"{FOREIGN}\n{host.address} {other}")
    for accept_new in (False, True):
        with pytest.raises(HostKeyRefused, match=f"has changed. {known}, line 2 holds SHA256:") as caught:
            greet(host, known_hosts=known, accept_new=accept_new)
    command = str(caught.value).splitlines()[-1].partition(": ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True, timeout=20)
    assert greet(host, known_hosts=known, accept_new=True) == "hello"


def test_every_form_of_known_hosts_is_read(host: LabHost, tmp_path: Path) -> None:
    """Hashed, several names, patterns, an exception, another port; revoked keys are refused."""
    known = tmp_path / "known"
    key = host.host_key()
    for names in (host.address, f"x,{host.address}", "127.0.?.*", "*"):
        known.write_text(f"{names} {key} comment\n")
        assert greet(host, known_hosts=known) == "hello"
    known.write_text(f"{host.address} {key}\n")
    call("ssh-keygen", "-H", "-f", known)
    assert host.address not in known.read_text()
    assert greet(host, known_hosts=known) == "hello"
    for line in (f"*,!{host.address} {key}", f"[{host.address}]:2222 {key}", f"@cert-authority * {key}"):
        known.write_text(f"{line}\n")
        with pytest.raises(HostKeyRefused, match="is not known"):
            greet(host, known_hosts=known)
    known.write_text(f"@revoked * {key}\n{host.address} {key}\n")
    with pytest.raises(HostKeyRefused, match=r"is revoked by .*known, line 1"):
        greet(host, known_hosts=known)
    known.write_text(f"[{host.address}]:2222 {key}\n")
    assert len(known_keys(host.endpoint(known_hosts=known, port=2222))) == 1


def test_unreadable_known_hosts_are_named(host: LabHost, tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    with pytest.raises(StorageError, match=f"cannot read {tmp_path}/known"):
        greet(host, known_hosts=tmp_path / "known")


def test_refused_key_is_named(host: LabHost, tmp_path: Path) -> None:
    """Which file, what happened to it, and where to put the public key."""
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(LoginRefused, match=f"{stranger}: refused") as caught:
        greet(host, key_file=stranger)
    assert "authorized_keys of root" in str(caught.value)
    with pytest.raises(LoginRefused, match=r"missing: cannot be read: No such file"):
        greet(host, key_file=tmp_path / "missing")
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(LoginRefused, match=r"junk: is no private key"):
        greet(host, key_file=tmp_path / "junk")


def test_encrypted_key_file(host: LabHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PT-02: opened by the variable; else the message says both ways to open it, and never the passphrase."""
    key = tmp_path / "locked"
    key.write_bytes(host.key.read_bytes())
    key.chmod(0o600)
    call("ssh-keygen", "-q", "-p", "-N", "s3cret passphrase", "-f", key)
    with pytest.raises(LoginRefused, match=f"is encrypted: run `ssh-add {key}`, or set STAGING_SSH_KEY_PASSPHRASE"):
        greet(host, key_file=key)
    monkeypatch.setenv("STAGING_SSH_KEY_PASSPHRASE", "wr0ng")
    with pytest.raises(LoginRefused, match="STAGING_SSH_KEY_PASSPHRASE does not open it") as caught:
        greet(host, key_file=key)
    assert "wr0ng" not in str(caught.value)
    monkeypatch.setenv("STAGING_SSH_KEY_PASSPHRASE", "s3cret passphrase")
    assert greet(host, key_file=key) == "hello"


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent of the test's own."""
    started = call("ssh-agent", "-s")
    words = dict(word.split("=") for word in started.replace(";", "\n").splitlines() if "=" in word)
    monkeypatch.setenv("SSH_AUTH_SOCK", words["SSH_AUTH_SOCK"])
    yield
    os.kill(int(words["SSH_AGENT_PID"]), 15)


@pytest.mark.usefixtures("agent")
def test_agent_keys_are_used(host: LabHost, tmp_path: Path) -> None:
    """Also for a key file that is encrypted, and not for others where only the named ones may be offered."""
    key, stranger = tmp_path / "locked", make_key(tmp_path / "stranger")
    key.write_bytes(host.key.read_bytes())
    key.chmod(0o600)
    call("ssh-add", "-q", stranger)
    with pytest.raises(LoginRefused, match=r"agent key SHA256:.*: refused"):
        greet(host, key_file=stranger)
    call("ssh-add", "-q", key)
    assert greet(host, key_file=tmp_path / "missing") == "hello"
    config = tmp_path / "config"
    config.write_text("IdentitiesOnly yes\n")
    from pytest_staging.ssh.config import resolve_endpoint

    facts = {"address": host.address, "user": "root", "known_hosts": host.known_hosts, "config_files": [config]}
    with pytest.raises(LoginRefused), SshConnection(resolve_endpoint("lab", key_file=stranger, **facts)) as connection:
        connection.connect()
    call("ssh-keygen", "-q", "-p", "-N", "locked now", "-f", key)
    (tmp_path / "locked.pub").write_text(host.key.with_name("key.pub").read_text())
    with SshConnection(resolve_endpoint("lab", key_file=key, **facts)) as connection:
        connection.connect()


def test_login_that_takes_no_keys_says_so(make_host: object, host: LabHost) -> None:
    refusing = make_host(sshd=["PubkeyAuthentication no", "PasswordAuthentication yes"])  # type: ignore[operator]
    with pytest.raises(LoginRefused, match="takes no keys, only password"):
        greet(refusing)


def test_host_that_ends_the_login_says_so(make_host: object, tmp_path: Path) -> None:
    """sshd ends the connection after MaxAuthTries: the message says what to do about it."""
    strict = make_host(sshd=["MaxAuthTries 1"])  # type: ignore[operator]
    config = tmp_path / "config"
    keys = [make_key(tmp_path / name) for name in ("one", "two", "three")]
    config.write_text("".join(f"IdentityFile {key}\n" for key in keys))
    from pytest_staging.ssh.config import resolve_endpoint

    endpoint = resolve_endpoint(
        "lab", address=strict.address, user="root", known_hosts=strict.known_hosts, config_files=[config]
    )
    with pytest.raises(LoginRefused, match="IdentitiesOnly"), SshConnection(endpoint) as connection:
        connection.connect()
