"""Which alerts a target is sent, and when."""

from __future__ import annotations

from tests.support.signal_rows import START_MS, alert
from tidegate.jobs.logic.alerts.outbox import RESOLVED_FOR_MS, Outbox
from tidegate.schemas.timestamps import from_epoch_ms


def reported(outbox: Outbox, second: int) -> list[str]:
    """The states that are sent at this second; the target takes them."""
    now_ms = START_MS + 1000 * second
    due = outbox.due(now_ms)
    outbox.sent(due, now_ms)
    return [row.state for row in due]


def test_a_flapping_series_is_few_messages() -> None:
    """What is sent for an alert that is published each second for ten minutes: once at first, then each minute."""
    outbox, sent = Outbox(60_000), 0
    for second in range(600):
        outbox.put(alert("firing", observed_at=from_epoch_ms(START_MS + 1000 * second)))
        sent += len(reported(outbox, second))
    assert sent == 10


def test_what_is_silenced_while_it_fires_is_sent_again_after_the_silence() -> None:
    outbox = Outbox(60_000)
    outbox.put(alert("firing"))
    assert reported(outbox, 0) == ["firing"]
    outbox.put(alert("firing", silenced=True))
    assert [reported(outbox, second) for second in (60, 120, 180)] == [[], [], []]
    outbox.put(alert("firing"))
    assert reported(outbox, 181) == ["firing"]


def test_the_end_of_what_was_reported_is_reported_even_in_a_silence() -> None:
    outbox = Outbox(60_000)
    outbox.put(alert("firing"))
    assert reported(outbox, 0) == ["firing"]
    outbox.put(alert("firing", silenced=True))
    outbox.put(alert("resolved", silenced=True))
    assert reported(outbox, 61) == ["resolved"]
    assert reported(outbox, 61 + RESOLVED_FOR_MS // 1000) == []


def test_of_what_began_in_a_silence_nothing_is_reported() -> None:
    outbox = Outbox(60_000)
    outbox.put(alert("firing", silenced=True))
    outbox.put(alert("resolved", silenced=True))
    assert reported(outbox, 61) == []
