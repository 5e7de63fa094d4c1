"""Autoscaling signals as Prometheus metrics, for an HPA through the Prometheus adapter and for dashboards."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tidegate.adapters.autoscaling.feed import SignalsFeed


class SignalsCollector(Collector):
    """A collector with one gauge family for each figure. A task whose signals have expired is absent, and never 0."""

    def __init__(self, feed: SignalsFeed) -> None:
        self._feed = feed

    def collect(self) -> Iterable[Metric]:
        """All families with their current values."""
        task, signal = ["department", "task"], ["department", "task", "signal"]
        desired = GaugeMetricFamily("tidegate_desired_replicas", "Replicas that are wanted.", labels=task)
        ready = GaugeMetricFamily("tidegate_ready_replicas", "Replicas that are ready.", labels=task)
        until = GaugeMetricFamily(
            "tidegate_signals_valid_until_seconds", "Until when the signals hold (epoch).", labels=task
        )
        value = GaugeMetricFamily("tidegate_signal_value", "What a signal is.", labels=signal)
        target = GaugeMetricFamily("tidegate_signal_target", "What a signal should be.", labels=signal)
        for row in self._feed.valid():
            labels = [row.department, row.task]
            if row.desired_replicas is not None:
                desired.add_metric(labels, row.desired_replicas)
            if row.replicas is not None:
                ready.add_metric(labels, row.replicas)
            until.add_metric(labels, row.valid_until.timestamp())
            for one in row.signals:
                if one.value is not None:
                    value.add_metric([*labels, one.name], one.value)
                if one.target is not None:
                    target.add_metric([*labels, one.name], one.target)
        return (desired, ready, until, value, target)
