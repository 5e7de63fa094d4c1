"""The alerts to send to a target now: the newest state of each, repeated while it fires, and its end.

An unavailable target misses no alert: unacknowledged alerts are sent next, each only in its newest state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import to_epoch_ms

RESOLVED_FOR_MS = 15 * 60_000
"""How long the end of an alert is repeated, as in Prometheus: an unavailable target must not keep the alert."""


@dataclass
class Outbox:
    """The alerts of one target. resend_ms: the interval at which a firing alert is sent again."""

    resend_ms: int
    _rows: dict[str, AlertRow] = field(default_factory=dict)
    _sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    _fired: set[str] = field(default_factory=set)

    def put(self, row: AlertRow) -> None:
        """Add a row. Pending and silenced alerts are not sent; an end is sent to targets that got the beginning.

        An alert that is silenced while it fires is not sent again until the silence is over.
        """
        if row.state == "pending" or (row.state == "resolved" and row.fired_at is None):
            return
        if row.silenced and not (row.state == "resolved" and row.alert_key in self._fired):
            self._rows.pop(row.alert_key, None)
            return
        self._rows[row.alert_key] = row

    def due(self, now_ms: int) -> list[AlertRow]:
        """The alerts to send, in the order in which they fired."""
        self._forget(now_ms)
        found = [row for key, row in self._rows.items() if self._is_due(key, row, now_ms)]
        return sorted(found, key=lambda row: (row.fired_at or row.started_at, row.alert_key))

    def sent(self, rows: Iterable[AlertRow], now_ms: int) -> None:
        """Mark alerts that the target has acknowledged, or rejects for good."""
        for row in rows:
            self._sent[row.alert_key] = (_of(row), now_ms)
            self._fired.add(row.alert_key)

    def _is_due(self, key: str, row: AlertRow, now_ms: int) -> bool:
        before = self._sent.get(key)
        return before is None or before[0] != _of(row) or now_ms - before[1] >= self.resend_ms

    def _forget(self, now_ms: int) -> None:
        """Forget ends that the target has had for long enough, and outdated ones."""
        for key, row in list(self._rows.items()):
            if row.resolved_at is None:
                continue
            sent = key in self._sent and self._sent[key][0] == _of(row)
            over = now_ms - to_epoch_ms(row.resolved_at) > RESOLVED_FOR_MS
            if over and (sent or key not in self._fired):
                del self._rows[key]
                self._sent.pop(key, None)
                self._fired.discard(key)


def _of(row: AlertRow) -> str:
    """The identity of an alert's state, without its value: a firing alert with a new value is no new state."""
    return f"{row.id.rpartition('|')[0]}|{row.state}|{row.silenced}"
