"""The current state of one task: the newest row of each input, and the traffic of the last minute.

    observe_second     a service-metrics row of a second, level task or version
    observe_minute     one of a minute, level task or replica
    observe_replicas, observe_limit, observe_resources, observe_task
    profile         the state as a row

There are two clocks: the event time of the service metrics, by which a window ends with the newest complete second of
any task, and this machine's, `now_ms`, by which an input without rows becomes stale. So sources whose clocks differ by
minutes do no harm.

A checkpoint holds all but the traffic (task_profile_state.py). After a restart the traffic's window begins with the
first observed second, and `traffic_window_seconds` is its length so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.jobs.logic.profile.slowest_replica import slowest
from tidegate.jobs.logic.profile.sustained_capacity import MINUTE_MS, Learned, Minute, Promise, learn
from tidegate.jobs.logic.profile.task_traffic import SLOT_MS, SecondsObserved, Traffic
from tidegate.schemas.rows.limits import RateLimitRow, ReplicasRow, TaskRow
from tidegate.schemas.rows.resources import (
    Freshness,
    ResourceMetricsRow,
    SlowReplica,
    TaskProfile,
    VersionProfile,
)
from tidegate.schemas.settings.signals import ProfileSettings
from tidegate.schemas.timestamps import from_epoch_ms, from_text, to_epoch_ms

_KEPT_MS = 180_000
"""A resource window comes half a minute late, and is related to the requests of the same seconds."""
_LEAST = 4
"""After a restart a fourth of the traffic's window must be observed before it is published."""
_ENOUGH_OF_A_REPLICA = 20
"""Requests in a minute: below it a replica's p99 is not significant."""
DAY_MS = 24 * 3_600_000


@dataclass(frozen=True)
class ObservedRow:
    """The newest row of an input, and when it arrived by this machine's clock."""

    row: Any
    at_ms: int


