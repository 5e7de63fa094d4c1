"""What `tidegate alerts test` reads: rows as short series, and which alerts are expected when. A YAML file.

    tests:
      - name: p99 over the SLO fires after two minutes
        input:
          - source: task-profile
            department: vision
            task: chat
            fields: {slo_p99_ms: "800x10"}
          - source: service-metrics.1m
            department: vision
            task: chat
            fields: {latency_p99_ms: "500x3 900x5 _x1 400x4", latency_count: "100x13"}
        expect:
          - {after_seconds: 240, alerts: []}
          - {after_seconds: 360, alerts: [{rule: latency-over-slo, task: chat, state: firing}]}

A series is values with how often each comes, one for each step; `_` is a step without a row.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tidegate.schemas import strict_yaml
from tidegate.schemas.alert_rules import ROWS, RowLevel, RulesError, Source
from tidegate.schemas.rows.signals import AlertState

STEP_SECONDS: dict[str, int] = {
    "service-metrics.1s": 1,
    "service-metrics.1m": 60,
    "resource-metrics.10s": 10,
    "resource-metrics.1m": 60,
    "task-profile": 5,
    "line-counts": 10,
}
_PART = re.compile(r"(?P<value>_|-?\d+(\.\d+)?)(x(?P<times>\d{1,6}))?")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Series(_Entry):
    """Rows of one source. A step is the source's own, unless step_seconds gives another."""

    source: Source
    department: str = "default"
    task: str | None = None
    replica: str | None = None
    row_level: RowLevel = "task"
    kind: str | None = None
    begin_seconds: Annotated[float, Field(ge=0)] = 0
    step_seconds: Annotated[float, Field(gt=0)] | None = None
    delay_seconds: Annotated[float, Field(ge=0)] = Field(0, description="a row comes so long after its end")
    fields: dict[str, str | int | float]

    @field_validator("fields")
    @classmethod
    def _are_series(cls, fields: dict[str, Any]) -> dict[str, Any]:
        for name, text in fields.items():
            values(text, name)
        return fields

    @property
    def step(self) -> float:
        """Seconds between two rows."""
        return self.step_seconds if self.step_seconds is not None else STEP_SECONDS[self.source]

    def rows(self) -> list[dict[str, float] | None]:
        """Each step's fields; None: no row. A series that is shorter keeps its last value."""
        found = {name: values(text, name) for name, text in self.fields.items()}
        length = max(len(series) for series in found.values())
        steps: list[dict[str, float] | None] = []
        for index in range(length):
            at = {name: series[min(index, len(series) - 1)] for name, series in found.items()}
            known = {name: value for name, value in at.items() if value is not None}
            steps.append(known if len(known) == len(at) else None)
        return steps


class Expected(_Entry):
    """An alert that must be there."""

    rule: str
    state: AlertState
    department: str | None = None
    task: str | None = None
    replica: str | None = None


class Expectation(_Entry):
    """What must be pending or firing at a moment: these, and no others. A resolved one must have just ended."""

    after_seconds: Annotated[float, Field(ge=0)]
    alerts: list[Expected]


class Test(_Entry):
    """One test."""

    __test__ = False  # for pytest

    name: str
    input: list[Series] = Field(min_length=1)
    expect: list[Expectation] = Field(min_length=1)


class Fixture(_Entry):
    """The file, as it is written."""

    tests: list[Test] = Field(min_length=1)


def load(path: Path) -> Fixture:
    """The tests in a file. Raises RulesError naming each thing that is wrong with its place."""
    try:
        return Fixture.model_validate(strict_yaml.parse(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: can't be read: {error}") from error
    except strict_yaml.NotYaml as error:
        raise RulesError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        raise RulesError("\n".join(f"{path}: {line}" for line in strict_yaml.explain(error))) from error


def values(text: str | int | float, name: str) -> list[float | None]:
    """A series' values, one for each step; None where there is no row. Raises ValueError."""
    found: list[float | None] = []
    for part in str(text).split():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{name}: {part!r} is no VALUE, VALUExTIMES, _ or _xTIMES")
        value = None if match["value"] == "_" else float(match["value"])
        found += [value] * int(match["times"] or 1)
    if not found:
        raise ValueError(f"{name}: an empty series")
    return found


def fields_of(source: Source) -> set[str]:
    """The fields that a series of this source may have."""
    return set(ROWS[source].model_fields)
