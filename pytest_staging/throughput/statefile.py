"""The policy's state on disk: whole or not there, checked by its digest, and never lost in silence.

A state that cannot be read is kept aside under another name, and the policy falls to its fail-safe until an operator
sets a preset. That this happened is written down before anything else, so that a restart does not forget it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_staging import durable
from pytest_staging.model.errors import StorageError
from pytest_staging.model.throughput import ThroughputPolicy
from pytest_staging.throughput.machine import Latch, Override, PolicyState

STATE, LOCK, AUDIT = "state.json", "lock", "audit.jsonl"
SCHEMA_VERSION = 1
GO_ON = "Set a preset to go on: staging-manager policy set --preset NAME"


class StateFile:
    """The state in one folder. `kept_aside` is where an unreadable one went."""

    def __init__(self, folder: Path, policy: ThroughputPolicy) -> None:
        self.path = folder / STATE
        self.kept_aside: Path | None = None
        self._policy = policy

    def load(self) -> PolicyState:
        """The state, or a new one; with `trouble` when there was one that cannot be used. Raises StorageError."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            # An audit trail without its state: somebody removed the state, and with it perhaps an override.
            gone = (self.path.parent / AUDIT).exists()
            return self._troubled("is gone") if gone else PolicyState(self._policy.default_preset)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}. Check its owner and mode.") from error
        try:
            return decode_state(text, self._policy)
        except ValueError as error:
            return self._troubled(f"cannot be used: {error}")

    def save(self, state: PolicyState) -> None:
        """Raises StorageError."""
        durable.write_bytes(self.path, encode_state(state))

    def _troubled(self, why: str) -> PolicyState:
        aside = self._free_name() if self.path.exists() else None
        kept = f" and is kept as {aside.name}" if aside else ""
        trouble = f"the state file {self.path} {why}{kept}. {GO_ON}"
        state = PolicyState(self._policy.default_preset, trouble=trouble)
        if aside:
            # First a copy: killed between the two steps, the old content is still there.
            durable.write_bytes(aside, self.path.read_bytes())
        self.save(state)
        self.kept_aside = aside
        return state

    def _free_name(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{STATE}.unreadable-{number}")).exists():
            number += 1
        return aside


def encode_state(state: PolicyState) -> bytes:
    """JSON with the digest of its own content. Instants of readings are left out: a new process knows none."""
    content = {
        "requested_preset": state.requested,
        "previous_preset": state.previous,
        "override": asdict(state.override) if state.override else None,
        "warning": state.warning.on,
        "critical": state.critical.on,
        "trouble": state.trouble,
    }
    whole = {"schema_version": SCHEMA_VERSION, "state": content, "sha256": _digest(content)}
    return (json.dumps(whole, indent=2) + "\n").encode()


def decode_state(text: bytes, policy: ThroughputPolicy) -> PolicyState:
    """Raises ValueError that says what is wrong."""
    try:
        whole = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from error
    content = whole.get("state") if isinstance(whole, dict) else None
    if not isinstance(content, dict) or whole.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("it is no state of this program")
    if whole.get("sha256") != _digest(content):
        raise ValueError("its content does not have the digest that it names")
    try:
        state = _state_of(content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no state of this program ({error})") from error
    named = {state.requested} | ({state.override.preset} if state.override else set())
    if unknown := sorted(named - set(policy.presets)):
        raise ValueError(f"it names the preset {unknown[0]!r}, which the policy no longer has")
    return state


def _state_of(content: Mapping[str, Any]) -> PolicyState:
    override = content["override"]
    return PolicyState(
        requested=content["requested_preset"],
        previous=content["previous_preset"],
        override=Override(**override) if override else None,
        warning=Latch(content["warning"]),
        critical=Latch(content["critical"]),
        trouble=content["trouble"],
    )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
