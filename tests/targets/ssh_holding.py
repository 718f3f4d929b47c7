"""Holds a lab host's lease under a program of its own until its input ends. usage: ssh_holding.py TTL WHERE ..."""

from __future__ import annotations

import sys

from places import ssh_spec

from pytest_staging.targets.ssh import SshTarget


def main(ttl_s: str, *where: str) -> None:
    target = SshTarget("lab", ssh_spec(*where), ttl_s=int(ttl_s))
    with target.lease("campaign first", 20):
        target.host.connection.start(["sleep", "300"], env=target.runner.marks())
        print("held", flush=True)
        sys.stdin.read()


main(*sys.argv[1:])
