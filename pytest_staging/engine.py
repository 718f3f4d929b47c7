"""A Docker engine through its SDK: found as the docker client finds it, and its errors in our words.

Builders and targets share it. The SDK (extra `docker`) is imported at the first use.
"""

from __future__ import annotations

import json
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

from pytest_staging.model.errors import EngineLost, EngineMissing, EngineRefused, StagingError

CALL_TIMEOUT_S = 30.0
LABEL = "pytest-staging"
POOL_SIZE = 16
GONE = 404
ASKED_AT_ONCE = 4
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
LIMITS = {"CpuCfsQuota": "cpus", "MemoryLimit": "memory", "SwapLimit": "swap"}
ADVICE = "Start it (sudo systemctl start docker), or name another with DOCKER_HOST."


@dataclass(frozen=True)
class EngineFacts:
    """What an engine says about itself. `platform` is like linux/amd64; `limits` names what it can limit."""

    version: str
    platform: str
    cpus: int
    limits: tuple[str, ...] = ()


class Engine:
    """The engine that DOCKER_HOST names, or the docker client's current context, or the one at the usual socket.

    An engine that accepts a call and does not answer it within `timeout_s` counts as lost.
    """

    advice = ADVICE

    def __init__(self, address: str | None = None, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s

    @cached_property
    def client(self) -> Any:
        """The SDK's client, connected. Raises EngineMissing."""
        try:
            import docker
        except ImportError as error:
            raise EngineMissing(
                "the docker package is missing. Install it: pip install 'pytest-staging[docker]'"
            ) from error
        began = time.monotonic()
        try:
            _probe(self.address)
            client = docker.DockerClient(
                base_url=self.address,
                version="auto",
                timeout=self._timeout_s,
                max_pool_size=POOL_SIZE,
                use_ssh_client=True,
                tls=_tls_settings(),
            )
        except Exception as error:  # whatever the SDK, requests or a socket says: it does not answer
            missing = EngineMissing(f"no Docker engine answers at {self.shown}: {_first_line(error)}. {self.advice}")
            raise self.explained(missing, began) from error
        if self.is_local:
            # Nobody reaches a local engine through a proxy, and looking for one doubles the price of a small call.
            client.api.trust_env = False
        weakref.finalize(self, client.close)  # its pool leaves that to the garbage collector, which complains
        return client

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="engine")

    @cached_property
    def address(self) -> str:
        """Where it is looked for, e.g. unix:///var/run/docker.sock."""
        return self._address or os.environ.get("DOCKER_HOST") or _context_address() or "unix:///var/run/docker.sock"

    @property
    def shown(self) -> str:
        """Where it is, for people."""
        return self.address

    def explained(self, error: StagingError, began: float) -> StagingError:
        """What is raised for `error` of a call that began at that monotonic second: whoever knows more says it here."""
        return error

    @cached_property
    def facts(self) -> EngineFacts:
        """Raises EngineMissing or EngineLost."""
        with self.calling("version"):
            version, info = self.client.version(), self.client.info()
        return EngineFacts(
            version=str(version["Version"]),
            platform=f"{version['Os']}/{version['Arch']}",
            cpus=int(info["NCPU"]),
            limits=tuple(what for key, what in LIMITS.items() if info.get(key)),
        )

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine, as far as its address tells."""
        parts = urlsplit(self.address)
        return parts.scheme in ("unix", "http+unix", "npipe") or parts.hostname in LOOPBACK_NAMES

    def require_answer(self) -> None:
        """Raises EngineMissing when it does not answer now, also when it did a moment ago."""
        try:
            self.call("ping", self.client.api.ping)
        except EngineLost as error:
            raise EngineMissing(str(error)) from error

    def call(
        self, what: str, function: Callable[..., Any], *given: Any, accept: Sequence[int] = (), **named: Any
    ) -> Any:
        """What a call of the SDK returns; None when the engine refused it with an HTTP status of `accept`.

        Raises EngineMissing, EngineLost or EngineRefused.
        """
        from docker.errors import APIError

        with self.calling(what):
            try:
                return function(*given, **named)
            except APIError as error:
                if error.status_code in accept:
                    return None
                raise _refusal(what, error) from error

    @contextmanager
    def calling(self, what: str) -> Iterator[None]:
        """Translates what the SDK and the connection below it raise during `what`. NotFound passes: it is an answer.

        Raises EngineMissing, EngineLost or EngineRefused.
        """
        _ = self.client  # raises EngineMissing itself
        began = time.monotonic()
        import docker.errors
        import requests.exceptions
        import urllib3.exceptions

        lost = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)
        try:
            yield
        except docker.errors.NotFound:
            raise
        except docker.errors.APIError as error:
            raise _refusal(what, error) from error
        except (docker.errors.DockerException, *lost) as error:
            reason = _first_line(error)
            problem = EngineLost(f"the Docker engine at {self.shown} was lost ({what}): {reason}. {self.advice}")
            raise self.explained(problem, began) from error

    def image_id(self, ref: str) -> str | None:
        """The id that `ref` names now, or None."""
        facts = self.inspect_image(ref)
        return None if facts is None else str(facts["Id"])

    def image_ids(self, refs: Sequence[str]) -> dict[str, str | None]:
        """As `image_id` of each, asked for at the same time: most of it is waiting."""
        return dict(zip(refs, self._threads.map(self.image_id, refs), strict=True))

    def inspect_image(self, ref: str) -> dict[str, Any] | None:
        """The engine's own record of an image, or None when it has none. Raises EngineMissing or EngineLost."""
        ask = self._inspect_fast if self.address.startswith("unix:") else self.client.api.inspect_image
        found: dict[str, Any] | None = self.call(f"inspect image {ref}", ask, ref, accept=(GONE,))
        return found

    def _inspect_fast(self, ref: str) -> dict[str, Any]:
        """As the SDK's inspect_image at half its price, which is requests' own: a cache hit is three of these."""
        import urllib3

        api = self.client.api
        path = api._url("/images/{0}/json", ref).removeprefix(api.base_url)
        pool = api.get_adapter(api.base_url).get_connection(api.base_url, None)
        answer = pool.urlopen("GET", path, timeout=urllib3.Timeout(self._timeout_s), retries=False)
        if answer.status != HTTPStatus.OK:
            return cast(dict[str, Any], api.inspect_image(ref))  # which says in its own words what is wrong
        return cast(dict[str, Any], json.loads(answer.data))


def _refusal(what: str, error: Any) -> EngineRefused:
    reason = f"the Docker engine refused ({what}): {error.explanation or error}"
    return EngineRefused(reason, int(error.status_code or 0))


def _context_address() -> str | None:
    """The endpoint of the docker client's current context; None for the default one, or when there is none."""
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_current_context()
    except Exception:  # a broken ~/.docker/config.json: then there is no context to honour
        return None
    host = getattr(context, "Host", None) if context is not None and context.name != "default" else None
    return str(host) if host else None


def _tls_settings() -> Any:
    """As the docker client: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    from docker.utils import kwargs_from_env

    return kwargs_from_env().get("tls", False)


def _probe(address: str) -> None:
    """The SDK never closes a socket whose connect failed, and wraps the reason four times."""
    parts = urlsplit(address)
    if parts.scheme in ("unix", "http+unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(parts.path)


def _first_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0][:300]
