"""What a provider of hosts has to offer. Another one is one module, and a line in `obtaining.PROVIDERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pytest_staging.model.inventory import HostSpec

Say = Callable[[str], None]
"""Takes one sentence for the person who waits; any thread may call it."""


class HostProvider(Protocol):
    """Gives hosts for a while. Its calls for several hosts may come at once, from threads."""

    def obtain(self, name: str, host: HostSpec) -> HostSpec:
        """The host as one that SSH reaches now: made, started, or just as it was given.

        Has a deadline. Raises a StagingError and leaves nothing behind, also when it is told to stop half way.
        """

    def release(self, name: str, host: HostSpec) -> None:
        """Takes away what `obtain` made, unless `host` says that it is kept. No error for what was not obtained."""

    def find(self, name: str, host: HostSpec) -> HostSpec | None:
        """As `obtain`, without making, starting or waiting for anything: None for what is not there now."""
