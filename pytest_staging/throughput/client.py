"""The API's client for commands and campaigns: one request each, with a deadline. And TTLs as people write them."""

from __future__ import annotations

import re
import ssl
from typing import Any

from pytest_staging.deadline import Deadline
from pytest_staging.model.errors import PolicyRefused, PolicyUnreachable, UsageProblem
from pytest_staging.throughput.access import is_loopback

BASE = "/workflows/throughput-policy"
MAX_ANSWER_BYTES = 4 << 20
FIELDS = (
    "requested_preset", "active_preset", "policy_active", "queue_pressure_level", "fail_safe", "fail_safe_reason",
    "sustained_seconds", "sustained_seconds_required", "cooldown_remaining_seconds", "class_states", "queue_states",
)  # fmt: skip
UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_ttl(text: str) -> float:
    """Seconds of `90s`, `20m`, `2h`. Raises UsageProblem."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smh])", text.strip(), re.ASCII)
    if not found or float(found[1]) == 0:
        raise UsageProblem(f"--ttl {text}: write a number and its unit: 90s, 20m or 2h.")
    return float(found[1]) * UNITS[found[2]]


class PolicyClient:
    """`base_url` is that of the API, such as http://127.0.0.1:8642. The token stands in no message."""

    def __init__(self, base_url: str, token: str | None = None, timeout_s: float = 5.0) -> None:
        """Raises UsageProblem for what is no such URL, and for a token that would go out in the clear."""
        import httpx

        try:
            url = httpx.URL(base_url)
            url.raw_host.decode().encode("idna")  # as the resolver does, which knows no other names
            port = 80 if url.port is None else url.port
            good = url.scheme in ("http", "https") and url.host and not url.userinfo and 1 <= port <= 65535
        except (httpx.InvalidURL, ValueError):  # of which UnicodeError is one
            good = False
        if not good:
            raise UsageProblem(f"--api-base {base_url}: is no http or https URL such as http://127.0.0.1:8642.")
        if token and url.scheme == "http" and not is_loopback(url.host):
            raise UsageProblem(f"--api-base {base_url}: the token would be sent in the clear. Use https.")
        if token and not (token.isascii() and token.isprintable()):
            raise UsageProblem("the token holds something that no HTTP header can hold.")
        self.base_url = base_url.rstrip("/")
        self._token, self._timeout_s, self._secure = token, timeout_s, url.scheme == "https"

    def status(self) -> dict[str, Any]:
        """The published status. As every call: raises PolicyUnreachable or PolicyRefused."""
        status = self._call("GET", "status")
        if missing := [name for name in FIELDS if name not in status]:
            raise PolicyUnreachable(f"what answers at {self.base_url} is no policy API: it tells no {missing[0]}.")
        return status

    def requested(self) -> dict[str, Any]:
        """The preset that is set, and the one before it."""
        return self._call("GET", "preset")

    def override(self) -> dict[str, Any]:
        """The override in force."""
        return self._call("GET", "override")

    def set_preset(self, preset: str) -> dict[str, Any]:
        """Sets the preset."""
        return self._call("PUT", "preset", {"preset": preset})

    def set_override(self, preset: str, ttl_s: float | None, why: str = "") -> dict[str, Any]:
        """A preset for a time; without one, the policy's default."""
        return self._call("PUT", "override", {"preset": preset, "ttl_seconds": ttl_s, "reason": why})

    def clear_override(self) -> dict[str, Any]:
        """Ends the override."""
        return self._call("DELETE", "override")

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        import httpx

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        deadline = Deadline()
        try:
            with (
                deadline.within(self._timeout_s, self._silent(f"timed out after {self._timeout_s:g} s")),
                httpx.Client(timeout=self._timeout_s, trust_env=False, verify=self._trust()) as client,
                client.stream(
                    method, f"{self.base_url}{BASE}/{path}", json=body, headers=headers, extensions=deadline.extensions
                ) as response,
            ):
                content = bytearray()
                for chunk in response.iter_raw():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise PolicyUnreachable(f"{self.base_url} answers without end; is that the policy API?")
                return self._read(response.status_code, bytes(content))
        except httpx.HTTPError as error:
            raise self._silent(str(error) or type(error).__name__) from error

    def _trust(self) -> ssl.SSLContext | bool:
        # Made only where it is needed: reading the certificates of the system takes longer than the request.
        return ssl.create_default_context() if self._secure else False

    def _silent(self, why: str) -> PolicyUnreachable:
        return PolicyUnreachable(
            f"no policy API answers at {self.base_url}: {why}. "
            "Start it with `staging-manager policy serve`, or name another with --api-base."
        )

    def _read(self, status: int, content: bytes) -> dict[str, Any]:
        import json

        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise PolicyUnreachable(f"what answers at {self.base_url} is no policy API (status {status}).")
        if status == 200:
            return answer
        detail = str(answer.get("detail"))[:500]
        if status in (401, 403):
            raise PolicyUnreachable(
                f"{self.base_url} refuses: {detail}. Name another token: --token-file FILE, or STAGING_POLICY_TOKEN."
            )
        if status == 422:
            raise PolicyRefused(f"{self.base_url} refuses: {detail}")
        raise PolicyUnreachable(f"{self.base_url} answered {status}: {detail}")
