"""Settings of what people look at: the lookup of requests, and the page."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tidegate.schemas.settings.base import Group, Port


class Lookup(Group):
    """`tidegate logs`, `tidegate trace`."""

    trace_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]*\{trace_id\}[^\s]*$",
        description="URL of a trace's page in Jaeger, Tempo or SkyWalking, with {trace_id} in it",
    )


class Ui(Group):
    """`tidegate ui`: a page to look at, without Grafana. It only reads, and has no authentication."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; beyond loopback, put an authenticating proxy in front"
    )
    port: Port = Field(8090, description="port to listen on; 0: any free one")
    source: Literal["auto", "elasticsearch", "kafka"] = Field(
        "auto",
        description="where rows are read; auto: Elasticsearch if it answers and has rows of 1 s, else Kafka",
    )
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost"), description="Host headers that are accepted; * for any"
    )
    kafka_minutes: int = Field(
        15, ge=1, le=1440, description="source kafka: how far back rows of 1 s are read at the start"
    )
    kafka_mib: int = Field(256, ge=16, le=65_536, description="source kafka: memory for rows, as JSON")
