"""Turns a Kafka message into an Elasticsearch document, or a refusal with its reason. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from tidegate.jobs.logic.identity import name_of_line, of_cluster, replica_of_line
from tidegate.jobs.logic.logs.envelopes import opened
from tidegate.jobs.logic.outcome import grpc_status_of, outcome_of
from tidegate.schemas.elasticsearch import IDENTITY, OUTCOME, RAW_TIME, IndexContract
from tidegate.schemas.settings import AccessLog
from tidegate.schemas.timestamps import from_epoch_ms, from_text, line_epoch_ms, to_text

MAX_ID_BYTES = 512
"""The maximum: Elasticsearch rejects a whole bulk request for a longer `_id`."""

MAX_AGE = timedelta(days=400)
MAX_AHEAD = timedelta(days=1)
"""A raw line that claims to be older, or further ahead of when Kafka got it, is filed under Kafka's day.

So a gateway with a broken clock makes one index, not one for every day that it invents.
"""

_EARLIEST_YEAR = 1970


class Position(NamedTuple):
    """A message's position in Kafka. The topic's name includes the prefix."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


class Received(NamedTuple):
    """One message as it came. `timestamp_ms` is Kafka's, `header_id` the header `id` where there is one."""

    position: Position
    timestamp_ms: int
    value: bytes | None
    header_id: str | None = None


class Document(NamedTuple):
    """What is to be indexed: `body` is one line of JSON, `value` the message as it came."""

    position: Position
    index_name: str
    id: str
    body: bytes
    value: bytes


class Refusal(NamedTuple):
    """A message that can't be a document, and the reason."""

    position: Position
    value: bytes
    reason: str


class DocumentMaker:
    """Makes the documents of one topic."""

    def __init__(
        self, contract: IndexContract, index_prefix: str, access_log: AccessLog | None = None
    ) -> None:
        """access_log: how a gateway's clusters are read; None: by default."""
        self._contract = contract
        self._access_log = access_log or AccessLog()
        self._identity = lru_cache(maxsize=10_000)(lambda name: _identity(name, self._access_log))
        self._index = lru_cache(maxsize=64)(lambda day: contract.index(index_prefix, day))

    def make(self, message: Received) -> Document | Refusal | None:
        """The document, or a refusal; None for a tombstone (a message without a value)."""
        if message.value is None:
            return None
        try:
            content = orjson.loads(opened(message.value) if self._contract.gateway else message.value)
        except orjson.JSONDecodeError as error:
            return Refusal(message.position, message.value, f"value: not JSON ({error})")
        if not isinstance(content, dict):
            return Refusal(message.position, message.value, "value: not a JSON object")
        if self._contract.raw:
            return self._raw_line(message, message.value, content)
        return self._row(message, message.value, content)

    def _row(self, message: Received, value: bytes, row: dict[str, Any]) -> Document | Refusal:
        row_id = row.get("id")
        if not isinstance(row_id, str) or not row_id:
            return Refusal(message.position, value, "id: missing, or not a text")
        day: date | None = None
        field = self._contract.time_field
        if field is not None:
            moment = read_time(row.get(field))
            if moment is None:
                return Refusal(
                    message.position, value, f"{field}: missing, or not an ISO 8601 time with a zone"
                )
            day = moment.date()
        return Document(message.position, self._index(day), document_id(row_id), orjson.dumps(row), value)

    def _raw_line(self, message: Received, value: bytes, line: dict[str, Any]) -> Document:
        moment = self._line_time(message, line)
        for key in self._contract.numbers:
            if line.get(key) == "-":
                del line[key]
        if self._contract.gateway:
            line[OUTCOME] = outcome_of(line)
            if (status := grpc_status_of(line.get("grpc_status"))) is not None:
                line["grpc_status"] = status  # a name isn't searchable as the number that it stands for
            replica = replica_of_line(line)
            line |= dict(
                zip(IDENTITY, (*self._identity(name_of_line(line, self._access_log)), replica), strict=True)
            )
        line[RAW_TIME] = to_text(moment)
        line_id = message.header_id or str(message.position)
        return Document(
            message.position, self._index(moment.date()), document_id(line_id), orjson.dumps(line), value
        )

    def _line_time(self, message: Received, line: dict[str, Any]) -> datetime:
        received = from_epoch_ms(max(0, message.timestamp_ms))
        claimed_ms = line_epoch_ms(line.get(self._contract.time_field or ""))
        claimed = None if claimed_ms is None or claimed_ms < 0 else from_epoch_ms(claimed_ms)
        if claimed is None or not received - MAX_AGE <= claimed <= received + MAX_AHEAD:
            return received
        return claimed


def _identity(name: str | None, settings: AccessLog) -> tuple[str, str, str | None]:
    """Department, task and version of a gateway's line, by what names them."""
    found = of_cluster(name, settings)
    return (*found.identity, found.version)


def document_id(text: str) -> str:
    """The `_id`: the text itself, or its SHA-256 if it is longer than Elasticsearch allows."""
    if len(text) * 4 <= MAX_ID_BYTES:
        return text
    encoded = text.encode("utf-8", "surrogatepass")
    return text if len(encoded) <= MAX_ID_BYTES else f"sha256:{sha256(encoded).hexdigest()}"


def read_time(value: object) -> datetime | None:
    """The UTC moment of an ISO 8601 text with a zone, from 1970 on; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = from_text(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment.year >= _EARLIEST_YEAR else None
