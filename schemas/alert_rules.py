"""Alert rules, a YAML file that people edit: the field, the threshold, how long it must hold, and the message.

    rules:
      - name: p99-over-slo
        level: interface
        source: service-metrics.1m
        when: {field: latency_p99_ms, op: ">", value: slo.p99_ms}
        resolve_value: 700
        for_seconds: 120
        severity: warning
        message: "p99 of {task} is {value:.0f} ms, more than {threshold:.0f}"
    burn_rates:
      - {name: error-budget, long_minutes: 60, short_minutes: 5, factor: 14.4, severity: critical, message: "..."}
    silences:
      - {rules: ["p99-*"], days: [sat, sun], begin: "22:00", end: "06:00", zone: Asia/Shanghai, reason: batch runs}

The whole file is read: all errors are reported at once, each with its place, and an invalid file changes nothing.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tidegate.schemas import strict_yaml
from tidegate.schemas.rows.accounting import LineCount, LineKind
from tidegate.schemas.rows.resources import ResourceMetricsRow, TaskProfile
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.rows.signals import Severity
from tidegate.schemas.timestamps import from_text
from tidegate.schemas.zones import Zone

SHIPPED = Path(__file__).parent / "alert_rules.yaml"
"""The rules that tidegate ships; docs/runbooks.md has a section for each."""

Source = Literal[
    "service-metrics.1s",
    "service-metrics.1m",
    "resource-metrics.10s",
    "resource-metrics.1m",
    "task-profile",
    "line-counts",
]
RuleLevel = Literal["interface", "hardware", "pipeline"]
Op = Literal[">", ">=", "<", "<=", "=="]
RowLevel = Literal["department", "task", "version", "replica"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SloField = Literal["slo.p99_ms", "slo.error_rate"]

ROWS: Mapping[str, type[BaseModel]] = {
    "service-metrics.1s": ServiceMetricsRow,
    "service-metrics.1m": ServiceMetricsRow,
    "resource-metrics.10s": ResourceMetricsRow,
    "resource-metrics.1m": ResourceMetricsRow,
    "task-profile": TaskProfile,
    "line-counts": LineCount,
}
COMPUTED: Mapping[str, str] = {
    "age_seconds": "how long after its window's end the row came into Kafka",
    "lines_per_minute": "source line-counts: growth of `lines` over the last minute",
}
"""Fields that a rule may look at beside the row's own."""
_ALWAYS = {"department", "task", "version", "replica", "value", "threshold"}
_DAYS = get_args(Day)
_OF_A_TIME = re.compile(r"(latency|first_byte)_(p\d+|avg|max)_ms")
_DEFAULT_SAMPLES = 20

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)]


class RulesError(Exception):
    """The rules can't be used. The message has a line for each thing that is wrong, with file and place."""


class _Entry(BaseModel):
    # Strict: YAML's `yes` is no number, and a number in quotes is a mistake.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Select(_Entry):
    """Whose rows are looked at, by globs. Empty: everybody's."""

    departments: list[str] = []
    tasks: list[str] = []
    kinds: list[str] = Field([], description="source line-counts: counted, late, dead, ...")

    def takes(self, department: str | None, task: str | None, kind: str | None) -> bool:
        """Whether a row is one of these."""
        return all(
            not globs or any(fnmatchcase(name or "", glob) for glob in globs)
            for globs, name in ((self.departments, department), (self.tasks, task), (self.kinds, kind))
        )


class When(_Entry):
    """The condition: a field of the row against a number, or against a promise of the task's SLO."""

    field: str
    op: Op
    value: Number | SloField
    factor: Number = Field(1.0, description="the promise is multiplied by it")


