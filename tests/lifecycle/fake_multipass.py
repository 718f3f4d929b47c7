#!/usr/bin/env python3
"""A `multipass` that notes its calls and "launches" a VM by giving a lab host the keys of its cloud-init document.

FAKE_MULTIPASS is its folder: `hosts.json` (VM to container and address), `vm.NAME` (state and address of a VM that
exists), `calls`, and `wish.NAME.WHAT` for what is to go wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

FOLDER = Path(os.environ["FAKE_MULTIPASS"])
SET_UP = r"""
grep -q ^ubuntu: /etc/passwd || {
  echo ubuntu:x:1000:1000::/home/ubuntu:/bin/bash >>/etc/passwd; echo 'ubuntu:*:19000:0:99999:7:::' >>/etc/shadow
  mkdir -p /home/ubuntu/.ssh && chown -R 1000:1000 /home/ubuntu && chmod 700 /home/ubuntu/.ssh
}
printf '%s\n' "$1" >/home/ubuntu/.ssh/authorized_keys
rm -f /etc/ssh/ssh_host_*; umask 077; printf %s "$2" >/etc/ssh/ssh_host_ecdsa_key
printf '%s\n' "$3" >/etc/ssh/ssh_host_ecdsa_key.pub; kill -s KILL $(pidof sshd)
"""


def fail(text: str, status: int = 1) -> None:
    print(text, file=sys.stderr)
    sys.exit(status)


def wish(vm: str, what: str) -> bool:
    return (FOLDER / f"wish.{vm}.{what}").exists()


def vm_file(vm: str) -> Path:
    return FOLDER / f"vm.{vm}"


def note(vm: str, state: str) -> None:
    temporary = FOLDER / f".vm.{vm}.{os.getpid()}"
    temporary.write_text(json.dumps({"state": state, "address": hosts()[vm]["address"]}))
    temporary.rename(vm_file(vm))


def hosts() -> dict[str, dict[str, str]]:
    return json.loads((FOLDER / "hosts.json").read_text())


def info(vm: str) -> None:
    if wish(vm, "daemon-down"):
        fail("info failed: cannot connect to the multipass socket", 2)
    if not vm_file(vm).exists():
        fail(f'info failed: The following errors occurred:\ninstance "{vm}" does not exist', 2)
    found = json.loads(vm_file(vm).read_text())
    addresses = [found["address"]] if found["state"] == "Running" else []
    print(json.dumps({"errors": [], "info": {vm: {"ipv4": addresses, "state": found["state"]}}}))


def launch(vm: str) -> None:
    text = sys.stdin.read()
    (FOLDER / f"cloud-init.{vm}").write_text(text)
    if wish(vm, "meets"):  # the other launch is under way too, or this one never ends well
        until = time.monotonic() + 120
        while len(list(FOLDER.glob("cloud-init.*"))) < 2:
            if time.monotonic() > until:
                fail("no other launch came")
            time.sleep(0.01)
    if wish(vm, "fails"):
        note(vm, "Unknown")
        fail('launch failed: Downloading...\nlaunch failed: Remote "" is unknown or unreachable.')
    if wish(vm, "hangs"):
        # The daemon goes on when its client is gone, and is late.
        late = (
            f"for _ in $(seq 3000); do [ -e {FOLDER}/late ] && break; sleep 0.02; done; mv {FOLDER}/later {vm_file(vm)}"
        )
        (FOLDER / "later").write_text(json.dumps({"state": "Starting", "address": ""}))
        subprocess.Popen(["sh", "-c", late], start_new_session=True, stdout=subprocess.DEVNULL)
        (FOLDER / "hanging").touch()
        until = time.monotonic() + 60
        while time.monotonic() < until and not vm_file(vm).exists():
            time.sleep(0.01)
        sys.exit(1)
    data = yaml.safe_load(text.removeprefix("#cloud-config\n"))
    keys = ["\n".join(data["ssh_authorized_keys"]), data["ssh_keys"]["ecdsa_private"], data["ssh_keys"]["ecdsa_public"]]
    if not wish(vm, "unreachable"):
        container = hosts()[vm]["container"]
        subprocess.run(["docker", "exec", container, "sh", "-c", SET_UP, "sh", *keys], check=True, timeout=30)
    note(vm, "Running")


def main(command: str, *arguments: str) -> None:
    with (FOLDER / "calls").open("a") as file:
        file.write(" ".join([command, *arguments]) + "\n")
    if command == "info":
        info(arguments[0])
    elif command == "launch":
        launch(arguments[arguments.index("--name") + 1])
    elif command == "start":
        note(arguments[0], "Running")
    elif command == "delete":
        assert arguments[0] == "--purge"
        if wish(arguments[1], "stays"):
            fail(f'delete failed: instance "{arguments[1]}" is busy')
        vm_file(arguments[1]).unlink()
    else:
        fail(f"unexpected command {command}")


if socket_path := os.environ.get("STAGING_ENGINE_SOCKET"):
    os.environ["DOCKER_HOST"] = f"unix://{socket_path}"
main(*sys.argv[1:])
