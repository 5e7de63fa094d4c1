"""Settings of the shippers: the gateway's log, and the services' logs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tidegate.schemas.settings.base import Group, Seconds


class Shipper(Group):
    """`tidegate ship`: files to Kafka."""

    files: tuple[str, ...] = Field((), description="glob patterns of the log files to follow")
    state_dir: Path | None = Field(
        None, description="folder of the offsets; default: ship in stack.state_dir"
    )
    max_line_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=67_108_864,
        description="longest line that is sent; a longer one is a dead letter",
    )
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = Field(
        "lz4", description="compression of the producer's batches"
    )
    linger_ms: int = Field(50, ge=0, le=10_000, description="how long a batch waits for further lines")
    batch_bytes: int = Field(1_000_000, ge=1024, description="size at which a batch is sent at once")
    buffer_mib: int = Field(
        64,
        ge=4,
        le=2048,
        description="lines in memory that Kafka has not acknowledged yet; then reading waits",
    )
    poll_ms: int = Field(
        100, ge=1, le=60_000, description="interval at which a file is checked for new lines"
    )
    rotated_wait_seconds: Seconds = Field(
        5, description="a rotated file that has not grown for so long is complete"
    )
    flush_seconds: Seconds = Field(
        10, description="at the end: how long Kafka may take to acknowledge the last lines"
    )


_PLACE = re.compile(r"\{([a-z_]*)\}")
LOG_PLACES = ("department", "namespace", "task", "pod", "replica", "any")


class ServiceLogs(Group):
    """`tidegate ship --services`: the logs of the services to Kafka. How it is sent is as of `shipper`."""

    files: tuple[str, ...] = Field(
        (),
        description=f"glob patterns of the log files; {{{'}, {'.join(LOG_PLACES)}}} in them give the log's task",
    )
    state_dir: Path | None = Field(
        None, description="folder of the offsets; default: ship-services in stack.state_dir"
    )
    record_wait_seconds: Seconds = Field(
        1, description="a file's last record is complete when the file has not grown for so long"
    )

    @field_validator("files")
    @classmethod
    def _names_a_task(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in files:
            places = set(_PLACE.findall(pattern))
            if unknown := places - set(LOG_PLACES):
                raise ValueError(f"{pattern!r}: {{{min(unknown)}}} is none of {', '.join(LOG_PLACES)}")
            if not places & {"task", "pod"} or not places & {"department", "namespace"}:
                raise ValueError(
                    f"{pattern!r} must have {{task}} or {{pod}}, and {{department}} or {{namespace}}, "
                    "so that it is known whose log it is"
                )
        return files
