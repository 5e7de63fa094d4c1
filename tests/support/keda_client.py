"""A gRPC client generated from a .proto file: calls the scaler as KEDA does, and prints what it gets as JSON.

    python keda_client.py PROTO ADDRESS DEPARTMENT TASK

In a process of its own, since one process can't hold two definitions of the same service.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc


def stubs(proto: Path) -> tuple[Any, Any]:
    """The modules that protoc makes of the file."""
    folder = tempfile.mkdtemp()
    arguments = (f"-I{proto.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", proto.name)
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit(f"{proto} can't be compiled")
    sys.path.insert(0, folder)
    return importlib.import_module(f"{proto.stem}_pb2"), importlib.import_module(f"{proto.stem}_pb2_grpc")


def called(call: Any, *arguments: Any) -> Any:
    """The answer, or the error's code and text."""
    try:
        return call(*arguments, timeout=10)
    except grpc.RpcError as error:
        return {"error": error.code().name, "text": error.details()}


def main(proto: str, address: str, department: str, task: str) -> None:
    """Call everything once."""
    pb2, pb2_grpc = stubs(Path(proto))
    channel = grpc.insecure_channel(address)
    client = pb2_grpc.ExternalScalerStub(channel)
    metadata = {"department": department, "task": task} if department else {}
    reference = pb2.ScaledObjectRef(name="chat", namespace="vision", scalerMetadata=metadata)
    active = called(client.IsActive, reference)
    spec = called(client.GetMetricSpec, reference)
    metrics = called(
        client.GetMetrics,
        pb2.GetMetricsRequest(scaledObjectRef=reference, metricName="tidegate-desired-replicas"),
    )
    stream = client.StreamIsActive(reference, timeout=10)
    try:
        first: Any = next(stream).result
        stream.cancel()
    except grpc.RpcError as error:
        first = {"error": error.code().name}
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    reported = {
        "active": active if isinstance(active, dict) else active.result,
        "spec": spec
        if isinstance(spec, dict)
        else [(one.metricName, one.targetSize, one.targetSizeFloat) for one in spec.metricSpecs],
        "metrics": metrics
        if isinstance(metrics, dict)
        else [(one.metricName, one.metricValue, one.metricValueFloat) for one in metrics.metricValues],
        "stream": first,
        "health": health_pb2.HealthCheckResponse.ServingStatus.Name(health.status),
    }
    sys.stdout.write(json.dumps(reported) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
