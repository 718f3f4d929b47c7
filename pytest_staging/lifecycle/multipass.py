"""VMs that multipass launches for a campaign and deletes after it. The CLI manages the VM; commands go over SSH.

A VM is called `staging-<host>`. One that is there already is used; it is deleted only if we made it, which its record
claims and its host key proves. A launch that fails, is interrupted or was killed before it was done leaves no VM.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing
from dataclasses import replace

from pytest_staging.lifecycle import multipass_program as program
from pytest_staging.lifecycle.cloud_init import USER, build_cloud_init, make_host_key, public_keys
from pytest_staging.lifecycle.ownership import Claim, Record
from pytest_staging.lifecycle.provider import Say
from pytest_staging.model.errors import (
    HOST_GONE,
    HostKeyRefused,
    LoginRefused,
    StagingError,
    UsageProblem,
    VmFailed,
)
from pytest_staging.model.inventory import HostKeys, HostSpec, Lifecycle, VmSpec
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.hosts import endpoint_of

PREFIX = "staging-"
SSH_DEADLINE_S = 120.0
CONNECT_S = 5.0
POLL_S = 0.25
# Longer than a launch and the wait for its SSH.
TURN_DEADLINE_S = program.LAUNCH_DEADLINE_S + SSH_DEADLINE_S + 60.0


class MultipassVms:
    """The VMs that one controller uses. `stop` ends every wait of `obtain`."""

    def __init__(self, stop: threading.Event, say: Say) -> None:
        self._stop = stop
        self._say = say
        self._claims: dict[str, Claim] = {}

    def obtain(self, name: str, host: HostSpec) -> HostSpec:
        """Raises ToolMissing, UsageProblem, VmFailed, LoginRefused, HostKeyRefused, LeaseTimeout, StorageError."""
        vm = vm_name(name)
        program.require_program(name)
        claim = Claim(vm)
        try:
            with claim.changing(TURN_DEADLINE_S, self._stop):
                given = self._settle(name, host, claim)
                claim.use()
        except BaseException:
            claim.close()
            raise
        self._claims[name] = claim
        return given

    def release(self, name: str, host: HostSpec) -> None:
        """Raises VmFailed when the VM cannot be deleted; the next campaign with that host tries again."""
        claim = self._claims.pop(name, None)
        if claim is None:
            return
        with closing(claim):
            if claim.record is None or _spec(host).keep:
                return
            with claim.changing(TURN_DEADLINE_S):
                if claim.is_last_user():
                    program.delete(claim.vm)
                    claim.forget()

    def find(self, name: str, host: HostSpec) -> HostSpec | None:
        program.require_program(name)
        claim = Claim(vm_name(name))
        found = program.describe(claim.vm)
        if found is None or found.state != "Running" or not found.address:
            return None
        return _reached(host, claim, found.address)

    def _settle(self, name: str, host: HostSpec, claim: Claim) -> HostSpec:
        """Whatever there is of the VM, afterwards it runs and answers."""
        found, record = program.describe(claim.vm), claim.record
        if found and found.state == "Deleted" and record is None:
            raise VmFailed(
                f"the VM {claim.vm} lies in multipass's trash: multipass recover {claim.vm}, or multipass purge."
            )
        if found and record and (not record.is_ready or found.state == "Deleted"):
            self._say(f"removing the VM {claim.vm}, which an earlier campaign left half made")
            program.delete(claim.vm)
            found = None
        if found is None:
            return self._launch(name, host, claim)
        self._say(f"using the VM {claim.vm}, which is there already")
        if found.state != "Running":
            program.start(claim.vm, self._stop)
        return self._await(name, host, claim, patience=HOST_GONE)

    def _launch(self, name: str, host: HostSpec, claim: Claim) -> HostSpec:
        spec = _spec(host)
        if host.user not in (None, USER):
            raise UsageProblem(f"{name}: a launched VM lets in {USER}, not {host.user}. Leave its user out.")
        authorised = public_keys(name, replace(host, user=USER))
        key = make_host_key()
        # First the record: when we are killed now, the next campaign knows whose VM it is.
        claim.note(Record(key.public, is_ready=False))
        size = f"{spec.cpus} CPUs, {spec.memory_gb} GB of memory, {spec.disk_gb} GB of disk"
        self._say(f"launching the VM {claim.vm} ({spec.image}, {size})")
        try:
            program.launch(claim.vm, spec, build_cloud_init(authorised, key), self._stop)
            patience = (*HOST_GONE, HostKeyRefused, LoginRefused)  # until cloud-init has put the keys there
            given = self._await(name, host, claim, patience)
        except BaseException:
            self._undo(claim)
            raise
        claim.note(Record(key.public, is_ready=True))
        return given

    def _undo(self, claim: Claim) -> None:
        """What cannot be deleted now keeps its record, and the first error is the one that is told."""
        try:
            program.delete(claim.vm, program.SETTLE_S)
            claim.forget()
        except StagingError as error:
            self._say(str(error))

    def _await(self, name: str, host: HostSpec, claim: Claim, patience: tuple[type[StagingError], ...]) -> HostSpec:
        """Until the VM answers SSH. Errors in `patience` may pass; any other is raised at once."""
        until = time.monotonic() + SSH_DEADLINE_S
        while True:
            found = program.describe(claim.vm)
            problem: StagingError = VmFailed(f"multipass says that its state is {found.state if found else 'gone'}")
            if found and found.address:
                given = _reached(host, claim, found.address)
                try:
                    with SshConnection(endpoint_of(name, given), connect_timeout_s=CONNECT_S) as connection:
                        connection.connect()
                        return given
                except patience as error:
                    problem = error
            if time.monotonic() > until:
                raise VmFailed(
                    f"the VM {claim.vm} did not answer SSH within {SSH_DEADLINE_S:g} s. {problem}"
                ) from problem
            if self._stop.wait(POLL_S):
                raise VmFailed(f"the VM {claim.vm} is not wanted any more.")


def vm_name(host: str) -> str:
    """Name of a host's VM; one that begins with `staging-` stays as it is. Raises UsageProblem."""
    name = host if host.startswith(PREFIX) else f"{PREFIX}{host}"
    if not re.fullmatch(r"[A-Za-z0-9-]{1,59}[A-Za-z0-9]", name):
        raise UsageProblem(f"host {host!r} is to be a VM: name it with letters, digits and dashes, at most 50.")
    return name


def _spec(host: HostSpec) -> VmSpec:
    return host.vm or VmSpec()


def _reached(host: HostSpec, claim: Claim, address: str) -> HostSpec:
    """As a host that is given. One that we made shows the key that we gave it, and no other."""
    given = replace(host, address=address, user=host.user or USER, lifecycle=Lifecycle.EXTERNAL, vm=None)
    if (record := claim.record) is None:
        return given
    claim.note_address(address, record.host_key)
    return replace(given, port=22, known_hosts=str(claim.known_hosts), host_keys=HostKeys.REJECT)
