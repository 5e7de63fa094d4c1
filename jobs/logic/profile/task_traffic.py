"""The requests of one task, or of one of its versions, in the last minutes, and which seconds are whole by now.

Slots of SLOT_SECONDS, aligned to the epoch, hold what is some seconds old; the newest seconds are held singly, since
a window ends with the newest second that is whole. A second counts once, however often its row comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.jobs.logic.latency import Latencies

SLOT_SECONDS = 5
SLOT_MS = SLOT_SECONDS * 1000
_SINGLE_MS = 4000
"""So old a second becomes part of its slot."""
SETTLE_MS = 1000
"""A second's rows come one after the other, those of all tasks within this time."""
_SURELY_MS = 3000
"""What is so much older than the newest second is whole, also where much is read at once."""


@dataclass
class Slot:
    """The requests of some seconds. seconds: which of the slot's, a bit each."""

    requests: int = 0
    limited: int = 0
    failed: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    seconds: int = 0

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Those of a service-metrics row, as parsed JSON."""
        # All is read before anything is added: of a row that lacks a field nothing counts.
        requests, limited, failed = row["requests"], row["rate_limited"], row["errors_5xx"] + row["aborted"]
        self.latencies.add_row(row)
        self.requests += requests
        self.limited += limited
        self.failed += failed

    def add(self, other: Slot) -> None:
        """Those of another."""
        self.requests += other.requests
        self.limited += other.limited
        self.failed += other.failed
        self.latencies.add(other.latencies)
        self.seconds |= other.seconds

    @property
    def admitted(self) -> int:
        """Requests that were not rate limited."""
        return self.requests - self.limited

    @property
    def error_rate(self) -> float:
        """Failed and aborted ones of all; 0 without any."""
        return self.failed / self.requests if self.requests else 0.0


@dataclass
class Traffic:
    """Seconds in, windows out. Moments are epoch, in ms."""

    slots: dict[int, Slot] = field(default_factory=dict)
    singles: dict[int, Slot] = field(default_factory=dict)

    def add_row(self, start_ms: int, row: Mapping[str, Any]) -> None:
        """The row of a second. Raises KeyError, TypeError or ValueError for what is no such row."""
        slot_ms = start_ms // SLOT_MS * SLOT_MS
        bit = 1 << (start_ms - slot_ms) // 1000
        slot = self.slots.get(slot_ms)
        if slot is not None and slot.seconds & bit:
            return
        single = Slot(seconds=bit)
        single.add_row(row)
        self.singles[start_ms] = single

    def forget(self, end_ms: int, kept_ms: int) -> None:
        """end_ms: of the newest second. What began more than kept_ms before it is needed no more."""
        for start_ms in [start for start in self.singles if start < end_ms - _SINGLE_MS]:
            single = self.singles.pop(start_ms)
            self.slots.setdefault(start_ms // SLOT_MS * SLOT_MS, Slot()).add(single)
        for slot_ms in [start for start in self.slots if start < end_ms - kept_ms]:
            del self.slots[slot_ms]

    def between(self, first_ms: int, end_ms: int) -> Slot:
        """The requests from the beginning of a slot to the end of a second."""
        whole = Slot()
        for start_ms, slot in self.slots.items():
            if first_ms <= start_ms < end_ms:
                whole.add(slot)
        for start_ms, single in self.singles.items():
            if first_ms <= start_ms < end_ms:
                whole.add(single)
        return whole

    @property
    def empty(self) -> bool:
        """Nothing is known."""
        return not self.slots and not self.singles


@dataclass
class SecondsObserved:
    """Which seconds of any task have been heard here.

    settle_ms: so long after its first row a second is whole. first_end_ms: the end of the first one; at_ms: when the
    newest one came, by this machine's clock. None: none has come.
    """

    settle_ms: int = SETTLE_MS
    first_end_ms: int | None = None
    at_ms: int | None = None
    _newest_ms: int = 0
    _whole_ms: int | None = None
    _coming: deque[tuple[int, int]] = field(default_factory=deque)

    def observe(self, end_ms: int, now_ms: int) -> None:
        """A row has come of the second that ended so."""
        if self.first_end_ms is None:
            self.first_end_ms = end_ms
        if end_ms > self._newest_ms:
            self._newest_ms = end_ms
            self._coming.append((end_ms, now_ms))
        self.at_ms = max(now_ms, self.at_ms or 0)

    def whole_ms(self, now_ms: int) -> int | None:
        """The end of the newest second of which all tasks' rows have come; None while there is none."""
        while self._coming and self._coming[0][1] + self.settle_ms <= now_ms:
            self._whole_ms, _ = self._coming.popleft()
        if self.first_end_ms is None or self._newest_ms - _SURELY_MS < self.first_end_ms:
            return self._whole_ms
        return max(self._whole_ms or 0, self._newest_ms - _SURELY_MS)
