"""Brings an image from the engine that built it to a host's engine, when that has none of its id.

What runs on a host is so the very image that was built here, and what a cell says about it holds for all hosts. The id
is a digest of the image's configuration and, by that, of all its files: one that arrives half has no such id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pytest_staging.engine import Engine
from pytest_staging.model.building import Image
from pytest_staging.model.errors import RemoteFailed, ServiceFailed
from pytest_staging.ssh.host import Host
from pytest_staging.targets.containers import image_gone

SHIP_DEADLINE_S = 600.0
CHUNK_BYTES = 256 << 10
# $1 image, $2 the work directory that the host's slots share, $3 seconds. Who waited for another slot's shipping has
# nothing left to do. The list tells `hosts clean` what to remove. `docker load` holds the lock until it ends.
_LOAD = r"""
umask 077; exec 9>>"$2/shipping.lock" && flock -w "$3" 9 || { echo "$2/shipping.lock is held" >&2; exit 1; }
! docker image inspect "$1" >/dev/null 2>&1 </dev/null || exit 0
grep -qsxF "$1" "$2/images" || echo "$1" >>"$2/images" || exit 1
exec docker load --quiet
"""


def ship_image(
    image: Image,
    source: Engine,
    host: Host,
    destination: Engine,
    names: Mapping[str, str] = MappingProxyType({}),
    deadline_s: float = SHIP_DEADLINE_S,
) -> bool:
    """Makes `destination`, the engine of `host`, have the image of that id; says whether it had to be sent.

    `names` are those of `image_gone`.
    It is streamed: neither side holds more than some megabytes of it. Raises ServiceFailed for an image that is gone or
    made for another platform, RemoteFailed (no space), EngineLost, EngineMissing, ConnectionLost.
    """
    if destination.image_id(image.id) == image.id:
        return False
    facts = source.inspect_image(image.id)
    if facts is None:
        raise image_gone(image, names)
    _require_platform(image, facts, host, destination)
    folder = re.sub(r"/slot-\d+$", "", host.root)
    arguments = (image.id, folder, str(int(deadline_s)))
    result = host.connection.run_script(_LOAD, *arguments, deadline_s=deadline_s, feed=_saved(source, image.id))
    result.require(f"loading the image {image.ref}")
    if destination.image_id(image.id) != image.id:
        raise RemoteFailed(
            f"{host.name}: the engine took the image {image.ref}, and does not know it as {image.id}. Let it keep "
            "images as the engine here does: containerd-snapshotter in /etc/docker/daemon.json. "
            f"It said: {_said(result.stdout)}"
        )
    return True


def _require_platform(image: Image, facts: dict[str, Any], host: Host, destination: Engine) -> None:
    made_for, has = f"{facts['Os']}/{facts['Architecture']}", destination.facts.platform
    if made_for != has:
        raise ServiceFailed(
            f"the image {image.ref} is made for {made_for}, and the engine of {host.name} is {has}. Build on a machine "
            "of the hosts' kind, or take hosts of this one's."
        )


def _saved(source: Engine, image_id: str) -> Iterator[bytes]:
    """As `docker save` writes it. Not the SDK's own stream, which keeps the connection when it is left half way."""
    with source.calling(f"save image {image_id[:19]}"):
        api = source.client.api
        with api.get(f"{api.base_url}/images/{image_id}/get", stream=True, timeout=SHIP_DEADLINE_S) as answer:
            answer.raise_for_status()
            yield from answer.iter_content(CHUNK_BYTES)


def _said(output: bytes) -> str:
    return output.decode(errors="replace").strip() or "nothing"
