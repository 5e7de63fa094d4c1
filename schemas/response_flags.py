"""Envoy's response flags, and the outcome of a request that has one: `response_flags.csv`, read by Python and by Java.

Columns: the short form (`%RESPONSE_FLAGS%`), the long form (`%RESPONSE_FLAGS_LONG%`), the outcome whatever the response
code is (empty: the code decides), and when Envoy sets the flag. Source of the list and the meanings: Envoy's
documentation of access logging, command operator `%RESPONSE_FLAGS%`; a test holds it to the installed Envoy's own list.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

FILE = Path(__file__).parent / "response_flags.csv"
"""The table. It is also a resource of the jar of Flink functions."""

Outcome = Literal["ok", "errors_4xx", "errors_5xx", "aborted", "rate_limited"]
"""How a request ended: each has one (jobs/logic/outcome.py)."""
FlagOutcome = Literal["rate_limited", "aborted", "errors_5xx"]


class ResponseFlag(NamedTuple):
    """One flag of Envoy's. outcome: None where the response code decides."""

    short: str
    long: str
    outcome: FlagOutcome | None
    occurs_when: str


def _read() -> tuple[ResponseFlag, ...]:
    known: Mapping[str, FlagOutcome | None] = {name: name for name in get_args(FlagOutcome)} | {"": None}
    with FILE.open(encoding="utf-8", newline="") as file:
        _header, *rows = csv.reader(file)
    return tuple(ResponseFlag(short, long, known[outcome], when) for short, long, outcome, when in rows)


RESPONSE_FLAGS = _read()
"""Every flag, in Envoy's order."""

OUTCOME_OF_FLAG: Mapping[str, FlagOutcome] = MappingProxyType(
    {
        name: flag.outcome
        for flag in RESPONSE_FLAGS
        if flag.outcome is not None
        for name in (flag.short, flag.long)
    }
)
"""Short and long forms to the outcome that they decide; a flag that isn't there leaves it to the code."""
