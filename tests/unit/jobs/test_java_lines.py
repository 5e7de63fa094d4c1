"""The job's reader of lines, in Java, against the tables that the Python readers are held against."""

from __future__ import annotations

from tests.support.envelopes import ENVELOPES
from tests.support.java_lines import read_in_java
from tests.support.lines import line
from tests.support.times import TIMES


def test_times_and_envelopes_are_read_as_in_python() -> None:
    timed = [line(start_time=given, duration=0).encode() for given, _ in TIMES]
    read = read_in_java([*timed, *(wrapped for wrapped, _ in ENVELOPES)])
    for (given, at_ms), found in zip(TIMES, read, strict=False):
        if at_ms is None:
            assert (found.kind, found.reason.partition(":")[0]) == (2, "start_time"), given
        else:
            assert (found.kind, found.event_ms) == (0, at_ms), given
    named = read[TIMES.index(("soon", None))]
    assert (
        named.reason
        == "start_time: 'soon' is neither RFC 3339 with an offset nor an epoch number in s, ms, µs or ns"
    )
    for (wrapped, counted), found in zip(ENVELOPES, read[len(TIMES) :], strict=True):
        assert (found.kind == 0) == counted, (wrapped, found)
