"""The hosts that one process measures on: one is held at a time, and one that goes away is left for another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress

from pytest_staging.campaign.runner import CellRunner
from pytest_staging.model.errors import HOST_GONE, HostTaken, LeaseTimeout, NoHostLeft

POLL_S = 0.1


class HostPool:
    """`seats` in the order in which they are tried; `make_runner` connects to one. `holder` is who the lease names.

    `generator` leases this machine as what sends the load, for so many seconds at most; None where the host's own lease
    holds that. A host that generators load leases those instead.
    """

    def __init__(
        self,
        seats: Sequence[str],
        make_runner: Callable[[str], CellRunner],
        holder: str,
        generator: Callable[[float], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.seats = list(seats)
        self._make_runner = make_runner
        self._holder = holder
        self._generator = generator
        self._runners: dict[str, CellRunner] = {}
        self._lost: dict[str, str] = {}
        self._lease = ExitStack()
        self.held: str | None = None

    @property
    def has_alternatives(self) -> bool:
        """Whether a block can move to another host."""
        return len(self.seats) > 1

    def hold(self, preferred: str | None, timeout_s: float) -> CellRunner:
        """The runner on a leased host: the preferred one if it can be had. Raises NoHostLeft or LeaseTimeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            seats = self._in_order(preferred)
            if not seats:
                reasons = "; ".join(f"{seat}: {why}" for seat, why in self._lost.items())
                raise NoHostLeft(f"no host is left ({reasons}). What is finished is kept: resume when one is back.")
            for seat in seats:
                left_s = max(0.0, deadline - time.monotonic())
                with suppress(HostTaken):
                    runner = self._take(seat, 0.0 if len(seats) > 1 else left_s, left_s)
                    self._hold_generators(runner, max(0.0, deadline - time.monotonic()))
                    return runner
            time.sleep(POLL_S)

    def lose(self, why: str) -> None:
        """The held host is not tried again by this process."""
        if self.held is not None:
            self._lost[self.held] = why
        self.release()

    def release(self) -> None:
        """Gives the host back. A host that cannot be reached any more has a lease that runs out by itself."""
        self.held = None
        lease, self._lease = self._lease, ExitStack()
        with suppress(*HOST_GONE):
            lease.close()

    def _hold_generators(self, runner: CellRunner, timeout_s: float) -> None:
        """Always after the host, so that nobody waits for a host with a generator in hand."""
        try:
            if runner.generators:
                self._lease.enter_context(runner.generators.lease(self._holder, timeout_s))
            elif self._generator:
                self._lease.enter_context(self._generator(timeout_s))
        except HOST_GONE as error:
            # Without what loads it a host is of no use; others may have other generators.
            if not self.has_alternatives:
                self.release()
                raise
            self.lose(str(error))
            raise HostTaken from error
        except BaseException:
            self.release()
            raise

    def _in_order(self, preferred: str | None) -> list[str]:
        alive = [seat for seat in self.seats if seat not in self._lost]
        return sorted(alive, key=lambda seat: seat != preferred)

    def _take(self, seat: str, patience_s: float, left_s: float) -> CellRunner:
        try:
            runner = self._runners.get(seat) or self._make_runner(seat)
            self._runners[seat] = runner
            lease: AbstractContextManager[None] = runner.target.lease(self._holder, patience_s)
            self._lease.enter_context(lease)
        except LeaseTimeout as error:
            if left_s <= 0 or not self.has_alternatives:
                raise
            raise HostTaken from error
        except HOST_GONE as error:
            if not self.has_alternatives:
                raise
            self._lost[seat] = str(error)
            raise HostTaken from error
        self.held = seat
        return runner
