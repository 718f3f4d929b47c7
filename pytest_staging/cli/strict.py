"""A parser that says of an unknown flag which ones there are, the nearest first."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any


class StrictParser(argparse.ArgumentParser):
    """For commands of which a mistyped flag may cost somebody a night: it ends with exit code 2."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        for one in unknown:
            if one.startswith("-"):
                flag = one.partition("=")[0]
                self.error(f"there is no flag {flag}. Known: {', '.join(_nearest_first(flag, self._flags()))}")
            self.error(f"{one!r} is one argument too many")
        return found, unknown

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]


def _nearest_first(flag: str, flags: list[str]) -> list[str]:
    near = difflib.get_close_matches(flag, flags, len(flags) or 1, 0.0)
    return near + [one for one in flags if one not in near]
