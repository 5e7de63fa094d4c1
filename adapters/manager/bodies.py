"""The manager's JSON bodies, which the OpenAPI page shows with their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tidegate.jobs.logic.istio.task_settings import (
    CircuitBreakerSetting,
    GatewaySetting,
    RetriesSetting,
    RouteSetting,
    Setting,
    TimeoutSetting,
    VersionsSetting,
)
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


class TimeoutBody(TimeoutSetting):
    """A timeout and its revision."""

    revision: Revision


class RetriesBody(RetriesSetting):
    """Retries and their revision."""

    revision: Revision


class CircuitBreakerBody(CircuitBreakerSetting):
    """A circuit breaker and its revision."""

    revision: Revision


class VersionsBody(VersionsSetting):
    """The weights of all versions, and their revision."""

    revision: Revision


class RouteBody(RouteSetting):
    """A route and its revision."""

    revision: Revision


class GatewayBody(GatewaySetting):
    """A gateway assignment and its revision."""

    revision: Revision


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LimitAnswer(_Answer):
    """A limit that is in force."""

    department: str
    task: str
    revision: int
    route: str
    bucket: Bucket
    client: Bucket | None
    clients: dict[str, Bucket]
    qps: float = Field(description="the sustained rate that one Envoy admits")


class LimitsAnswer(_Answer):
    """All limits of a gateway that are in force."""

    gateway: str
    limits: list[LimitAnswer]


class LimitChanged(_Answer):
    """The outcome of a PUT. In a dry run, `applied` means that it would be applied."""

    outcome: Literal["applied", "unchanged"]
    dry_run: bool
    limit: LimitAnswer


class NotTakenAnswer(_Answer):
    """A limit that was rejected. revision: that of the limit in force."""

    department: str
    task: str
    reason: str
    revision: int | None


class LimitsChanged(_Answer):
    """The outcome of a PUT of several limits."""

    dry_run: bool
    applied: int
    unchanged: int
    refused: list[NotTakenAnswer]


class SettingAnswer(_Answer):
    """A setting: as it was set (null: never), and as Kubernetes has it (null: absent, or no possible setting)."""

    revision: int | None
    was_set: dict[str, Any] | None
    in_force: dict[str, Any] | None
    drifted: bool = Field(
        description="the setting was changed outside of the manager; the next PUT restores it"
    )


class SettingChanged(_Answer):
    """The outcome of a PUT. In a dry run, `applied` means that it would be applied."""

    outcome: Literal["applied", "unchanged"]
    dry_run: bool
    revision: int
    before: dict[str, Any] | None
    after: dict[str, Any]


class FieldProblem(_Answer):
    """A field that is not valid."""

    field: str
    reason: str


class Problem(_Answer):
    """Why a request was rejected or failed."""

    reason: str
    revision: int | None = Field(None, description="the revision in force, if it is newer")
    in_force: dict[str, Any] | None = None
    fields: list[FieldProblem] = []


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
