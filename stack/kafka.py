"""Kafka: one node that is broker and controller (KRaft)."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tidegate.artifacts import coordinates, maven
from tidegate.artifacts.jvm import java
from tidegate.schemas.settings import Settings
from tidegate.stack.ports import HOST, answers
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place, UsualFolder, run_tool

_LOG4J = """\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1.} - %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""

_quiet = logging.getLogger("tidegate.stack.kafka.client")
_quiet.setLevel(logging.CRITICAL)  # a broker that isn't up yet is expected


class KafkaServer(UsualFolder):
    """The broker. Its data stays in the state folder."""

    name = "kafka"

    def __init__(self, settings: Settings) -> None:
        self._heap_mib = settings.stack.kafka_heap_mib
        self._port = settings.stack.kafka_port

    @property
    def ports(self) -> Mapping[str, int]:
        """One for clients, one for the controller."""
        return {"clients": self._port, "controller": 0}

    def prepare(self, place: Place) -> Launch:
        """Format the data folder the first time."""
        config = place.folder / "server.properties"
        config.write_text(_properties(place))
        (place.folder / "log4j2.properties").write_text(_LOG4J)
        java_command = (
            str(java()),
            f"-Xmx{self._heap_mib}m",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={place.folder / 'log4j2.properties'}",
            "-cp",
            ":".join(str(jar) for jar in maven.classpath(*coordinates.KAFKA)),
        )
        if not (_data(place) / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
            tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config))
            run_tool(Launch((*java_command, *tool), place.folder), "formatting Kafka's data folder")
        return Launch((*java_command, "kafka.Kafka", str(config)), place.folder)

    def problem(self, place: Place) -> str | None:
        """Ready when a client gets the list of topics."""
        if not answers(place.ports["clients"]):
            return "its port isn't open yet"
        client = AdminClient({"bootstrap.servers": _bootstrap(place)}, logger=_quiet)
        try:
            client.list_topics(timeout=1)
        except KafkaException as error:
            return f"it doesn't answer yet: {error.args[0].str()}"
        return None

    def addresses(self, place: Place) -> dict[str, str]:
        """The bootstrap server."""
        return {"bootstrap server": _bootstrap(place)}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """`kafka.bootstrap_servers`."""
        return {"kafka": {"bootstrap_servers": _bootstrap(place)}}


def _bootstrap(place: Place) -> str:
    return f"{HOST}:{place.ports['clients']}"


def _data(place: Place) -> Path:
    return place.folder / "data"


def _properties(place: Place) -> str:
    clients, controller = place.ports["clients"], place.ports["controller"]
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{clients},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{clients}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(_data(place)),
        # Each component creates its topics with their retention and cleanup policy; a misspelt name must fail.
        "auto.create.topics.enable": "false",
        "num.network.threads": "2",
        "num.io.threads": "4",
        # Replication for a single node, and few partitions, so that the first consumer needn't wait for 50 of them.
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # The default buffer, 128 MiB, would be a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())