class Rule(_Entry):
    """One rule. `threshold` compares; for_seconds and keep_firing_seconds are of the rows' own time."""

    name: Name
    level: RuleLevel
    source: Source
    row_level: RowLevel = "task"
    select: Select = Select()
    when: When
    for_seconds: Seconds = 0
    resolve_value: Number | None = Field(
        None, description="a firing alert ends only beyond it; None: beyond when.value"
    )
    keep_firing_seconds: Seconds = Field(0, description="so long it must be well again to end")
    min_samples: int | None = Field(
        None,
        ge=0,
        description="of a row that counts: latency_count for a latency and first_byte_count for a first byte "
        "(default 20), else requests",
    )
    only_after_other: bool = Field(
        False,
        description="only where the condition has been false before: traffic that stops, not that never was",
    )
    severity: Severity = "warning"
    message: str = Field(min_length=1, max_length=500)
    runbook_url: str | None = Field(None, pattern=r"^\S+$")
    labels: dict[str, str] = {}

    @property
    def samples_field(self) -> str:
        """The field in which a row holds their number."""
        found = _OF_A_TIME.fullmatch(self.when.field)
        return "requests" if found is None else f"{found[1]}_count"

    @property
    def samples(self) -> int:
        """What a row needs of them to count."""
        if self.min_samples is not None:
            return self.min_samples
        return _DEFAULT_SAMPLES if _OF_A_TIME.fullmatch(self.when.field) else 0


class BurnRate(_Entry):
    """Two windows over a task's error budget: both must burn it so many times too fast.

    Google's Site Reliability Workbook, chapter 5: burn rate = error rate / budget. The long window shows that it
    matters, the short one that it goes on.
    """

    name: Name
    long_minutes: int = Field(ge=2, le=1440)
    short_minutes: int = Field(ge=1, le=1440)
    factor: Number = Field(gt=0)
    budget: Number | None = Field(None, gt=0, lt=1, description="None: the task's slo.error_rate")
    min_requests: int = Field(100, ge=1, description="in the short window")
    select: Select = Select()
    severity: Severity = "warning"
    message: str = Field(min_length=1, max_length=500)
    runbook_url: str | None = Field(None, pattern=r"^\S+$")
    labels: dict[str, str] = {}
    level: Literal["interface"] = "interface"

    @model_validator(mode="after")
    def _short_is_short(self) -> BurnRate:
        if self.short_minutes >= self.long_minutes:
            raise ValueError("short_minutes: must be less than long_minutes")
        return self


