"""The nearest valid name, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 12


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None when none is near."""
    found = difflib.get_close_matches(name, sorted(known), 1, 0.5)
    return found[0] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing."""
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""


def listed(known: Iterable[str]) -> str:
    """The known names in order, the first dozen of many; `none` when there are none."""
    names = sorted(known)
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"
