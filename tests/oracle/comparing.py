"""Differences between rows that a job wrote and rows that the oracle expects, each as one readable text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tests.oracle.windows import PERCENTS, TIMES, Row

PERCENTILE_ERROR = 0.011
"""Relative, against the exact nearest rank: half a bucket of 2^(1/32) is 1.09 %."""
FLOAT_ERROR = 1e-9
PERCENTILES = frozenset(f"{time}_p{percent}_ms" for time in TIMES for percent in PERCENTS)


def compare(rows_from_job: Iterable[Row], rows_from_oracle: Mapping[str, Row]) -> list[str]:
    """One text for every difference; none means that the job's rows are right.

    A row may stand in `rows_from_job` more than once (at least once), but with the same values.
    """
    problems = []
    seen: dict[str, Row] = {}
    for row in rows_from_job:
        earlier = seen.setdefault(row["id"], row)
        if earlier is not row:
            problems += [f"written twice, differently: {text}" for text in _changed(earlier, row)]
    for name in sorted(rows_from_oracle.keys() - seen.keys()):
        problems.append(f"{name}: missing (oracle: {rows_from_oracle[name]['requests']} requests)")
    for name in sorted(seen.keys() - rows_from_oracle.keys()):
        problems.append(f"{name}: not expected (job: {seen[name].get('requests')} requests)")
    for name in sorted(seen.keys() & rows_from_oracle.keys()):
        extra = sorted(seen[name].keys() - rows_from_oracle[name].keys())
        problems += [f"{name}: {field}: not in the contract" for field in extra]
        problems += differences(name, seen[name], rows_from_oracle[name])
        problems += _out_of_order(name, seen[name])
    return problems


def differences(name: str, row: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """The fields of `expected` that `row` lacks or has with another value."""
    problems = []
    for field, value in expected.items():
        if field not in row:
            problems.append(f"{name}: {field}: missing, oracle {value!r}")
        elif not _agree(field, row[field], value):
            problems.append(f"{name}: {field}: job {row[field]!r}, oracle {value!r}")
    return problems


def _agree(field: str, found: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        tolerance = PERCENTILE_ERROR if field in PERCENTILES else FLOAT_ERROR
        return _is_number(found) and math.isclose(found, expected, rel_tol=tolerance)
    if field in PERCENTILES:  # null
        return found is expected
    # A count written as 3.0, or as true, would be another type for a consumer.
    return type(found) is type(expected) and bool(found == expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _out_of_order(name: str, row: Mapping[str, Any]) -> list[str]:
    problems = []
    for time in TIMES:
        fields = (f"{time}_min_ms", *(f"{time}_p{percent}_ms" for percent in PERCENTS), f"{time}_max_ms")
        values: list[Any] = [row.get(field) for field in fields]
        if all(_is_number(value) for value in values) and values != sorted(values):
            problems.append(f"{name}: out of order: {dict(zip(fields, values, strict=True))}")
    return problems


def _changed(earlier: Row, later: Row) -> list[str]:
    return [
        f"{later['id']}: {field}: first {earlier.get(field)!r}, then {later.get(field)!r}"
        for field in sorted(earlier.keys() | later.keys())
        if earlier.get(field) != later.get(field)
    ]
