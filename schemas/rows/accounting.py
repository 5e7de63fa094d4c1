"""The rows that account for every input: refused ones as dead letters, and how many lines met each fate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.rows.base import Count, Row
from tidegate.schemas.timestamps import Timestamp

LineKind = Literal["counted", "late", "dead", "skipped", "tcp", "folded"]


class DeadLetter(Row):
    """An input that could not be read (topic `tidegate.dead-letters`).

    A line that never reached Kafka (the shipper's) has the topic it was meant for, and no partition and offset.
    """

    id: str = Field(description="topic-partition-offset|writer: a second writer's refusal is another letter")
    topic: str
    partition: int | None
    offset: int | None
    reason: Annotated[str, IndexAs("text")] = Field(
        description="what was wrong, starting with the field or the part"
    )
    excerpt: Annotated[str, IndexAs("text")] = Field(description="the first characters of the input")
    seen_at: Timestamp


class LineCount(Row):
    """How many lines met one fate, since the job's state began (compacted, keyed by kind).

    The first five kinds add up to the lines that the job has read from the topic, less those of seconds that are
    open. `skipped` are periodic lines and `tcp` those of TCP connections: neither is a request. `folded` is a part
    of `counted`: the lines whose department, task or version went into `__overflow__`.
    """

    id: str = Field(description="topic|kind")
    topic: str
    kind: LineKind
    lines: Count
    names: tuple[str, ...] | None = Field(
        None,
        description="kind folded: the first 20 names that went into __overflow__, as the gateway has them, or "
        "department/task of a task past max_tasks_per_department; null for other kinds",
    )
    updated_at: Timestamp
