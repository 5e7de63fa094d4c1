"""The limits of a gateway in the manager's API: JSON bodies with their bounds, for the manager and its clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tidegate.jobs.logic.istio.task_settings import Setting
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import SHORTEST_FILL_MS, TokenBucket

Revision = Annotated[
    int,
    Field(ge=1, le=2**53, description="grows with each change; repeating the same revision changes nothing"),
]
Tokens = Annotated[int, Field(ge=1, le=2**32 - 1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
MOST_LIMITS = 5000


class Bucket(Setting):
    """Envoy's token bucket: tokens_per_fill tokens are added in each interval, up to max_tokens."""

    max_tokens: Tokens
    tokens_per_fill: Tokens
    fill_interval_ms: Annotated[int, Field(ge=SHORTEST_FILL_MS, le=86_400_000)]

    def bucket(self) -> TokenBucket:
        """The bucket as a value of the logic."""
        return TokenBucket(self.max_tokens, self.tokens_per_fill, self.fill_interval_ms)


class LimitBody(Setting):
    """What each Envoy of a gateway admits for one task, and for each of its clients."""

    revision: Revision
    route: Name = Field(description="the name of the task's route in Envoy")
    bucket: Bucket
    client: Bucket | None = Field(
        None, description="of each client without its own bucket; null: unlimited within the task's bucket"
    )
    clients: dict[Annotated[str, Field(min_length=1, max_length=128)], Bucket] = Field(
        default_factory=dict, max_length=1000, description="the bucket of each named client"
    )

    def limit(self, key: TaskKey) -> Limit:
        """The limit as a value of the logic."""
        return Limit(
            key=key,
            route=self.route,
            revision=self.revision,
            bucket=self.bucket.bucket(),
            client=self.client.bucket() if self.client else None,
            clients={name: bucket.bucket() for name, bucket in self.clients.items()},
        )


class TaskLimitBody(LimitBody):
    """The limit of one task in a batch."""

    department: Name
    task: Name

    @property
    def key(self) -> TaskKey:
        """The task."""
        return TaskKey(self.department, self.task)


class LimitsBody(Setting):
    """The limits of several tasks, each with its own revision."""

    limits: tuple[TaskLimitBody, ...] = Field(strict=False, max_length=MOST_LIMITS)

    @model_validator(mode="after")
    def _each_task_once(self) -> LimitsBody:
        keys = [limit.key for limit in self.limits]
        if len(set(keys)) < len(keys):
            twice = sorted({str(key) for key in keys if keys.count(key) > 1})
            raise ValueError(f"limits: {', '.join(twice)} is given twice")
        return self


class LimitAnswer(BaseModel):
    """A limit that is in force."""

    model_config = ConfigDict(frozen=True)

    department: str
    task: str
    revision: int
    route: str
    bucket: Bucket
    client: Bucket | None
    clients: dict[str, Bucket]
    qps: float = Field(description="the sustained rate that one Envoy admits")


def answer_of(limit: Limit) -> LimitAnswer:
    """A limit as an answer."""
    return LimitAnswer(
        department=limit.key.department,
        task=limit.key.task,
        revision=limit.revision,
        route=limit.route,
        bucket=_shown(limit.bucket),
        client=_shown(limit.client) if limit.client else None,
        clients={name: _shown(bucket) for name, bucket in sorted(limit.clients.items())},
        qps=limit.bucket.qps,
    )


def body_of(limit: Limit) -> dict[str, Any]:
    """A limit as an element of a PUT's body."""
    shown = answer_of(limit).model_dump(mode="json")
    return {name: value for name, value in shown.items() if name != "qps"}


def limit_of(shown: Mapping[str, Any]) -> Limit:
    """The limit of an answer, also outside of the bounds. Raises KeyError, TypeError."""
    client = shown["client"]
    return Limit(
        key=TaskKey(shown["department"], shown["task"]),
        route=shown["route"],
        revision=shown["revision"],
        bucket=TokenBucket(**shown["bucket"]),
        client=None if client is None else TokenBucket(**client),
        clients={name: TokenBucket(**bucket) for name, bucket in shown["clients"].items()},
    )


def _shown(bucket: TokenBucket) -> Bucket:
    # A manual edit may be outside of the bounds, and is shown all the same.
    return Bucket.model_construct(**vars(bucket))
