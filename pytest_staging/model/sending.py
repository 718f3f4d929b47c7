"""The Protocol behind which the hosts live that send a load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from pytest_staging.model.ports import LoadCommand, LoadRequest, Process


class LoadSource(Protocol):
    """Generators that together send the load of one host. All is under their leases, which are taken in one order."""

    @property
    def names(self) -> Sequence[str]: ...

    def lease(self, holder: str, timeout_s: float) -> AbstractContextManager[None]:
        """Exclusive on every one. Raises LeaseTimeout, ConnectionLost naming the generator, HostUnreachable."""
        ...

    def placed(self, request: LoadRequest, folder: Path) -> LoadRequest:
        """The request with its places, with all their processes. `folder` holds the benchmark's files.

        Looks at clocks and ports. Raises ToolMissing, ConnectionLost naming the generator.
        """
        ...

    def start(self, load: LoadCommand, request: LoadRequest) -> Process:
        """Sends what is needed, starts every part at once, and brings the results here when it ends well.

        Raises as `placed`. The process raises LoadFailed, ConnectionLost and LeaseLost that name the generator.
        """
        ...

    def facts(self) -> Sequence[Mapping[str, Any]]:
        """What is known of each generator, for a cell's summary."""
        ...

    def close(self) -> None:
        """Ends the connections; the next use makes them again."""
        ...
