"""Blocks over xdist workers: a block is never split, its cells run back to back in one worker."""

from __future__ import annotations

import re
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

from pytest_staging.model.campaign import Campaign

_CELL_ID = re.compile(r"\[([^\[\]]*)\]$")


def cell_id_of(nodeid: str) -> str | None:
    """What stands in the brackets at the end of a node id."""
    found = _CELL_ID.search(nodeid)
    return found[1] if found else None


class BlockScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """xdist's own scope scheduling with the block as the scope.

    Three things differ: the campaign's order is kept (xdist would put larger scopes first); the item on which a worker
    died is not run again: its test has failed already, and a second result would contradict the first; and no worker is
    left waiting with a single item, the rest of a dead one's block.
    """

    def __init__(self, config: pytest.Config, log: Any, campaign: Campaign) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False
        self._blocks = {cell.cell_id: cell.block_id for cell in campaign.cells}

    def _split_scope(self, nodeid: str) -> str:
        return self._blocks.get(cell_id_of(nodeid) or "") or super()._split_scope(nodeid)

    def _reschedule(self, node: Any) -> None:
        super()._reschedule(node)
        # A worker begins an item only when it knows the one after it, or that there is none.
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def remove_node(self, node: Any) -> str | None:
        workload = self.assigned_work.pop(node)
        pending: list[tuple[str, str]] = [
            (scope, nodeid) for scope, unit in workload.items() for nodeid, done in unit.items() if not done
        ]
        if not pending:
            return None
        crashed = pending[0][1]
        for scope, nodeid in reversed(pending[1:]):
            self.workqueue.setdefault(scope, {})
            self.workqueue[scope] = {nodeid: False, **self.workqueue[scope]}
            self.workqueue.move_to_end(scope, last=False)
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed
