"""The data of each page, computed from a source's rows."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from tidegate.jobs.logic.replicas.sources import BEST_FIRST
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.rows.service_metrics import Level
from tidegate.schemas.timestamps import from_text
from tidegate.schemas.topics import service_metrics
from tidegate.ui.now import Group, Names, groups, names_of
from tidegate.ui.series import SPAN_SECONDS, resource_columns, service_columns, start_of, steps
from tidegate.ui.source import Equal, Json, Source
from tidegate.ui.windows import NewestWindows

ListLevel = Literal["department", "task"]

NOW_SECONDS = 10
TREND_MINUTES = 15
_SETTLE = 1
"""The newest second may lack rows of some partitions yet."""
_USUAL_MINUTES = 5
_SECONDS_UP_TO = timedelta(minutes=20)
"""A longer time range is shown by minutes."""
_EVENTS_BEFORE = timedelta(hours=24)
_LONGEST_ALERT = timedelta(days=7)
_NEWEST_LIMITS = ("applied", "held", "failed")
_ALERT_STATES = ("pending", "firing", "resolved")
_REPLICAS_HOLD = timedelta(minutes=2)
_HISTOGRAMS = ("histogram", "first_byte_histogram")
_NOT_FOR_TRENDS = (*_HISTOGRAMS, "response_flags", "grpc_status", "exemplar")


@dataclass(frozen=True)
class Scope:
    """The subject of a page: a department, its task, and of that a version or a replica."""

    department: str
    task: str | None = None
    version: str | None = None
    replica: str | None = None

    @property
    def level(self) -> Level:
        """The level of its rows."""
        if self.replica is not None:
            return "replica"
        if self.version is not None:
            return "version"
        return "department" if self.task is None else "task"

    @property
    def equal(self) -> dict[str, str | None]:
        """The values by which its rows are found."""
        found: dict[str, str | None] = {"level": self.level, "department": self.department, "task": self.task}
        if self.replica is not None:
            found["replica"] = self.replica
        if self.version is not None:
            found["version"] = self.version
        return found


class Views:
    """Answers the page's questions. All methods raise SourceUnavailable."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._seconds = NewestWindows(source, "1s", NOW_SECONDS, ("upstream_service_time_avg_ms",))
        self._minutes = NewestWindows(source, "1m", TREND_MINUTES, _NOT_FOR_TRENDS)
        self._lists: tuple[int, dict[Names, Group]] = (0, {})
        self._lock = threading.Lock()

    def newest(self) -> int | None:
        """The end of the newest second with a row, since the epoch; None if there is no row."""
        row = self._source.newest(topics.SERVICE_METRICS_1S, {"level": "department"})
        return None if row is None else start_of(row) + 1

    def now(self, level: ListLevel, department: str | None, task: str | None = None) -> Json:
        """All departments, or all tasks (of one department, or one task), over the newest ten whole seconds.

        With what is usual for each, its minutes, its replicas, its limit and its alerts.
        """
        newest = self.newest()
        if newest is None:
            return {"newest": None, "seconds": NOW_SECONDS, "rows": []}
        end = newest - _SETTLE
        found = self._groups(end)
        minutes = self._minutes.up_to(newest)
        trends = _trends(minutes)
        observed = {start for start, its in minutes.items() if its}
        firing = self._firing()
        details = self._details(level, newest, found, _given(department=department, task=task))
        names = {
            one
            for one in {*found, *trends}
            if (one[1] is not None) == (level == "task")
            and (department is None or one[0] == department)
            and (task is None or one[1] == task)
        }
        rows = []
        for one in sorted(names, key=lambda parts: (parts[0], parts[1] or "")):
            its = trends.get(one, {})
            trend = [its.get(start, 0.0) if start in observed else None for start in sorted(minutes)]
            usual = [value for value in trend if value is not None][-_USUAL_MINUTES:]
            rows.append(
                {
                    "department": one[0],
                    "task": one[1],
                    **found.get(one, Group()).as_json(NOW_SECONDS),
                    "usual_qps": sum(usual) / len(usual) if usual else None,
                    "trend": trend,
                    "firing": firing.get((one[0], one[1]), 0),
                    **details(one),
                }
            )
        return {"newest": newest, "seconds": NOW_SECONDS, "rows": rows}

    def parts(self, scope: Scope) -> Json:
        """The versions and replicas of a task over the newest ten whole seconds, and which replicas are ready."""
        newest = self.newest()
        if newest is None:
            return {"newest": None, "seconds": NOW_SECONDS, "versions": [], "replicas": [], "ready": None}
        end = newest - _SETTLE
        rows = self._source.find(
            topics.SERVICE_METRICS_1S,
            {"level": ("version", "replica"), "department": scope.department, "task": scope.task},
            _at(end - NOW_SECONDS),
            _at(end),
        )
        found = groups(rows)
        known = self._replica_row(scope)
        by_address = {one["address"]: one for one in (known or {}).get("replicas", ()) if one["address"]}
        replicas = {
            names[3]: group.as_json(NOW_SECONDS) for names, group in found.items() if names[3] is not None
        }
        return {
            "newest": newest,
            "seconds": NOW_SECONDS,
            "versions": [
                {"version": names[2], **group.as_json(NOW_SECONDS)}
                for names, group in sorted(found.items(), key=lambda one: str(one[0][2]))
                if names[3] is None
            ],
            "replicas": [
                {
                    "replica": name,
                    **replicas.get(name, Group().as_json(NOW_SECONDS)),
                    "pod": by_address.get(name, {}).get("name"),
                    "state": by_address.get(name, {}).get("state"),
                }
                for name in sorted({*replicas, *by_address}, key=str)
            ],
            "ready": known and {name: known[name] for name in _READY},
        }

    def series(self, scope: Scope, since: datetime, until: datetime) -> Json:
        """A chart's columns for [since, until): seconds up to 20 minutes, else minutes; of a task also its limit and
        its replicas, and what its replicas use.
        """
        span: Literal["1s", "1m"] = "1s" if until - since <= _SECONDS_UP_TO else "1m"
        length = SPAN_SECONDS[span]
        topic = service_metrics(span)
        first = _floor(since, length)
        since = _at(first)
        rows = self._source.find(topic, scope.equal, since, until, _HISTOGRAMS)
        observed = self._observed(span, since, until)
        starts = range(first, max(observed) + length if observed else first, length)
        series: Json = {
            "span_seconds": length,
            "times": list(starts),
            "columns": service_columns(rows, starts, length, observed),
            "resources": None,
        }
        if scope.level == "task":
            series["columns"] |= self._in_force(scope, since, starts)
        if scope.task is not None and scope.version is None:
            series["resources"] = self._resources(scope, since, until)
        return series

    def events(
        self, department: str | None, task: str | None, since: datetime, until: datetime
    ) -> list[Json]:
        """Settled replica changes, applied, held and failed limits, and fired and resolved alerts, oldest first."""
        equal = _given(department=department, task=task)
        found = [
            {"at": row["settled_at"], "kind": "replicas", **_names(row), "text": _change(row)}
            for row in self._source.find(topics.REPLICA_CHANGES, equal, since, until)
        ]
        found += [
            {
                "at": row["applied_at"] or row["decided_at"],
                "kind": f"limit {row['state']}",
                **_names(row),
                "text": _limit(row),
            }
            for row in self._source.find(topics.RATE_LIMITS, {**equal, "state": _NEWEST_LIMITS}, since, until)
        ]
        for row in self._source.find(
            topics.ALERTS, {**equal, "state": ("firing", "resolved")}, since - _LONGEST_ALERT, until
        ):
            if row["fired_at"] is None:
                continue  # it ended before it fired, so no one was notified
            at = row["resolved_at"] or row["fired_at"]
            if since <= from_text(at) < until:
                found.append(
                    {
                        "at": at,
                        "kind": f"alert {row['state']}",
                        **_names(row),
                        "text": f"{row['rule']} ({row['severity']}): {row['message']}",
                    }
                )
        return sorted(found, key=lambda one: one["at"])

    def firing(self) -> list[Json]:
        """The firing alerts, newest first."""
        return sorted(self._alerts(), key=lambda row: row["started_at"], reverse=True)

    def _details(
        self, level: ListLevel, newest: int, found: Iterable[Names], equal: Equal
    ) -> Callable[[Names], Json]:
        """The columns that only departments, or only tasks, have; queries nothing else."""
        if level == "department":
            tasks = Counter(names[0] for names in found if names[1] is not None)
            return lambda one: {"tasks": tasks[one[0]]}
        ready, limits = self._ready(newest, equal), self._limits(equal)
        unknown = {"replicas_ready": None, "replicas_starting": None, "limit_qps": None, "limit_state": None}
        return lambda one: {
            **unknown,
            **ready.get((one[0], str(one[1])), {}),
            **limits.get((one[0], str(one[1])), {}),
        }

    def _groups(self, end: int) -> dict[Names, Group]:
        """The groups of all departments and tasks, computed once per second for all requests."""
        with self._lock:
            if self._lists[0] != end:
                windows = self._seconds.up_to(end)
                self._lists = (end, groups(row for rows in windows.values() for row in rows))
            return self._lists[1]

    def _observed(self, span: Literal["1s", "1m"], since: datetime, until: datetime) -> set[int]:
        rows = self._source.find(
            service_metrics(span), {"level": "department"}, since, until, _NOT_FOR_TRENDS
        )
        return {start_of(row) for row in rows}

    def _in_force(self, scope: Scope, since: datetime, starts: range) -> dict[str, list[float | None]]:
        """The limit in force and the settled replicas when each window began."""
        equal = {"department": scope.department, "task": scope.task}
        until = _at(starts.stop)
        limits = [
            RateLimitRow.model_validate(row)
            for row in self._source.find(
                topics.RATE_LIMITS, {**equal, "state": "applied"}, since - _EVENTS_BEFORE, until
            )
        ]
        if not limits:
            limits = [
                RateLimitRow.model_validate(row)
                for row in self._source.find(topics.RATE_LIMITS_CURRENT, equal)
            ]
        changes = self._source.find(topics.REPLICA_CHANGES, equal, since - _EVENTS_BEFORE, until)
        replicas = [
            (int(from_text(row["settled_at"]).timestamp()), float(row["replicas_after"])) for row in changes
        ]
        before: float | None = changes[0]["replicas_before"] if changes else None
        if not changes and (known := self._replica_row(scope)) is not None:
            before = known["replicas_ready"]
        return {
            "limit_qps": steps(
                [(int(row.applied_at.timestamp()), row.limit_qps) for row in limits if row.applied_at],
                starts,
                None,
            ),
            "replicas_ready": steps(replicas, starts, before),
        }

    def _resources(self, scope: Scope, since: datetime, until: datetime) -> Json | None:
        short = until - since <= _SECONDS_UP_TO
        topic = topics.RESOURCE_METRICS_10S if short else topics.RESOURCE_METRICS_1M
        length = SPAN_SECONDS["10s" if short else "1m"]
        equal: dict[str, str | None] = {"department": scope.department, "task": scope.task}
        if scope.replica is None:
            equal["level"] = "task"
        else:
            equal |= {"level": "replica", "replica": self._pod(scope)}
        first = _floor(since, length)
        rows = self._source.find(topic, equal, _at(first), until)
        if not rows:
            return None
        starts = range(first, start_of(rows[-1]) + length, length)
        return {"times": list(starts), "columns": resource_columns(rows, starts)}

    def _pod(self, scope: Scope) -> str | None:
        """The pod behind an address; the name itself if no row has it."""
        row = self._replica_row(scope)
        for one in (row or {}).get("replicas", ()):
            if one["address"] == scope.replica:
                return str(one["name"])
        return scope.replica

    def _replica_row(self, scope: Scope) -> Json | None:
        equal = {"department": scope.department, "task": scope.task}
        return _best(self._source.find(topics.REPLICAS, equal))

    def _ready(self, newest: int, equal: Equal) -> dict[tuple[str, str], Json]:
        """Ready replicas by task, from recent rows only: a source publishes a row at least every 30 seconds."""
        found: dict[tuple[str, str], Json] = {}
        lately = _at(newest) - _REPLICAS_HOLD
        for row in self._source.find(topics.REPLICAS, equal, lately, without=("replicas",)):
            names = (row["department"], row["task"])
            found[names] = min(found.get(names, row), row, key=_rank)
        return {
            names: {name: row[name] for name in ("replicas_ready", "replicas_starting")}
            for names, row in found.items()
        }

    def _limits(self, equal: Equal) -> dict[tuple[str, str], Json]:
        return {
            (row["department"], row["task"]): {"limit_qps": row["limit_qps"], "limit_state": row["state"]}
            for row in self._source.find(topics.RATE_LIMITS_CURRENT, equal)
        }

    def _alerts(self) -> list[Json]:
        """The alerts of the last seven days whose newest state is firing."""
        now = datetime.now(UTC)
        newest: dict[tuple[str, str], Json] = {}
        rows = self._source.find(topics.ALERTS, {}, now - _LONGEST_ALERT)
        for row in sorted(rows, key=lambda row: (row["observed_at"], _ALERT_STATES.index(row["state"]))):
            newest[row["alert_key"], row["started_at"]] = row
        return [row for row in newest.values() if row["state"] == "firing"]

    def _firing(self) -> dict[tuple[str, str | None], int]:
        """The number of firing alerts by department and by task."""
        found: dict[tuple[str, str | None], int] = {}
        for row in self._alerts():
            for names in {(row["department"], None), (row["department"], row["task"])}:
                found[names] = found.get(names, 0) + 1
        return found


