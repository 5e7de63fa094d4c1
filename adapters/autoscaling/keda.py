"""KEDA's external scaler: serves a task's desired number of replicas over gRPC.

A ScaledObject names the task in its trigger's metadata (`department`, `task`). The metric is the desired number of
replicas, with a target of 1 each (AverageValue), so that KEDA's HPA asks for exactly as many. An unknown value is an
error and never 0: then KEDA's fallback applies, or the HPA keeps the current replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tidegate.adapters.autoscaling.feed import SignalsFeed
from tidegate.adapters.autoscaling.proto import external_scaler_pb2
from tidegate.schemas.rows.signals import AutoscalingSignals

SERVICE = "externalscaler.ExternalScaler"
METRIC = "tidegate-desired-replicas"
_STREAM_SECONDS = 5.0
_WORKERS = 64
"""Each stream that KEDA keeps open occupies a thread."""

_pb2: Any = external_scaler_pb2  # protoc's classes are created at import


class Scaler:
    """The methods of KEDA's service."""

    def __init__(self, feed: SignalsFeed, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._feed = feed
        self._now = now

    def is_active(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Whether the task should have any replica."""
        return _pb2.IsActiveResponse(result=self._wanted(request, context) > 0)

    def stream_is_active(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """`is_active` as a stream: the current value, then each change."""
        sent: bool | None = None
        while context.is_active():
            active = self._wanted(request, context) > 0
            if active != sent:
                sent = active
                yield _pb2.IsActiveResponse(result=active)
            self._feed.wait(_STREAM_SECONDS)

    def get_metric_spec(self, request: Any, context: grpc.ServicerContext) -> Any:
        """One metric, with a target of 1."""
        _task(request, context)
        spec = _pb2.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return _pb2.GetMetricSpecResponse(metricSpecs=[spec])

    def get_metrics(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The current value of the metric."""
        if request.metricName not in ("", METRIC):
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"metric {request.metricName!r} does not exist; use {METRIC}",
            )
        wanted = self._wanted(request.scaledObjectRef, context)
        value = _pb2.MetricValue(metricName=METRIC, metricValue=wanted, metricValueFloat=float(wanted))
        return _pb2.GetMetricsResponse(metricValues=[value])

    def _wanted(self, reference: Any, context: grpc.ServicerContext) -> int:
        department, task = _task(reference, context)
        row = self._feed.newest(department, task)
        if row is None:
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"{department}/{task} has no autoscaling signals; check that its entry in the catalog has "
                "`autoscaling`, and that the job task-profile runs",
            )
        return self._of(row, context)

    def _of(self, row: AutoscalingSignals | None, context: grpc.ServicerContext) -> int:
        if row is None or row.desired_replicas is None or row.valid_until <= self._now():
            reason = "unknown" if row is None else row.reason
            until = "" if row is None else f"; valid until {row.valid_until:%H:%M:%S}Z"
            context.abort(
                grpc.StatusCode.UNAVAILABLE, f"the task's signals are not valid now ({reason}){until}"
            )
            raise AssertionError("abort raises")
        return row.desired_replicas


def serve(scaler: Scaler, address: str) -> tuple[grpc.Server, int]:
    """A started server with KEDA's service and gRPC's health service, and its port.

    address: host:port, with port 0 for any free one. Raises OSError if the address is not available.
    """
    server = grpc.server(
        ThreadPoolExecutor(_WORKERS, thread_name_prefix="keda"), options=[("grpc.so_reuseport", 0)]
    )
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    reference, active = _pb2.ScaledObjectRef.FromString, _pb2.IsActiveResponse.SerializeToString
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                SERVICE,
                {
                    "IsActive": unary(scaler.is_active, reference, active),
                    "StreamIsActive": stream(scaler.stream_is_active, reference, active),
                    "GetMetricSpec": unary(
                        scaler.get_metric_spec, reference, _pb2.GetMetricSpecResponse.SerializeToString
                    ),
                    "GetMetrics": unary(
                        scaler.get_metrics,
                        _pb2.GetMetricsRequest.FromString,
                        _pb2.GetMetricsResponse.SerializeToString,
                    ),
                },
            ),
        )
    )
    healths = health.HealthServicer()
    for name in ("", SERVICE):
        healths.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if port == 0:
        raise OSError(f"{address} is in use; free it or choose another address")
    server.start()
    return server, port


def _task(reference: Any, context: grpc.ServicerContext) -> tuple[str, str]:
    metadata = reference.scalerMetadata
    department, task = metadata.get("department", ""), metadata.get("task", "")
    if not department or not task:
        context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"ScaledObject {reference.namespace}/{reference.name}: the trigger's metadata needs department and task",
        )
    return department, task
