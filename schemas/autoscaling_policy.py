"""How a task is scaled: `autoscaling` of its entry in the catalog, of its department's defaults, or of all tasks'.

autoscaling:
  min_replicas: 2
  max_replicas: 40
  targets: {qps_per_replica: 8, gpu_utilization_ratio: 0.7}
  schedules:
    - {name: working hours, begin: "0 8 * * mon-fri", end: "0 20 * * mon-fri", zone: Asia/Shanghai, min_replicas: 10}
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tidegate.schemas.zones import Zone

Replicas = Annotated[int, Field(ge=0, le=10_000)]
Target = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[int, Field(ge=0, le=3600)]


class _Entry(BaseModel):
    # Strict: YAML's `yes` is no number, and a number in quotes is a mistake.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Targets(_Entry):
    """What each replica should take, or use. The signal that asks for most replicas wins."""

    qps_per_replica: Target | None = Field(
        None, description="offered requests/s, those that are limited included"
    )
    cpu_of_limit_ratio: Ratio | None = None
    gpu_utilization_ratio: Ratio | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Targets:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(f"one of {', '.join(type(self).model_fields)} is needed")
        return self


class Direction(_Entry):
    """As an HPA's behavior: of replicas and percent the larger change is allowed in each period."""

    stabilization_seconds: Seconds
    step_replicas: Annotated[int, Field(ge=0)]
    step_percent: Annotated[int, Field(ge=0)]
    period_seconds: Annotated[int, Field(ge=1, le=1800)] = 15


class Schedule(_Entry):
    """A floor for some hours: from each moment of `begin` to the next of `end` (cron, five fields)."""

    name: str = Field(min_length=1, max_length=63)
    begin: str
    end: str
    zone: Zone = "UTC"
    min_replicas: Replicas

    @field_validator("begin", "end")
    @classmethod
    def _is_cron(cls, text: str) -> str:
        try:
            next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                f"{text!r} is not a cron expression of minute, hour, day, month, weekday: {error}"
            ) from error
        return text

    def holds(self, moment: datetime) -> bool:
        """Whether it holds at a moment: it began more recently than it ended."""
        local = moment.astimezone(ZoneInfo(self.zone))
        began = next(CronSim(self.begin, local, reverse=True), None)
        ended = next(CronSim(self.end, local, reverse=True), None)
        return began is not None and (ended is None or began > ended)


class AutoscalingPolicy(_Entry):
    """How one task is scaled. The defaults are an HPA's."""

    min_replicas: Replicas = 1
    max_replicas: Annotated[int, Field(ge=1, le=10_000)]
    targets: Targets
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.1
    panic_threshold: Annotated[float, Field(gt=1)] = Field(
        2.0, description="so many times the target in the last seconds is sudden load"
    )
    panic_seconds: Seconds = Field(60, description="so long after it nothing is scaled down")
    scale_up: Direction = Direction(stabilization_seconds=0, step_replicas=4, step_percent=100)
    scale_down: Direction = Direction(stabilization_seconds=300, step_replicas=0, step_percent=100)
    schedules: list[Schedule] = []

    @model_validator(mode="after")
    def _range_is_one(self) -> AutoscalingPolicy:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is below min_replicas, {self.min_replicas}")
        for schedule in self.schedules:
            if schedule.min_replicas > self.max_replicas:
                raise ValueError(
                    f"schedules: {schedule.name!r} asks for {schedule.min_replicas}, more than max_replicas"
                )
        return self


_DIRECTIONS = ("scale_up", "scale_down")


def merged_block(*blocks: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The block with each field from the first of these that sets it; None where none is given.

    `scale_up` and `scale_down` are merged by their fields too, down to the policy's own defaults. `targets` and
    `schedules` count whole: a task must be able to do without a target of its department.
    """
    if all(block is None for block in blocks):
        return None
    whole: dict[str, Any] = {}
    for block in reversed(blocks):
        for name, value in (block or {}).items():
            if value is None:
                continue
            if name in _DIRECTIONS and isinstance(value, Mapping):
                before = whole.get(name, AutoscalingPolicy.model_fields[name].default.model_dump())
                whole[name] = before | {key: part for key, part in value.items() if part is not None}
            else:
                whole[name] = value
    return whole


def part_of_policy(block: Mapping[str, Any]) -> AutoscalingPolicy:
    """The policy with this block, where what has no default is set elsewhere. Raises ValidationError."""
    return AutoscalingPolicy.model_validate(
        merged_block(block, {"max_replicas": 10_000, "targets": {"qps_per_replica": 1.0}})
    )
