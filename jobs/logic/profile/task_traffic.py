"""The requests of one task, or of one of its versions, in the last minutes, and which seconds are complete.

Slots of SLOT_SECONDS, aligned to the epoch, hold older seconds; the newest seconds are held singly, since a window ends
with the newest complete second. A second counts once, however often its row comes.
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
"""The age at which a second is merged into its slot."""
SETTLE_MS = 1000
"""The time within which the rows of all tasks for a second arrive."""
_SURELY_MS = 3000
"""A second that is older than the newest one by this is complete, also during a catch-up."""


@dataclass
class Slot:
    """The requests of some seconds. seconds: a bitmap of the slot's seconds."""

    requests: int = 0
    limited: int = 0
    failed: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    seconds: int = 0

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add those of a service-metrics row, as parsed JSON."""
        # All fields are read before any is added: an incomplete row has no effect.
        requests, limited, failed = row["requests"], row["rate_limited"], row["errors_5xx"] + row["aborted"]
        self.latencies.add_row(row)
        self.requests += requests
        self.limited += limited
        self.failed += failed

    def add(self, other: Slot) -> None:
        """Add those of another slot."""
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
        """The ratio of failed and aborted requests; 0 without requests."""
        return self.failed / self.requests if self.requests else 0.0


@dataclass
class Traffic:
    """Aggregates seconds into windows. Moments are epoch, in ms."""

    slots: dict[int, Slot] = field(default_factory=dict)
    singles: dict[int, Slot] = field(default_factory=dict)

    def add_row(self, start_ms: int, row: Mapping[str, Any]) -> None:
        """Add the row of a second. Raises KeyError, TypeError or ValueError for an invalid row."""
        slot_ms = start_ms // SLOT_MS * SLOT_MS
        bit = 1 << (start_ms - slot_ms) // 1000
        slot = self.slots.get(slot_ms)
        if slot is not None and slot.seconds & bit:
            return
        single = Slot(seconds=bit)
        single.add_row(row)
        self.singles[start_ms] = single

    def forget(self, end_ms: int, kept_ms: int) -> None:
        """Drop what began more than kept_ms before end_ms, the end of the newest second."""
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
        """Whether there are no requests."""
        return not self.slots and not self.singles


@dataclass
class SecondsObserved:
    """The observed seconds of all tasks.

    settle_ms: the time after its first row at which a second is complete. first_end_ms: the end of the first second;
    at_ms: when the newest row arrived, by this machine's clock. None: no second yet.
    """

    settle_ms: int = SETTLE_MS
    first_end_ms: int | None = None
    at_ms: int | None = None
    _newest_ms: int = 0
    _whole_ms: int | None = None
    _coming: deque[tuple[int, int]] = field(default_factory=deque)

    def observe(self, end_ms: int, now_ms: int) -> None:
        """Add the end of a row's second."""
        if self.first_end_ms is None:
            self.first_end_ms = end_ms
        if end_ms > self._newest_ms:
            self._newest_ms = end_ms
            self._coming.append((end_ms, now_ms))
        self.at_ms = max(now_ms, self.at_ms or 0)

    def whole_ms(self, now_ms: int) -> int | None:
        """The end of the newest second for which all tasks' rows have arrived; None without one."""
        while self._coming and self._coming[0][1] + self.settle_ms <= now_ms:
            self._whole_ms, _ = self._coming.popleft()
        if self.first_end_ms is None or self._newest_ms - _SURELY_MS < self.first_end_ms:
            return self._whole_ms
        return max(self._whole_ms or 0, self._newest_ms - _SURELY_MS)
