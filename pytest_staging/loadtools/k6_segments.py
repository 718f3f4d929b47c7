"""How several k6 share one load: execution segments, and files of their own."""

from __future__ import annotations

from pathlib import PurePath


def segment_options(number: int, processes: int) -> list[str]:
    """Of the process `number` (from 0): k6 itself shares out users and iterations, no one twice and none never."""
    if processes == 1:
        return []
    ends = ["0", *(f"{end}/{processes}" for end in range(1, processes)), "1"]
    segment = f"{ends[number]}:{ends[number + 1]}"
    return ["--execution-segment", segment, "--execution-segment-sequence", ",".join(ends)]


def share_name(name: str, number: int, processes: int) -> str:
    """`k6-points-2.json` is the file of the third of several; a single process has plain `k6-points.json`."""
    path = PurePath(name)
    return name if processes == 1 else f"{path.stem}-{number}{path.suffix}"
