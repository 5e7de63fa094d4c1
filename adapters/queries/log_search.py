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
from tidegate.schemas.elasticsearch import RAW_TIME, contract_of
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.timestamps import from_text, to_text

MAX_SCANNED = 10_000
"""Elasticsearch's own limit of one answer (index.max_result_window)."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The least first."""

Kind = Literal["access", "service"]
_TOPICS: Mapping[Kind, topics.Topic] = {"access": topics.ACCESS_LOGS, "service": topics.INFERENCE_LOGS}
_STATUS = re.compile(r"(\d)xx|(\d{1,3})")


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

    statuses: such as 503 or 5xx. severity: at least this one. A status or a duration is a gateway's, a severity a
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
                any_of = [{"range": {"response_code": status_range(text)}} for text in self.statuses]
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


def status_range(text: str) -> dict[str, int]:
    """`5xx` or `503` as Elasticsearch's range. Raises ValueError for another form."""
    found = _STATUS.fullmatch(text.lower())
    if found is None:
        raise ValueError(f"{text!r} is not a valid status; use one such as 503 or 5xx")
    if found[2] is not None:
        return {"gte": int(found[2]), "lte": int(found[2])}
    return {"gte": 100 * int(found[1]), "lt": 100 * int(found[1]) + 100}


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
