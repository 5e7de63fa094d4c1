"""Builders of the closed loop's rows: a test names only what it is about. Times are epoch milliseconds."""

from __future__ import annotations

from tidegate.schemas.rows.limits import GatewayRow, Replica, ReplicasRow, Source
from tidegate.schemas.timestamps import from_epoch_ms


def replicas_row(
    at_ms: int,
    ready: int,
    *,
    starting: int = 0,
    department: str = "vision",
    task: str = "chat",
    source: Source = "kubernetes",
) -> ReplicasRow:
    """So many ready pods, as a source saw them at this moment."""
    states = ["ready"] * ready + ["starting"] * starting
    return ReplicasRow(
        id=f"{department}|{task}|{source}",
        department=department,
        task=task,
        workload=f"{department}/service-{task}",
        source=source,
        replicas_ready=ready,
        replicas_starting=starting,
        replicas_terminating=0,
        replicas=tuple(
            Replica.model_validate({"name": f"{task}-{index}", "address": None, "state": state})
            for index, state in enumerate(states)
        ),
        observed_at=from_epoch_ms(at_ms),
    )


def gateway_row(at_ms: int, ready: int, gateway: str = "vision-gateway") -> GatewayRow:
    """So many ready pods of a gateway."""
    return GatewayRow(
        id=f"{gateway}|kubernetes",
        gateway=gateway,
        source="kubernetes",
        gateways_ready=ready,
        gateways=tuple(f"{gateway}-{index}" for index in range(ready)),
        observed_at=from_epoch_ms(at_ms),
    )
