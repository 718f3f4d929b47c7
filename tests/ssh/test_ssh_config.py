"""~/.ssh/config as ssh reads it, without a host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_staging.model.errors import SshConfigError
from pytest_staging.ssh.config import Endpoint, resolve_endpoint


@pytest.fixture
def folder() -> Path:
    found = Path.home() / ".ssh"
    found.mkdir(mode=0o700)
    return found


def resolve(folder: Path, alias: str, text: str) -> Endpoint:
    (folder / "config").write_text(text)
    return resolve_endpoint(alias, config_files=[folder / "config"])


def test_first_value_counts_and_key_files_add_up(folder: Path) -> None:
    text = """
    # a comment
    Host other
      User wrong
    Host lab lab-*
      HostName %h.example.org
      User=alice
      Port = 2222
      IdentityFile ~/.ssh/one
    Host * !nobody
      User late
      IdentityFile "~/.ssh/t w o"
      identitiesonly yes
      Compression yes
    """
    found = resolve(folder, "lab-1", text)
    assert (found.address, found.user, found.port) == ("lab-1.example.org", "alice", 2222)
    assert found.key_files == (folder / "one", folder / "t w o")
    assert (found.identities_only, found.given_keys, found.accept_new) == (True, True, False)
    assert found.key_name == "[lab-1.example.org]:2222"


def test_agrees_with_ssh_itself(folder: Path) -> None:
    """The same file, read by `ssh -G`."""
    (folder / "more").write_text("Host in*\n  Port 2022\nUser included\n")
    text = """
    Include mo?e
    Host h1 !h2 inner
      HostName 10.1.2.3
    Match host 10.1.* user included
      IdentityFile ~/.ssh/%h-%n
    Match all
      UserKnownHostsFile ~/known "/tmp/two words"
    """
    for alias in ("h1", "h2", "inner", "10.1.9.9"):
        found = resolve(folder, alias, text)
        theirs = subprocess.run(
            ["ssh", "-G", "-F", str(folder / "config"), alias], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        values = dict(line.split(" ", 1) for line in theirs.splitlines() if " " in line)
        # ssh takes relative includes from its user's own folder, which is not the test's.
        if "included" in theirs:
            assert (found.user, str(found.port)) == (values["user"], values["port"])
        assert found.address == values["hostname"]


def test_includes_are_followed(folder: Path) -> None:
    """Relative to the folder, in the order of their names, within the block that includes them, in depth."""
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "10-first").write_text("Port 10\nHost other\n  User wrong\n")
    (folder / "conf.d" / "20-second").write_text("Port 20\nInclude conf.d/deeper\n")
    (folder / "conf.d" / "deeper").write_text("HostName deep.example.org\n")
    found = resolve(folder, "lab", "Include conf.d/[0-9]* missing/*\nUser after\n")
    assert (found.port, found.user, found.address) == (10, "after", "deep.example.org")
    assert resolve(folder, "lab", "Host other\n  Include conf.d/*\n").port == 22


def test_circle_of_includes_is_an_error_with_its_place(folder: Path) -> None:
    (folder / "again").write_text("\nInclude config\n")
    with pytest.raises(SshConfigError, match=r"(config|again), line \d: files that include each other"):
        resolve(folder, "lab", "Include again\n")


def test_match_exec_runs_nothing(folder: Path, tmp_path: Path) -> None:
    text = f'Match exec "touch {tmp_path}/ran"\n  User wrong\nMatch final all\n  User wrong\nHost *\n  User right\n'
    assert resolve(folder, "lab", text).user == "right"
    assert not (tmp_path / "ran").exists()


def test_match_is_negated_and_combined(folder: Path) -> None:
    text = "Match originalhost l?b !user bob\n  Port 7\nMatch !all\n  Port 8\nMatch localuser no-such-user\n  Port 9\n"
    assert resolve(folder, "lab", text).port == 7
    assert resolve(folder, "lab", "User bob\n" + text).port == 22


def test_jumps_are_resolved_in_turn(folder: Path) -> None:
    """The first hop is reached in its own way, each later one through the hop before it."""
    text = """
    Host inner
      ProxyJump bob@middle:2201,outer
    Host middle
      HostName 10.0.0.2
      ProxyJump edge
    Host outer
      ProxyJump never
    Host edge
      User eve
    """
    jumps = resolve(folder, "inner", text).jumps
    assert [(one.alias, one.address, one.port) for one in jumps] == [
        ("edge", "edge", 22), ("middle", "10.0.0.2", 2201), ("outer", "outer", 22),
    ]  # fmt: skip
    assert [one.user for one in jumps[:2]] == ["eve", "bob"]
    assert all(one.jumps == () or one.alias == "middle" for one in jumps)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n", "line [24]: the jumps go round in a circle: a -> b -> a"),
        ("Port many\n", "config, line 1: 'many' is no port"),
        ("\nIdentityFile\n", "config, line 2: 'IdentityFile' has no value"),
        ('User "open\n', "config, line 1: user has a quote that is not closed"),
        ("IdentityFile ${NO_SUCH_VARIABLE}/key\n", "line 1: the environment variable NO_SUCH_VARIABLE is not set"),
        ("ProxyJump -oProxyCommand=id\n", "names no host"),
    ],
)
def test_mistakes_are_named_with_file_and_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SshConfigError, match=message):
        resolve(folder, "a", text)


def test_proxy_command_and_its_secrets(folder: Path) -> None:
    """Whichever of command and jump comes first counts; a command may hold a password and is in no repr."""
    found = resolve(folder, "lab", "ProxyCommand proxy --password s3cret %h %p %%\nProxyJump edge\n")
    assert (found.proxy_command, found.jumps) == ("proxy --password s3cret lab 22 %", ())
    assert "s3cret" not in f"{found!r} {found}"
    assert resolve(folder, "lab", "ProxyJump none\nProxyCommand x\n").proxy_command is None


def test_arguments_win(folder: Path) -> None:
    (folder / "config").write_text("User a\nPort 1\nHostName h\nStrictHostKeyChecking accept-new\nIdentityFile k\n")
    files = [folder / "config"]
    assert resolve_endpoint("lab", config_files=files).accept_new is True
    found = resolve_endpoint(
        "lab", address="10.0.0.1", user="b", port=2, key_file=Path("/k %h"), accept_new=False, config_files=files
    )
    assert (found.address, found.user, found.port, found.accept_new) == ("10.0.0.1", "b", 2, False)
    assert found.key_files == (Path("/k %h"),)


def test_without_configuration_the_usual_holds(folder: Path) -> None:
    (folder / "id_ed25519").write_text("")
    found = resolve_endpoint("lab", config_files=[folder / "none"])
    assert (found.address, found.port, found.key_files, found.given_keys) == (
        "lab", 22, (folder / "id_ed25519",), False,
    )  # fmt: skip
    assert found.known_hosts[:2] == (folder / "known_hosts", folder / "known_hosts2")