_READY = ("source", "replicas_ready", "replicas_starting", "replicas_terminating", "observed_at")


def _trends(minutes: Mapping[int, Iterable[Json]]) -> dict[Names, dict[int, float]]:
    """Requests per second of each minute, by department and task."""
    found: dict[Names, dict[int, float]] = {}
    for start, rows in minutes.items():
        for row in rows:
            found.setdefault(names_of(row), {})[start] = row["qps"]
    return found


def _best(rows: Iterable[Json]) -> Json | None:
    """The row of the best source of a task's replicas."""
    return min(rows, key=_rank, default=None)


def _rank(row: Json) -> int:
    return BEST_FIRST.index(row["source"])


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _names(row: Json) -> Json:
    return {name: row.get(name) for name in ("department", "task", "replica")}


def _change(row: Json) -> str:
    before = "?" if row["replicas_before"] is None else row["replicas_before"]
    return (
        f"{before} \N{RIGHTWARDS ARROW} {row['replicas_after']} replicas ({row['cause'].replace('_', ' ')})"
    )


def _limit(row: Json) -> str:
    limit = "no limit" if row["limit_qps"] is None else f"{row['limit_qps']:g} qps"
    return f"{limit}: {row['reason']}"


def _at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _floor(at: datetime, length: int) -> int:
    second = int(at.timestamp())
    return second - second % length
