"""Searches gateways' lines and services' records in Elasticsearch, newest first, and gives them oldest first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from elasticsearch import Elasticsearch as Client

from tidegate.jobs.logic.logs.fields import Severity
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import OUTCOME, RAW_TIME, contract_of
from tidegate.schemas.response_flags import Outcome
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.timestamps import from_text, to_text

MAX_SCANNED = 10_000
"""Elasticsearch's own limit of one answer (index.max_result_window)."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The least first."""

Kind = Literal["access", "service"]
_TOPICS: Mapping[Kind, topics.Topic] = {"access": topics.ACCESS_LOGS, "service": topics.INFERENCE_LOGS}
_CODE = re.compile(r"(\d)xx|(\d{1,3})")
_GRPC = re.compile(r"grpc:(\d{1,2}|\*)")
_OUTCOMES: Mapping[str, str] = {"4xx": "errors_4xx", "5xx": "errors_5xx"} | {
    name: name for name in get_args(Outcome)
}


@dataclass(frozen=True)
class LogLine:
    """One line or record as it is in Elasticsearch. key: its index and `_id`."""

    kind: Kind
    at: datetime
    fields: Mapping[str, Any]
    key: tuple[str, str]

    @property
    def text(self) -> str:
        """The text that is shown, and that `grep` searches."""
        if self.kind == "service":
            return str(self.fields.get("message", ""))
        return " ".join(str(value) for value in self.fields.values() if value not in (None, "-"))


@dataclass(frozen=True)
class LogQuery:
    """What to look for; what isn't given leaves nothing out.

    statuses: such as 503 (the HTTP status), 5xx or rate_limited (the outcome), grpc:14 or grpc:* (the gRPC status).
    severity: at least this one. A status or a duration is a gateway's, a severity a
    service's: given one of them, the other's lines are not looked for.
    """

    since: datetime
    until: datetime | None = None
    department: str | None = None
    task: str | None = None
    kind: Kind | None = None
    statuses: Sequence[str] = ()
    slower_than_ms: float | None = None
    severity: str | None = None
    grep: re.Pattern[str] | None = None
    more: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of lines that the other filters allow."""
        if self.kind is not None:
            return (self.kind,)
        if self.statuses or self.slower_than_ms is not None:
            return ("access",)
        return ("service",) if self.severity is not None else ("access", "service")

    def filters(self, kind: Kind) -> list[dict[str, Any]]:
        """The Elasticsearch query. Raises ValueError for an invalid status."""
        times = {"gte": to_text(self.since)} | ({} if self.until is None else {"lt": to_text(self.until)})
        found: list[dict[str, Any]] = [{"range": {RAW_TIME: times}}, *map(dict, self.more)]
        for name in ("department", "task"):
            if (value := getattr(self, name)) is not None:
                found.append({"term": {name: value}})
        if kind == "access":
            if self.statuses:
                any_of = [status_query(text) for text in self.statuses]
                found.append({"bool": {"should": any_of, "minimum_should_match": 1}})
            if self.slower_than_ms is not None:
                found.append({"range": {"duration": {"gt": self.slower_than_ms}}})
        elif self.severity is not None:
            least = SEVERITIES.index(self.severity)
            found.append({"terms": {"severity": list(SEVERITIES[least:])}})
        return found


@dataclass(frozen=True)
class Found:
    """Lines, oldest first. more: there are older ones that were not looked at."""

    lines: list[LogLine]
    more: bool


def status_query(text: str) -> dict[str, Any]:
    """`503`, `2xx`, `5xx`, `rate_limited` or `grpc:14` as Elasticsearch's query. Raises ValueError for another form.

    4xx and 5xx are outcomes, as in the metrics: of a line that an earlier release indexed, without one, the HTTP status
    decides.
    """
    lower = text.lower()
    outcome = _OUTCOMES.get(lower)
    code = _CODE.fullmatch(lower)
    if outcome is not None:
        by_outcome = {"term": {OUTCOME: outcome}}
        if code is None:
            return by_outcome
        without = {"must_not": [{"exists": {"field": OUTCOME}}], "filter": [_codes(code)]}
        return {"bool": {"should": [by_outcome, {"bool": without}], "minimum_should_match": 1}}
    if code is not None:
        return _codes(code)
    if (grpc := _GRPC.fullmatch(lower)) is not None:
        return (
            {"exists": {"field": "grpc_status"}}
            if grpc[1] == "*"
            else {"term": {"grpc_status": int(grpc[1])}}
        )
    raise ValueError(
        f"{text!r} is not a valid status; use an HTTP status (503), 2xx to 5xx, a gRPC status (grpc:14), or one of "
        + ", ".join(get_args(Outcome))
    )


def _codes(code: re.Match[str]) -> dict[str, Any]:
    hundreds, exact = code[1], code[2]
    limits = (
        {"gte": int(exact), "lte": int(exact)}
        if exact
        else {"gte": 100 * int(hundreds), "lt": 100 * int(hundreds) + 100}
    )
    return {"range": {"response_code": limits}}


def search(client: Client, elasticsearch: Elasticsearch, query: LogQuery, limit: int) -> Found:
    """The newest `limit` lines. With `grep`, of the newest MAX_SCANNED. Raises ApiError and TransportError."""
    lines: list[LogLine] = []
    more = False
    for kind in query.kinds:
        size = limit if query.grep is None else MAX_SCANNED
        found, cut = _newest(client, elasticsearch, kind, query.filters(kind), size)
        lines += found if query.grep is None else [one for one in found if query.grep.search(one.text)]
        more = more or cut
    lines.sort(key=lambda one: (one.at, one.key))
    return Found(lines[-limit:], more or len(lines) > limit)


def _newest(
    client: Client,
    elasticsearch: Elasticsearch,
    kind: Kind,
    filters: Iterable[Mapping[str, Any]],
    size: int,
) -> tuple[list[LogLine], bool]:
    answer = client.search(
        index=contract_of(_TOPICS[kind].name).alias(elasticsearch.index_prefix),
        body={
            "query": {"bool": {"filter": list(filters)}},
            "sort": [{RAW_TIME: {"order": "desc", "unmapped_type": "date"}}],
            "size": min(size, MAX_SCANNED),
            "track_total_hits": MAX_SCANNED + 1,
        },
        ignore_unavailable=True,
    ).body
    hits = answer["hits"]["hits"]
    return [_line(kind, hit) for hit in hits], answer["hits"]["total"]["value"] > len(hits)


def _line(kind: Kind, hit: Mapping[str, Any]) -> LogLine:
    fields = dict(hit["_source"])
    at = from_text(fields.pop(RAW_TIME))
    return LogLine(kind, at, fields, (hit["_index"], hit["_id"]))