class Silence(_Entry):
    """When alerts are recorded and not sent: every week (days, begin, end), or once (since, until)."""

    rules: list[str] = Field(["*"], description="globs of rules' names")
    departments: list[str] = []
    tasks: list[str] = []
    days: list[Day] = []
    begin: str | None = Field(None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    end: str | None = Field(
        None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="before begin: of the next day"
    )
    zone: Zone = "UTC"
    since: str | None = Field(None, description="ISO 8601 with a time zone")
    until: str | None = None
    reason: str = Field(min_length=1, max_length=200)

    @field_validator("since", "until")
    @classmethod
    def _has_a_zone(cls, moment: str | None) -> str | None:
        if moment is not None:
            from_text(moment)
        return moment

    @model_validator(mode="after")
    def _one_form(self) -> Silence:
        weekly, once = (self.begin, self.end), (self.since, self.until)
        if (None in weekly) == (None in once):
            raise ValueError("begin and end (every week), or since and until (once): one pair of them")
        return self

    def covers(self, rule: str, department: str | None, task: str | None, moment: datetime) -> bool:
        """Whether this rule's alert of that task is silent at a moment."""
        if not any(fnmatchcase(rule, glob) for glob in self.rules):
            return False
        if not Select(departments=self.departments, tasks=self.tasks).takes(department, task, None):
            return False
        if self.since is not None and self.until is not None:
            return from_text(self.since) <= moment < from_text(self.until)
        local = moment.astimezone(ZoneInfo(self.zone))
        begin, end = time.fromisoformat(self.begin or ""), time.fromisoformat(self.end or "")
        now, today = local.time(), _DAYS[local.weekday()]
        days = self.days or list(_DAYS)
        if begin < end:
            return today in days and begin <= now < end
        yesterday = _DAYS[local.weekday() - 1]
        return (today in days and now >= begin) or (yesterday in days and now < end)


class RulesFile(_Entry):
    """The file, as it is written."""

    rules: list[Rule] = []
    burn_rates: list[BurnRate] = []
    silences: list[Silence] = []


def load(path: Path) -> RulesFile:
    """The rules in a file. Raises RulesError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{path}: can't be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> RulesFile:
    """The rules in a YAML text. where: what the messages call it. Raises RulesError."""
    try:
        written = strict_yaml.parse(text)
    except strict_yaml.NotYaml as error:
        raise RulesError(f"{where}: not YAML: {error}") from error
    try:
        file = RulesFile.model_validate({} if written is None else written)
    except ValidationError as error:
        raise RulesError("\n".join(f"{where}: {line}" for line in strict_yaml.explain(error))) from error
    if wrong := [f"{where}: {problem}" for problem in _problems(file)]:
        raise RulesError("\n".join(wrong))
    return file


def _problems(file: RulesFile) -> Iterator[str]:
    seen: dict[str, str] = {}
    named: list[tuple[str, Rule | BurnRate]] = [
        *((f"rules.{index}", rule) for index, rule in enumerate(file.rules)),
        *((f"burn_rates.{index}", rate) for index, rate in enumerate(file.burn_rates)),
    ]
    for place, entry in named:
        if (other := seen.setdefault(entry.name, place)) != place:
            yield f"{place}.name: {entry.name!r} is the name of {other} already"
        if isinstance(entry, Rule):
            yield from _problems_of(place, entry)
        known = _ALWAYS | (set(numbers(entry.source)) if isinstance(entry, Rule) else {"short", "long"})
        yield from _message_problems(place, entry.message, known)


def _problems_of(place: str, rule: Rule) -> Iterator[str]:
    fields = numbers(rule.source)
    if rule.when.field not in fields:
        yield (
            f"{place}.when.field: {rule.when.field!r} is not a number of {rule.source}; "
            f"there are {', '.join(sorted(fields))}"
        )
    if rule.source == "line-counts" and (
        len(rule.select.kinds) != 1 or set("*?[") & set(rule.select.kinds[0])
    ):
        yield f"{place}.select.kinds: source line-counts needs one kind, of {', '.join(get_args(LineKind))}"
    levels = _levels(rule.source)
    if rule.row_level not in levels:
        yield f"{place}.row_level: {rule.source} has {', '.join(levels)}, and no {rule.row_level}"
    wrong_side = rule.resolve_value is not None and (
        rule.when.op == "=="
        or (
            isinstance(rule.when.value, float | int)
            and (
                (rule.when.op.startswith(">") and rule.resolve_value > rule.when.value)
                or (rule.when.op.startswith("<") and rule.resolve_value < rule.when.value)
            )
        )
    )
    if wrong_side:
        yield (
            f"{place}.resolve_value: {rule.resolve_value:g} is on the wrong side of when "
            f"({rule.when.op} {rule.when.value}): an alert would end before it begins"
        )


def _message_problems(place: str, message: str, known: set[str]) -> Iterator[str]:
    try:
        named = [field for _, field, _, _ in string.Formatter().parse(message) if field is not None]
    except ValueError as error:
        yield f"{place}.message: {error}; a brace that is meant is written twice"
        return
    unknown = [field for field in named if field not in known]
    for field in unknown:
        yield f"{place}.message: {{{field}}} is unknown; there are {', '.join(sorted(known))}"
    if not unknown:
        texts = dict.fromkeys(("department", "task", "version", "replica"), "name")
        try:
            message.format(**dict.fromkeys(named, 1.0) | texts)
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            yield f"{place}.message: {error}"


def numbers(source: Source) -> list[str]:
    """The fields of a source that a rule may look at."""
    found = [
        name
        for name, field in ROWS[source].model_fields.items()
        if _is_number(field.annotation) and name != "traffic_window_seconds"
    ]
    return [*found, *(name for name in COMPUTED if name != "lines_per_minute" or source == "line-counts")]


def _levels(source: Source) -> tuple[str, ...]:
    if source.startswith("service"):
        return get_args(RowLevel)
    return ("task", "replica") if source.startswith("resource") else ("task",)


def _is_number(annotation: Any) -> bool:
    if annotation in (int, float):
        return True
    if get_origin(annotation) not in (Union, UnionType, Annotated):
        return False
    return any(_is_number(part) for part in get_args(annotation))
