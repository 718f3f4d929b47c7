"""Obtains the host vm-1 and says so, in a program of its own that may be interrupted. usage: obtaining_vm.py KEY"""

from __future__ import annotations

import sys

from pytest_staging.lifecycle.obtaining import obtained
from pytest_staging.model.inventory import HostSpec, Lifecycle


def main(key: str) -> None:
    with obtained({"vm-1": HostSpec(key=key, lifecycle=Lifecycle.MULTIPASS)}):
        print("obtained", flush=True)
        sys.stdin.read()


try:
    main(*sys.argv[1:])
except KeyboardInterrupt:
    sys.exit(130)
