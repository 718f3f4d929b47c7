"""Holds a place's lease with a service under it until its input ends. usage: holding.py FOLDER ACT PLACE [ID ...]"""

from __future__ import annotations

import sys
from pathlib import Path

from places import PLACES


def main(folder: str, act: str, name: str, *images: str) -> None:
    place = PLACES[name](*images)
    target = place.make_target()
    with target.lease("campaign first", 20):
        service = target.deploy(place.deployment(Path(folder), act))
        print(service.base_url, flush=True)
        sys.stdin.read()


main(*sys.argv[1:])