@dataclass
class TaskState:
    """The state of one task. Mutable: it is updated some thousand times a second.

    restored: it comes from a checkpoint, so its traffic begins with the first second observed after it.
    """

    department: str
    task: str
    traffic: Traffic = field(default_factory=Traffic)
    versions: dict[str, Traffic] = field(default_factory=dict)
    seconds: dict[int, int] = field(default_factory=dict)
    minute_ms: int = 0
    replica_p99_ms: dict[str, float] = field(default_factory=dict)
    learned: Learned = field(default_factory=Learned)
    replicas: ObservedRow | None = None
    limit: ObservedRow | None = None
    resources: ObservedRow | None = None
    catalog: TaskRow | None = None
    observed_ms: int = 0
    restored: bool = False

    def observe_second(self, row: Mapping[str, Any], now_ms: int, settings: ProfileSettings) -> int:
        """Add a second's row of level task or version. Returns the second's end (epoch, ms).

        Raises KeyError, TypeError or ValueError for an invalid row.
        """
        end_ms = _end_ms(row)
        start_ms = end_ms - 1000
        if row["level"] == "task":
            self.traffic.add_row(start_ms, row)
            self.seconds[start_ms] = row["requests"]
            self._forget(end_ms, settings)
        elif row["level"] == "version":
            self.versions.setdefault(row["version"], Traffic()).add_row(start_ms, row)
        self.observed_ms = now_ms
        return end_ms

    def observe_minute(self, row: Mapping[str, Any], now_ms: int, settings: ProfileSettings) -> None:
        """Add a minute's row of level task or replica. Raises as observe_second."""
        start_ms = _end_ms(row) - MINUTE_MS
        self.observed_ms = now_ms
        if row["level"] == "replica":
            if start_ms > self.minute_ms:
                self.minute_ms, self.replica_p99_ms = start_ms, {}
            if start_ms == self.minute_ms and row["latency_count"] >= _ENOUGH_OF_A_REPLICA:
                self.replica_p99_ms[row["replica"]] = float(row["latency_p99_ms"])
            return
        if row["level"] != "task":
            return
        minute = Minute(
            start_ms,
            row["requests"] - row["rate_limited"],
            row["replicas_seen"],
            row["latency_count"],
            row["latency_p99_ms"],
            row["error_rate"],
        )
        self.learned = learn(self.learned, minute, self._promise(), settings.sustain_minutes)

    def observe_replicas(self, row: ReplicasRow, now_ms: int) -> bool:
        """Take the replicas. Returns whether their numbers have changed."""
        before = self.replicas
        if (
            before is not None
            and row.observed_at < before.row.observed_at
            and row.source == before.row.source
        ):
            return False
        self.replicas, self.observed_ms = ObservedRow(row, now_ms), now_ms
        counts = ("replicas_ready", "replicas_starting", "replicas_terminating")
        return before is None or any(getattr(before.row, name) != getattr(row, name) for name in counts)

    def observe_limit(self, row: RateLimitRow, now_ms: int) -> bool:
        """Take the limit. Returns whether it has changed."""
        before = self.limit
        if before is not None and row.revision < before.row.revision:
            return False
        self.limit, self.observed_ms = ObservedRow(row, now_ms), now_ms
        return before is None or (before.row.limit_qps, before.row.state) != (row.limit_qps, row.state)

    def observe_resources(self, row: ResourceMetricsRow, now_ms: int) -> None:
        """Take a window of level task; an older one than the newest is ignored."""
        if row.level != "task" or (
            self.resources is not None and row.window_start < self.resources.row.window_start
        ):
            return
        self.resources, self.observed_ms = ObservedRow(row, now_ms), now_ms

    def observe_task(self, row: TaskRow | None, now_ms: int) -> None:
        """Take the task's entry in the catalog; None: it was removed."""
        self.catalog, self.observed_ms = row, now_ms

    def gone(self, now_ms: int) -> bool:
        """Whether no row was observed for a day, and the catalog does not have the task."""
        return self.catalog is None and now_ms - self.observed_ms > DAY_MS

    def profile(self, now_ms: int, observed: SecondsObserved, settings: ProfileSettings) -> TaskProfile:
        """The profile as a row. observed: the seconds of all tasks."""
        end_ms = observed.whole_ms(now_ms)
        first_ms = None if end_ms is None else self._traffic_since_ms(end_ms, observed, settings)
        traffic = _freshness(end_ms, observed.at_ms, now_ms, settings.traffic_stale_seconds)
        if first_ms is None:
            traffic = traffic.model_copy(update={"stale": True})
        freshness = {
            "traffic": traffic,
            "replicas": _row_freshness(self.replicas, "observed_at", now_ms, settings.replicas_stale_seconds),
            # A limit and a catalog entry are valid until replaced.
            "limit": _row_freshness(self.limit, "decided_at", now_ms, None),
            "resources": _row_freshness(
                self.resources, "window_end", now_ms, settings.resources_stale_seconds
            ),
            "catalog": Freshness(
                observed_at=self.catalog.published_at if self.catalog else None,
                age_ms=None,
                stale=self.catalog is None,
            ),
        }
        fields: dict[str, Any] = dict.fromkeys(TaskProfile.model_fields)
        fields |= {
            "id": f"{self.department}/{self.task}",
            "department": self.department,
            "task": self.task,
            "computed_at": from_epoch_ms(now_ms),
            "traffic_window_seconds": settings.traffic_window_seconds,
            "versions": (),
            "freshness": freshness,
            "stale_inputs": tuple(name for name, one in freshness.items() if one.stale),
        }
        fields |= self._of_catalog() | self._of_learned()
        if not freshness["replicas"].stale and self.replicas is not None:
            row = self.replicas.row
            fields |= {
                name: getattr(row, name)
                for name in ("replicas_ready", "replicas_starting", "replicas_terminating")
            }
        if not freshness["limit"].stale and self.limit is not None:
            fields |= {"limit_qps": self.limit.row.limit_qps, "limit_state": self.limit.row.state}
        if not freshness["resources"].stale and self.resources is not None:
            fields |= self._of_resources(self.resources.row, self._since_ms(observed))
        if not traffic.stale and end_ms is not None and first_ms is not None:
            fields |= self._of_traffic(first_ms, end_ms, fields, settings)
        return TaskProfile(**fields)

    def _since_ms(self, observed: SecondsObserved) -> int:
        """The first slot whose traffic was observed completely."""
        if not self.restored or observed.first_end_ms is None:
            return 0
        return -(-observed.first_end_ms // SLOT_MS) * SLOT_MS

    def _traffic_since_ms(
        self, end_ms: int, observed: SecondsObserved, settings: ProfileSettings
    ) -> int | None:
        """The beginning of the traffic's window; None while it is too short to be published."""
        first_ms = max(_first_slot(end_ms, settings), self._since_ms(observed))
        enough_ms = 1000 * settings.traffic_window_seconds // _LEAST
        return first_ms if not self.restored or end_ms - first_ms >= enough_ms else None

    def _of_catalog(self) -> dict[str, Any]:
        task = self.catalog
        if task is None:
            return {}
        return {
            "owner": task.owner,
            "capacity_qps_per_replica": task.qps_per_replica,
            "slo_p99_ms": task.slo.p99_ms,
            "slo_error_rate": task.slo.error_rate,
        }

    def _of_learned(self) -> dict[str, Any]:
        learned = self.learned
        if learned.qps_per_replica is None or learned.held_until_ms is None:
            return {}
        return {
            "sustained_qps_per_replica": learned.qps_per_replica,
            "sustained_at": from_epoch_ms(learned.held_until_ms),
        }

    def _of_resources(self, row: ResourceMetricsRow, traffic_since_ms: int) -> dict[str, Any]:
        names = (
            "replicas_desired",
            "cpu_cores",
            "cpu_of_limit_ratio",
            "cpu_throttled_ratio",
            "memory_working_set_bytes",
            "memory_of_limit_ratio",
            "gpu_utilization_ratio",
            "gpu_memory_of_total_ratio",
        )
        fields = {name: getattr(row, name) for name in names}
        start_ms, window_end_ms = to_epoch_ms(row.window_start), to_epoch_ms(row.window_end)
        admitted = self.traffic.between(start_ms, window_end_ms).admitted
        if row.cpu_cores is not None and admitted and start_ms >= traffic_since_ms:
            fields["cpu_seconds_per_request"] = row.cpu_cores * (window_end_ms - start_ms) / 1000 / admitted
        return fields

    def _of_traffic(
        self, first_ms: int, end_ms: int, known: Mapping[str, Any], settings: ProfileSettings
    ) -> dict[str, Any]:
        seconds = max(1, round((end_ms - first_ms) / 1000))
        whole = self.traffic.between(first_ms, end_ms)
        admitted_qps = whole.admitted / seconds
        recent_ms = settings.panic_window_seconds * 1000
        recent = sum(count for start, count in self.seconds.items() if end_ms - recent_ms <= start < end_ms)
        ready, limit_qps = known["replicas_ready"], known["limit_qps"]
        return {
            "traffic_window_seconds": seconds,
            "requests": whole.requests,
            "qps": whole.requests / seconds,
            "qps_recent": recent / settings.panic_window_seconds,
            "qps_per_replica": admitted_qps / ready if ready else None,
            "latency_count": whole.latencies.count,
            "latency_p50_ms": whole.latencies.percentile_ms(50),
            "latency_p99_ms": whole.latencies.percentile_ms(99),
            "error_rate": whole.error_rate if whole.requests else None,
            "rate_limited_ratio": whole.limited / whole.requests if whole.requests else None,
            "limit_used_ratio": admitted_qps / limit_qps if limit_qps else None,
            "versions": tuple(self._versions(first_ms, end_ms)),
            "slowest_replica": self._slowest(end_ms),
        }

    def _versions(self, first_ms: int, end_ms: int) -> list[VersionProfile]:
        found = []
        for version, traffic in sorted(self.versions.items()):
            whole = traffic.between(first_ms, end_ms)
            if whole.requests:
                found.append(
                    VersionProfile(
                        version=version,
                        qps=whole.requests * 1000 / (end_ms - first_ms),
                        latency_p99_ms=whole.latencies.percentile_ms(99),
                        error_rate=whole.error_rate,
                    )
                )
        return found

    def _slowest(self, end_ms: int) -> SlowReplica | None:
        """The slowest replica of the newest minute; None if that minute is too old."""
        return None if end_ms - self.minute_ms > 3 * MINUTE_MS else slowest(self.replica_p99_ms)

    def _promise(self) -> Promise | None:
        slo = self.catalog.slo if self.catalog else None
        return None if slo is None or slo.p99_ms is None else Promise(slo.p99_ms, slo.error_rate)

    def _forget(self, end_ms: int, settings: ProfileSettings) -> None:
        """Forget what no window needs any more."""
        window_ms = 1000 * settings.traffic_window_seconds
        self.traffic.forget(end_ms, max(_KEPT_MS, window_ms + 2 * SLOT_MS))
        recent_ms = end_ms - 1000 * settings.panic_window_seconds - 2 * SLOT_MS
        self.seconds = {start: count for start, count in self.seconds.items() if start >= recent_ms}
        for version, traffic in list(self.versions.items()):
            traffic.forget(end_ms, window_ms + 2 * SLOT_MS)
            if traffic.empty:
                del self.versions[version]


def _end_ms(row: Mapping[str, Any]) -> int:
    return to_epoch_ms(from_text(row["window_end"]))


def _first_slot(end_ms: int, settings: ProfileSettings) -> int:
    """The first slot of the traffic window that ends at end_ms: whole slots, at most traffic_window_seconds."""
    since_ms = end_ms - 1000 * settings.traffic_window_seconds
    return -(-since_ms // SLOT_MS) * SLOT_MS


def _row_freshness(
    observed: ObservedRow | None, moment: str, now_ms: int, stale_seconds: float | None
) -> Freshness:
    if observed is None:
        return Freshness(observed_at=None, age_ms=None, stale=True)
    observed_ms = to_epoch_ms(getattr(observed.row, moment))
    return _freshness(observed_ms, observed.at_ms, now_ms, stale_seconds)


def _freshness(
    observed_ms: int | None, at_ms: int | None, now_ms: int, stale_seconds: float | None
) -> Freshness:
    if observed_ms is None or at_ms is None:
        return Freshness(observed_at=None, age_ms=None, stale=True)
    age_ms = max(0, now_ms - at_ms)
    return Freshness(
        observed_at=from_epoch_ms(observed_ms),
        age_ms=age_ms,
        stale=stale_seconds is not None and age_ms > 1000 * stale_seconds,
    )
