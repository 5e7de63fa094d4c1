"""Starts the real servers (Kafka, Elasticsearch, Flink, Envoy) on one machine, without Docker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.schemas.settings import Settings
    from tidegate.stack.local import LocalStack, PhaseChange
    from tidegate.stack.server import Server


def local_stack(settings: Settings, report: Callable[[PhaseChange], None] | None = None) -> LocalStack:
    """The local servers of `settings.stack.state_dir`; starts nothing yet.

    report: called with each phase change while servers start and stop.
    """
    # The servers' modules import clients and psutil, which a command that only imports this package doesn't need.
    from tidegate.stack.elasticsearch import ElasticsearchServer  # noqa: PLC0415
    from tidegate.stack.envoy import EnvoyServer  # noqa: PLC0415
    from tidegate.stack.flink import FlinkJobManager, FlinkTaskManager  # noqa: PLC0415
    from tidegate.stack.kafka import KafkaServer  # noqa: PLC0415
    from tidegate.stack.local import LocalStack  # noqa: PLC0415

    servers: list[Server] = [
        KafkaServer(settings),
        ElasticsearchServer(settings),
        FlinkJobManager(settings),
        FlinkTaskManager(settings),
        EnvoyServer(settings),
    ]
    return LocalStack(settings, servers) if report is None else LocalStack(settings, servers, report)
