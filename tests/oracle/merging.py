"""The laws between rows, whoever wrote them: a minute is its seconds, a group is its children."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from tests.oracle.comparing import differences
from tests.oracle.windows import LEVELS, TIMES, Row

COUNTS = (
    *("requests", "latency_count", "first_byte_count", "upgraded"),
    *("errors_4xx", "errors_5xx", "aborted", "rate_limited"),
)
SUMS = (*COUNTS, "bytes_received", "bytes_sent")
NULLABLE_SUMS = ("input_tokens", "output_tokens", "retries")
LATENCY_FIELDS = (
    *("latency_count", "latency_avg_ms", "latency_min_ms", "latency_max_ms", "histogram"),
    *(
        "first_byte_count",
        "first_byte_avg_ms",
        "first_byte_min_ms",
        "first_byte_max_ms",
        "first_byte_histogram",
    ),
    "exemplar",
)
"""What follows from the rows of the replicas alone."""


def merged(rows: Iterable[Row]) -> Row:
    """What follows from rows alone: counts, sums, extremes, means, flags, apdex, histograms, the slowest request."""
    parts = list(rows)
    flags: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for row in parts:
        flags.update(row["response_flags"])
        statuses.update(row["grpc_status"])
    exemplars = [row["exemplar"] for row in parts if row["exemplar"] is not None]
    total: Row = {field: sum(row[field] for row in parts) for field in SUMS}
    return total | {
        **{
            name: value
            for time in TIMES
            for name, value in {
                f"{time}_avg_ms": _weighted((row[f"{time}_avg_ms"], row[f"{time}_count"]) for row in parts),
                f"{time}_min_ms": min(_known(parts, f"{time}_min_ms"), default=None),
                f"{time}_max_ms": max(_known(parts, f"{time}_max_ms"), default=None),
            }.items()
        },
        **{name: sum(known) if (known := _known(parts, name)) else None for name in NULLABLE_SUMS},
        "upstream_service_time_max_ms": max(_known(parts, "upstream_service_time_max_ms"), default=None),
        "response_flags": dict(flags),
        "grpc_status": dict(statuses),
        "apdex": _weighted(
            (row["apdex"], row["requests"] - row["rate_limited"] - row["upgraded"]) for row in parts
        ),
        "error_rate": (total["errors_5xx"] + total["aborted"]) / total["requests"],
        "rate_limited_ratio": total["rate_limited"] / total["requests"],
        "histogram": _summed([row["histogram"] for row in parts]),
        "first_byte_histogram": _summed([row["first_byte_histogram"] for row in parts]),
        "exemplar": min(
            exemplars,
            key=lambda one: (-one["latency_ms"], one["request_id"], one["trace_id"] or "g"),
            default=None,
        ),
    }


def _summed(histograms: list[Row | None]) -> Row | None:
    known = [one for one in histograms if one is not None]
    buckets: Counter[str] = Counter()
    for one in known:
        buckets.update(one["buckets"])
    return (
        {"scale": 5, "zero": sum(one["zero"] for one in known), "buckets": dict(buckets)} if known else None
    )


def minutes_that_differ_from_their_seconds(rows: Mapping[str, Row]) -> list[str]:
    """One text for every field of a 1m row that is not the merge of its 1s rows, or has no such rows."""
    seconds: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    minutes: dict[tuple[Any, ...], Row] = {}
    for row in rows.values():
        group = (row["level"], *(row[level] for level in LEVELS), row["window_start"][:16])
        if row["span"] == "1s":
            seconds[group].append(row)
        else:
            minutes[group] = row
    return _unlike(minutes, seconds, "minute", "seconds")


def groups_that_differ_from_their_children(rows: Mapping[str, Row]) -> list[str]:
    """One text for every field of a row that is not the merge of the level below.

    A department is its tasks. A task's latency is its replicas' (what reached none has no latency), it has at
    least their requests, and it has seen as many replicas as there are names. Versions have no more than it.
    """
    below: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    departments: dict[tuple[Any, ...], Row] = {}
    tasks: dict[tuple[Any, ...], Row] = {}
    for row in rows.values():
        window = (row["span"], row["window_start"], row["department"])
        if row["level"] == "department":
            departments[window] = row
        elif row["level"] == "task":
            tasks[(*window, row["task"])] = row
            below[window].append(row)
        else:
            below[(*window, row["task"], row["level"])].append(row)
    problems = _unlike(departments, {key: below[key] for key in departments}, "department", "tasks")
    problems += [
        f"{key}: tasks without a department" for key in below.keys() - departments.keys() if len(key) == 3
    ]
    for key, task in tasks.items():
        replicas, versions = below[(*key, "replica")], below[(*key, "version")]
        if replicas:
            expected = merged(replicas)
            problems += differences(task["id"], task, {name: expected[name] for name in LATENCY_FIELDS})
        elif task["latency_count"]:
            problems.append(f"{task['id']}: latency_count {task['latency_count']} without a replica's row")
        names = len({row["replica"] for row in replicas})
        if task["replicas_seen"] != names:
            problems.append(f"{task['id']}: replicas_seen {task['replicas_seen']}, but {names} replica names")
        for kind, children in (("replicas", replicas), ("versions", versions)):
            requests = sum(row["requests"] for row in children)
            if requests > task["requests"]:
                problems.append(f"{task['id']}: {task['requests']} requests, but its {kind} have {requests}")
    return problems


def _unlike(
    parents: Mapping[tuple[Any, ...], Row],
    children: Mapping[tuple[Any, ...], list[Row]],
    parent_kind: str,
    children_kind: str,
) -> list[str]:
    problems = [f"{key}: {children_kind} without a {parent_kind}" for key in children if key not in parents]
    for key, parent in parents.items():
        if children.get(key):
            problems += differences(parent["id"], parent, merged(children[key]))
            problems += differences(
                parent["id"], parent, {"concurrency": _concurrency(parent, children[key])}
            )
        else:
            problems.append(f"{parent['id']}: a {parent_kind} without {children_kind}")
    return problems


def _concurrency(parent: Row, children: list[Row]) -> float | None:
    """Durations add up: of a window's parts, and of a part of its length."""
    lengths = {"1s": 1, "1m": 60}
    known = [
        Fraction(row["concurrency"]) * lengths[row["span"]]
        for row in children
        if row["concurrency"] is not None
    ]
    return float(sum(known) / lengths[parent["span"]]) if known else None


def _known(rows: Iterable[Row], field: str) -> list[float]:
    return [row[field] for row in rows if row[field] is not None]


def _weighted(means: Iterable[tuple[float | None, int]]) -> float | None:
    total, weight = Fraction(0), 0
    for mean, count in means:
        if mean is not None:
            total += Fraction(mean) * count
            weight += count
    return float(total / weight) if weight else None
