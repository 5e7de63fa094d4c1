"""Which alerts have to be sent to a target now: the newest state of each, again while it fires, and its end.

A target that is away misses no alert: what it hasn't taken is what is sent next, and of an alert only its newest state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import to_epoch_ms

RESOLVED_FOR_MS = 15 * 60_000
"""So long the end of an alert is sent again, as Prometheus does: a target that was away must not keep it for ever."""


@dataclass
class Outbox:
    """What one target has been sent. resend_ms: how often a firing alert is sent again."""

    resend_ms: int
    _rows: dict[str, AlertRow] = field(default_factory=dict)
    _sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    _fired: set[str] = field(default_factory=set)

    def put(self, row: AlertRow) -> None:
        """Take in a row. Pending and silenced ones are for people who look; an end goes where the beginning went.

        What is silenced while it fires isn't sent again until the silence is over.
        """
        if row.state == "pending" or (row.state == "resolved" and row.fired_at is None):
            return
        if row.silenced and not (row.state == "resolved" and row.alert_key in self._fired):
            self._rows.pop(row.alert_key, None)
            return
        self._rows[row.alert_key] = row

    def due(self, now_ms: int) -> list[AlertRow]:
        """What has to be sent, in the order in which the alerts fired."""
        self._forget(now_ms)
        found = [row for key, row in self._rows.items() if self._is_due(key, row, now_ms)]
        return sorted(found, key=lambda row: (row.fired_at or row.started_at, row.alert_key))

    def sent(self, rows: Iterable[AlertRow], now_ms: int) -> None:
        """The target has taken these, or will never take them."""
        for row in rows:
            self._sent[row.alert_key] = (_of(row), now_ms)
            self._fired.add(row.alert_key)

    def _is_due(self, key: str, row: AlertRow, now_ms: int) -> bool:
        before = self._sent.get(key)
        return before is None or before[0] != _of(row) or now_ms - before[1] >= self.resend_ms

    def _forget(self, now_ms: int) -> None:
        """Ends that the target has had for long enough, and those that are old news."""
        for key, row in list(self._rows.items()):
            if row.resolved_at is None:
                continue
            told = key in self._sent and self._sent[key][0] == _of(row)
            over = now_ms - to_epoch_ms(row.resolved_at) > RESOLVED_FOR_MS
            if over and (told or key not in self._fired):
                del self._rows[key]
                self._sent.pop(key, None)
                self._fired.discard(key)


def _of(row: AlertRow) -> str:
    """What makes a state another one: that a firing alert's value changes is no news."""
    return f"{row.id.rpartition('|')[0]}|{row.state}|{row.silenced}"
