"""One compose file as text: its data, the line of every key, and what only stands in comments. Never written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import yaml

from pytest_staging.model.errors import Problem
from pytest_staging.yamltext import Path, PlainLoader, YamlText, dotted

TOP_KEYS = {"version", "name", "include", "services", "networks", "volumes", "secrets", "configs", "models"}
SERVICE_KEYS = {
    "annotations", "attach", "build", "blkio_config", "cap_add", "cap_drop", "cgroup", "cgroup_parent", "command",
    "configs", "container_name", "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period",
    "cpu_rt_runtime", "cpu_shares", "cpus", "cpuset", "credential_spec", "depends_on", "deploy", "develop",
    "device_cgroup_rules", "devices", "dns", "dns_opt", "dns_search", "domainname", "driver_opts", "entrypoint",
    "env_file", "environment", "expose", "extends", "external_links", "extra_hosts", "gpus", "group_add",
    "healthcheck", "hostname", "image", "init", "ipc", "isolation", "label_file", "labels", "links", "log_driver",
    "log_opt", "logging", "mac_address", "mem_limit", "mem_reservation", "mem_swappiness", "memswap_limit", "models",
    "net", "network_mode", "networks", "oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "platform", "ports",
    "post_start", "pre_stop", "privileged", "profiles", "provider", "pull_policy", "pull_refresh_after", "read_only",
    "restart", "runtime", "scale", "secrets", "security_opt", "shm_size", "stdin_open", "stop_grace_period",
    "stop_signal", "storage_opt", "sysctls", "tmpfs", "tty", "ulimits", "use_api_socket", "user", "userns_mode",
    "uts", "volumes", "volumes_from", "volume_driver", "working_dir",
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
_COMMENT = re.compile(r"^\s*#+\s?(.*)$")


@dataclass(frozen=True)
class Tagged:
    """A value under Compose's own tags: `!reset` takes away what earlier files say, `!override` replaces it."""

    tag: str
    value: Any


class _ComposeLoader(PlainLoader):
    """Knows the tags of Compose."""


def _construct_tagged(loader: Any, node: yaml.Node) -> Tagged:
    tag = str(node.tag).lstrip("!")
    if isinstance(node, yaml.MappingNode):
        return Tagged(tag, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return Tagged(tag, loader.construct_sequence(node, deep=True))
    plain = loader.resolve(yaml.ScalarNode, node.value, (True, False))
    return Tagged(tag, loader.construct_object(yaml.ScalarNode(plain, node.value, node.start_mark)))


for _tag in ("!reset", "!override"):
    _ComposeLoader.add_constructor(_tag, _construct_tagged)


class ComposeFile:
    """`path` is where it lies; `shown` how people call it. `problems` are those of this file alone."""

    def __init__(self, path: FilePath, shown: str, text: str) -> None:
        self.path, self.shown, self.text = path, shown, text
        self._document = YamlText(text, _ComposeLoader)
        self.problems: list[Problem] = list(self._document.problems)
        data = self._document.data
        if data is None and not self.problems:
            self.problems.append(Problem("", "is empty, a mapping of keys is needed"))
        elif data is not None and not isinstance(data, dict):
            self.problems.append(Problem("", "is no mapping of keys"))
        self.data: Mapping[str, Any] = data if isinstance(data, dict) else {}
        self._check_shape()

    def line_of(self, *path: str | int) -> int | None:
        """The line of that key, or of the nearest one around it."""
        return self._document.line_of(path)

    def problem(self, path: Path, message: str) -> Problem:
        """One that points to that key."""
        return Problem(dotted(path), message, self.line_of(*path))

    @cached_property
    def services(self) -> Mapping[str, Any]:
        """By name, as they stand in the file."""
        found = self.data.get("services")
        return {str(name): service for name, service in found.items()} if isinstance(found, dict) else {}

    def comment_line(self, pattern: str) -> int | None:
        """The first line that is a comment and, without its `#`, begins like that regular expression."""
        for number, line in enumerate(self.text.splitlines(), 1):
            comment = _COMMENT.match(line)
            if comment and re.match(pattern, comment.group(1)):
                return number
        return None

    def _check_shape(self) -> None:
        self._check_keys((), self.data, TOP_KEYS, "of a compose file")
        services = self.data.get("services")
        if self.data and services is not None and not isinstance(services, dict):
            self.problems.append(self.problem(("services",), "must be a mapping of services"))
        for name, service in self.services.items():
            where: Path = ("services", name)
            if isinstance(service, Tagged):
                continue
            if not isinstance(service, dict):
                what = "is empty" if service is None else "must be a mapping"
                self.problems.append(self.problem(where, f"{what}; a service needs at least an image or a build"))
                continue
            self._check_keys(where, service, SERVICE_KEYS, "of a service")
            if isinstance(service.get("healthcheck"), dict):
                self._check_keys((*where, "healthcheck"), service["healthcheck"], HEALTH_KEYS, "of a health check")

    def _check_keys(self, where: Path, block: Mapping[str, Any], known: set[str], what: str) -> None:
        for key in block:
            if key not in known and not key.startswith("x-"):
                near = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self.problems.append(self.problem((*where, key), f"is no key {what}{hint}"))
