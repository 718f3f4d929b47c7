"""Latencies that came as (value, count) pairs, without being written out: a sorted sequence in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from typing import Any, overload


class Histogram(Sequence[float]):
    """As long as all counts together. Raises ValueError when the values do not rise."""

    def __init__(self, pairs: Iterable[tuple[float, int]]) -> None:
        kept = [(value, times) for value, times in pairs if times]
        self._values = [value for value, _ in kept]
        self._ends = list(accumulate(times for _, times in kept))
        if any(lower >= higher for lower, higher in pairwise(self._values)):
            raise ValueError("the values of the histogram do not rise")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> list[float]: ...

    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._values[bisect_right(self._ends, place % len(self))]

    def __iter__(self) -> Iterator[float]:
        begun = 0
        for value, end in zip(self._values, self._ends, strict=True):
            yield from repeat(value, end - begun)
            begun = end

    def __eq__(self, other: Any) -> bool:
        """Equal to any sequence of the same numbers, as a list is to a list."""
        same = isinstance(other, Sequence) and len(self) == len(other)
        return same and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
