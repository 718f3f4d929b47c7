"""A real SSH host without a cluster: sshd with keys of its own, and programs that note how they are called."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from workspaces import free_port, give_up, wait_for

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/e2e-k3s-helm.sh"
RECORDING = Path(__file__).resolve().parent / "recording"
RUN_TIMEOUT_S = 120.0
GONE_TIMEOUT_S = 20.0
TOOLS = (
    "bash", "sh", "env", "timeout", "tar", "mkdir", "rm", "rmdir", "cat", "cp", "mv", "grep", "sed", "awk", "sleep",
    "find", "sort", "head", "tail", "cut", "tr", "sha256sum", "mktemp", "ln", "dirname", "touch", "setsid", "python3",
    "ssh", "ssh-keygen",
)  # fmt: skip
NAMESPACE = "staging-test"
IMAGE = "pytest-staging/nodelay:jvm"
NAMED_BY_CONTENT = f"pytest-staging.local/service:ship-{'0a' * 20}"


@dataclass(frozen=True)
class Machine:
    """A folder of programs and what they noted. `bin` is a PATH of its own, beside the tools that any shell has."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def give(self, *programs: str) -> None:
        for name in programs:
            (self.folder / "bin" / name).symlink_to("../program.sh")

    def take(self, program: str) -> None:
        (self.folder / "bin" / program).unlink()

    def wish(self, what: str) -> None:
        (self.state / f"wish.{what}").touch()

    def calls(self, start: str = "") -> list[str]:
        """What was called, as a shell would read it."""
        lines = (self.state / "calls").read_text().splitlines()
        return [line.strip() for line in lines if line.startswith(start)]

    @property
    def values(self) -> dict[str, Any]:
        """What helm was given."""
        found: dict[str, Any] = json.loads((self.state / "values.json").read_text())
        return found

    def left(self) -> list[str]:
        """Namespaces and releases that are there now."""
        return sorted(path.name for pattern in ("namespace.*", "release.*") for path in self.state.glob(pattern))


def make_machine(folder: Path, *programs: str) -> Machine:
    machine = Machine(folder)
    for name in ("bin", "state"):
        (folder / name).mkdir(parents=True)
    for path in RECORDING.iterdir():
        shutil.copy(path, folder)
    texts = {"node_port": "30123", "pods": "true/0 ", "uid": "", "docker-tags": "2", "docker-images": f"{IMAGE}\n"}
    for name, text in {**texts, "calls": "", "images": ""}.items():
        (machine.state / name).write_text(text)
    machine.give(*programs)
    return machine


@dataclass(frozen=True)
class Lab:
    """The machine where the script runs (`here`), the host (`there`), and the settings that lead to it."""

    here: Machine
    there: Machine
    settings: dict[str, str]

    def environment(self, **changes: str | None) -> dict[str, str]:
        """None leaves a variable out."""
        return {name: value for name, value in {**self.settings, **changes}.items() if value is not None}

    def run(self, command: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"env": self.environment(**changes), "stdin": subprocess.DEVNULL}
        return subprocess.run([SCRIPT, command], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, **given)

    @contextmanager
    def running(self, command: str, **changes: str | None) -> Iterator[subprocess.Popen[str]]:
        """In a session of its own, whose processes are killed at the end."""
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(
            [SCRIPT, command], env=self.environment(**changes), stdin=null, stdout=pipe, stderr=pipe, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                for pid in session_members(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def remnants(self) -> list[str]:
        """Files of the script on both machines, and its ssh processes that do not end within some seconds."""
        temporary = Path(self.settings["TMPDIR"])
        project = Path(self.settings["E2E_REMOTE_PROJECT_DIR"])
        until = time.monotonic() + GONE_TIMEOUT_S
        while (processes := [line for line in command_lines() if str(temporary) in line]) and time.monotonic() < until:
            time.sleep(0.02)  # the one that the others shared goes after them
        files = [str(path) for folder in (temporary, project) if folder.exists() for path in folder.iterdir()]
        return files + processes


def session_members(session: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--sid", str(session)], capture_output=True, text=True, timeout=10)
    return [int(pid) for pid in found.stdout.split() if int(pid) != session]


def command_lines() -> list[str]:
    """Of every process that is not a zombie."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@dataclass(frozen=True)
class Sshd:
    """`current` is a link to the folder of the machine that logins find at the moment."""

    folder: Path
    port: int

    @property
    def current(self) -> Path:
        return self.folder / "current"


@contextmanager
def start_sshd(folder: Path) -> Iterator[Sshd]:
    """As this user, on the loopback address."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        give_up("sshd or ssh is missing: apt-get install openssh-server openssh-client")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # what sshd insists on
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    for name in ("host_key", "login key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=10)
    sshd = Sshd(folder, free_port())
    (folder / "authorized").write_text((folder / "login key.pub").read_text())
    (folder / "config").write_text(
        f"Port {sshd.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\n"
        "UsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"UseDNS no\nSetEnv PATH={sshd.current}/bin:{tools}\n"
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(
        [program, "-D", "-e", "-f", folder / "config"], stdout=log, stderr=log
    ) as process:  # fmt: skip
        try:
            wait_for(lambda: b"Server listening" in (folder / "log").read_bytes() or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield sshd
        finally:
            process.terminate()


def make_lab(sshd: Sshd, folder: Path) -> Lab:
    here = make_machine(folder / "here", "docker", "multipass")
    there = make_machine(folder / "there", "helm", "kubectl", "k3s", "docker", "sudo")
    sshd.current.unlink(missing_ok=True)
    sshd.current.symlink_to(there.folder)
    for name in ("tmp", "project"):
        (folder / name).mkdir()
    known_hosts = folder / "known_hosts"
    host_key = (sshd.folder / "host_key.pub").read_text()
    known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {host_key}")
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch()
    settings = {
        "PATH": f"{here.folder}/bin:{sshd.folder}/tools",
        "TMPDIR": str(folder / "tmp"),
        "NAMESPACE": NAMESPACE,
        "E2E_VM_HOST": "127.0.0.1",
        "E2E_VM_USER": subprocess.run(["id", "-un"], capture_output=True, text=True, timeout=10).stdout.strip(),
        "E2E_VM_HOME": str(folder),
        "E2E_SSH_KEY": str(sshd.folder / "login key"),
        "E2E_SSH_PORT": str(sshd.port),
        "E2E_SSH_KNOWN_HOSTS": str(known_hosts),
        "E2E_KUBECONFIG_PATH": str(kubeconfig),
        "E2E_REMOTE_PROJECT_DIR": str(folder / "project"),
        "STAGING_IMAGE": IMAGE,
        "STAGING_VERSION": "nodelay",
        "STAGING_MODE": "jvm",
        "STAGING_CAMPAIGN": "c1",
        "STAGING_CELL": "run001-jvm-nodelay",
    }
    return Lab(here, there, settings)


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while alive(pid):
        if time.monotonic() > deadline:
            pytest.fail(f"process {pid} is still there")
        time.sleep(0.02)
