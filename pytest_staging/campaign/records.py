"""A campaign's results on disk: one writer journals cells as they come; attempts are kept; looks are decided once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from pytest_staging import durable, store
from pytest_staging.campaign.comparing import conclude, look_is_complete
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.model.errors import WorkspaceError


class Journal:
    """Cells' summaries on disk and in memory. A finished result stands until a later attempt at its cell has one."""

    def __init__(self, folder: Path, campaign: Campaign, retry_failed: bool = False) -> None:
        self.folder = folder
        self.campaign = campaign
        found = {summary.cell.cell_id: summary for summary in store.load_summaries(folder, campaign)}
        self.summaries: dict[str, CellSummary] = {
            cell_id: summary for cell_id, summary in found.items() if summary.passed or not retry_failed
        }
        self._to_retry = {cell_id: one for cell_id, one in found.items() if cell_id not in self.summaries}
        self._decided: set[int] = set()

    def record(self, summary: CellSummary) -> Path | None:
        """Writes the summary; None when the cell has its result already (a crashed worker may report twice)."""
        cell_id = summary.cell.cell_id
        known = self.summaries.get(cell_id)
        if known is not None and summary.attempt <= known.attempt:
            return None
        path = store.save_summary(self.folder, summary)
        self.summaries[cell_id] = summary
        return path

    def finished(self) -> list[CellSummary]:
        """What stands on disk, in the campaign's order: also a failure whose second try has not begun."""
        standing = {
            cell_id: summary
            for cell_id, summary in self._to_retry.items()
            if (self.folder / summary.cell.folder / "cell-summary.json").is_file()
        }
        known = {**standing, **self.summaries}
        return [known[cell.cell_id] for cell in self.campaign.cells if cell.cell_id in known]

    def decide_looks(self, benchmark: Benchmark) -> None:
        """Writes the decision of every look that is complete; workers wait for these files.

        What an earlier session decided is decided anew, once: a cell that failed then may be tried again now.
        """
        for look in self.campaign.looks:
            if look in self._decided:
                continue
            path = look_path(self.folder, look)
            if not look_is_complete(self.campaign, self.summaries, look):
                if path.exists():
                    durable.remove(path)
                continue
            conclusion = conclude(self.campaign, benchmark, self.summaries)
            stop = conclusion.stopped is not None and conclusion.runs <= look
            store.write_json(path, {"look": look, "stop": stop, "reason": conclusion.stopped or "not concluded yet"})
            self._decided.add(look)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One session at a time writes into a campaign. Raises WorkspaceError when another one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder / ".lock"))
    with durable.storing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # inside, because it is an OSError too
            raise WorkspaceError(
                f"campaign {folder.name} is being run by another process. Let it finish first."
            ) from error
    try:
        yield
    finally:
        lock.release()


def look_path(folder: Path, look: int) -> Path:
    """Where the decision of a look stands."""
    return folder / "looks" / f"look-{look:03d}.json"


def read_look(folder: Path, look: int) -> bool | None:
    """Whether the campaign stops at this look; None while that is not decided."""
    path = look_path(folder, look)
    return bool(store.read_json(path, "look")["stop"]) if path.is_file() else None


def unmeasured(campaign: Campaign, benchmark: Benchmark, cell: Cell, attempt: int, reason: str) -> CellSummary:
    """A failed attempt that could not report for itself: its worker died, or it was cut off from outside."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return CellSummary(
        campaign_id=campaign.campaign_id,
        run_index=cell.run_index,
        version_slug=cell.version_slug,
        platform_mode=cell.platform_mode,
        attempt=attempt,
        outcome="failed",
        started_at=now,
        finished_at=now,
        reason=reason,
        metrics=dict.fromkeys(benchmark.metrics),
        benchmark_sha256=campaign.benchmark_sha256,
        smoke=campaign.smoke,
    )


def sweep(folder: Path) -> None:
    """Removes temporary files that a killed writer left behind."""
    for path in [*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp"), *folder.glob("runs/*/*/.*.tmp")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def keep_lost_attempt(folder: Path, summary: CellSummary) -> None:
    """What a host that went away left of an attempt is kept with the attempts; the cell is still to be measured."""
    store.save_summary(folder, summary)
    prepare_attempt(folder, summary.cell)


def read_host(folder: Path, cell: Cell) -> str | None:
    """Name of the host that a passed cell was measured on; None when it has no result."""
    path = folder / cell.folder / "cell-summary.json"
    if not path.is_file():
        return None
    summary = store.parse_summary(store.read_json(path, "cell summary"), str(path))
    return str(summary.host.get("name")) if summary.passed else None


def count_attempts(folder: Path, cell: Cell) -> int:
    """How many earlier attempts at the cell are kept."""
    attempts = folder / cell.folder / "attempts"
    return sum(not path.name.startswith(".") for path in attempts.iterdir()) if attempts.is_dir() else 0


def prepare_attempt(folder: Path, cell: Cell) -> int:
    """Moves what an earlier attempt at the cell left into attempts/NN, and gives this attempt's number, from 1.

    Cut off anywhere it goes on the next time: the folder has a fixed name until everything is in it.
    """
    home = folder / cell.folder
    attempts = home / "attempts"
    number = count_attempts(folder, cell) + 1
    moving = attempts / f".{number:02d}.moving"
    left = [path for path in home.iterdir() if path != attempts] if home.is_dir() else []
    if not left and not moving.is_dir():
        return number
    with durable.storing(home):
        moving.mkdir(parents=True, exist_ok=True)
        for path in left:
            durable.on_step("moving", path)
            path.rename(moving / path.name)
        durable.on_step("moved", moving)
        moving.rename(attempts / f"{number:02d}")
        durable.sync_folder(attempts)
    return number + 1
