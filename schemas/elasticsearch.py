"""Indices and their templates, made from the row models: how each topic looks in Elasticsearch."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidegate.schemas import topics
from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.topics import Index, RowTopic

TEMPLATE_VERSION = 7
"""Grows with every change of the templates; a test holds the templates' digest to it."""

TEMPLATE_PRIORITY = 500
"""Above Elasticsearch's own templates for names such as `metrics-*-*` (100)."""

IDENTITY = ("department", "task", "version", "replica")
"""What the indexer adds to a gateway's line: whose request it was and which replica it reached, as rows name them."""

OUTCOME = "outcome"
"""What else the indexer adds to a gateway's line: its outcome; null for a line that is no request."""

RAW_TIME = "@timestamp"
"""What the indexer adds to a raw line: when it happened, as a date that Elasticsearch can surely read.

A row has it as an alias of one of its own times, so that one name holds the time in every index.
"""

_KEYWORD_CHARACTERS = 1024
_DATE_FORMAT = "strict_date_optional_time||epoch_millis"


@dataclass(frozen=True)
class Features:
    """What this Elasticsearch can do beyond what every one can."""

    flattened: bool = True
    lifecycle: bool = False


@dataclass(frozen=True)
class IndexContract(Index):
    """How one topic's messages become documents: its `Index`, with the names that follow from the topic."""

    topic: RowTopic

    @property
    def moment(self) -> str | None:
        """The field of a row that holds the time it is about."""
        return self.moment_field or self.time_field

    @property
    def row(self) -> type[BaseModel]:
        """The model of one message."""
        return self.topic.row

    def alias(self, prefix: str) -> str:
        """The name to search under: the topic's, with dashes, below the configured prefix."""
        return prefix + self.topic.name.replace(".", "-")

    def index(self, prefix: str, day: date | None) -> str:
        """The index of one UTC day; of all time, where the contract has no time field."""
        if self.time_field is None:
            return self.alias(prefix)
        if day is None:
            raise ValueError(f"{self.topic.name}: its indices are daily, so a day is needed")
        return f"{self.alias(prefix)}-{day:%Y.%m.%d}"

    def pattern(self, prefix: str) -> str:
        """What the template matches, and never another topic's index whose name begins the same."""
        return self.alias(prefix) if self.time_field is None else f"{self.alias(prefix)}-*.*.*"


INDEX_CONTRACTS: tuple[IndexContract, ...] = tuple(
    IndexContract(topic, **vars(topic.index)) for topic in topics.ALL_TOPICS
)
"""Every topic's, in the registry's order."""


def kept_days(configured: Mapping[str, int]) -> dict[str, int]:
    """By topic that is indexed by day: how many days are kept beside today.

    configured: `elasticsearch.keep_days`, whose topics the settings have checked.
    """
    known = {one.topic.name: one.keep_days for one in INDEX_CONTRACTS if one.time_field is not None}
    return known | dict(configured)


def lifecycle_policy(keep_days: int) -> dict[str, Any]:
    """An ILM policy: an index is deleted so many days after the day that it was made for."""
    return {
        "_meta": {"managed_by": "tidegate"},
        "phases": {
            "hot": {"actions": {}},
            "delete": {"min_age": f"{keep_days + 1}d", "actions": {"delete": {}}},
        },
    }


def contract_of(name: str) -> IndexContract:
    """The contract of the topic with this name, without the topic prefix.

    Raises ValueError naming the topics that there are.
    """
    for contract in INDEX_CONTRACTS:
        if contract.topic.name == name:
            return contract
    known = ", ".join(contract.topic.name for contract in INDEX_CONTRACTS)
    raise ValueError(f"topic {name!r} is not one that tidegate indexes; there are {known}")


def index_sort(fields: Sequence[str]) -> dict[str, list[str]]:
    """Elasticsearch's `index.sort`; a minus before a field: the largest first."""
    return {
        "field": [name.removeprefix("-") for name in fields],
        "order": ["desc" if name.startswith("-") else "asc" for name in fields],
    }


def index_template(
    contract: IndexContract, elasticsearch: Elasticsearch, features: Features
) -> dict[str, Any]:
    """The body of the composable index template of one topic's indices."""
    settings: dict[str, Any] = {
        "number_of_shards": elasticsearch.topic_shards.get(contract.topic.name, elasticsearch.shards),
        "number_of_replicas": elasticsearch.replicas,
    }
    if elasticsearch.refresh_seconds is not None:
        settings["refresh_interval"] = f"{elasticsearch.refresh_seconds * 1000:.0f}ms"
    if elasticsearch.sorted_indices and contract.sort:
        settings["sort"] = index_sort(contract.sort)
    if contract.topic.name in elasticsearch.best_compression:
        settings["codec"] = "best_compression"
    if contract.raw:
        # Whatever a gateway writes, a field that can't be read is left out of the search, not the whole line.
        settings["mapping"] = {"ignore_malformed": True}
    if features.lifecycle and contract.time_field is not None:
        settings["lifecycle"] = {"name": contract.alias(elasticsearch.index_prefix)}
    aliases: dict[str, Any] = (
        {} if contract.time_field is None else {contract.alias(elasticsearch.index_prefix): {}}
    )
    return {
        "index_patterns": [contract.pattern(elasticsearch.index_prefix)],
        "priority": TEMPLATE_PRIORITY,
        "version": TEMPLATE_VERSION,
        "_meta": {"managed_by": "tidegate", "topic": contract.topic.name},
        "template": {
            "settings": {"index": settings},
            "mappings": mappings(contract, features),
            "aliases": aliases,
        },
    }


def mappings(contract: IndexContract, features: Features) -> dict[str, Any]:
    """The mappings of one topic's indices.

    Fields outside the model stay in the document and aren't searchable, so the number of fields is the
    model's, whatever arrives.
    """
    properties = _properties(contract.row, features)
    if contract.raw:
        properties[RAW_TIME] = {"type": "date", "format": _DATE_FORMAT}
    elif contract.moment:
        properties[RAW_TIME] = {"type": "alias", "path": contract.moment}
    if contract.gateway:
        properties |= {name: _of_type("keyword") for name in (*IDENTITY, OUTCOME)}
    return {"dynamic": False, "properties": properties}


def _properties(model: type[BaseModel], features: Features) -> dict[str, Any]:
    return {
        field.serialization_alias or name: _field(f"{model.__name__}.{name}", field, features)
        for name, field in model.model_fields.items()
    }


def _field(where: str, field: FieldInfo, features: Features) -> dict[str, Any]:
    hint = next((part for part in field.metadata if isinstance(part, IndexAs)), None)
    return _of_type(hint.type) if hint else _of_annotation(where, field.annotation, features)


def _of_annotation(where: str, annotation: Any, features: Features) -> dict[str, Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        hint = next((part for part in arguments[1:] if isinstance(part, IndexAs)), None)
        return _of_type(hint.type) if hint else _of_annotation(where, arguments[0], features)
    if origin in {dict, Mapping}:
        return _open_object(features)
    inner = _inner_types(origin, arguments)
    if len(inner) == 1:
        return _of_annotation(where, inner[0], features)
    if isinstance(annotation, type):
        return _of_class(where, annotation, features)
    raise TypeError(f"{where}: no Elasticsearch type for {annotation}; give one with IndexAs")


def _inner_types(origin: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """The types that decide: of an optional its other half, of literals theirs, of a list its members'."""
    if origin in {Union, types.UnionType}:
        return [argument for argument in arguments if argument is not type(None)]
    if origin is Literal:
        return list({type(argument) for argument in arguments})
    return [arguments[0]] if origin in {list, tuple, set, frozenset} else []


def _of_class(where: str, annotation: type, features: Features) -> dict[str, Any]:
    if issubclass(annotation, BaseModel):
        return {"type": "object", "dynamic": False, "properties": _properties(annotation, features)}
    for python_type, field_type in _TYPES.items():
        if issubclass(annotation, python_type):
            return _of_type(field_type)
    raise TypeError(f"{where}: no Elasticsearch type for {annotation.__name__}; give one with IndexAs")


_STORED: dict[str, Any] = {"type": "object", "enabled": False}
_TYPES: dict[type, str] = {bool: "boolean", int: "long", float: "double", str: "keyword", datetime: "date"}


def _of_type(field_type: str) -> dict[str, Any]:
    if field_type == "keyword":
        return {"type": "keyword", "ignore_above": _KEYWORD_CHARACTERS}
    if field_type == "date":
        return {"type": "date", "format": _DATE_FORMAT}
    return _STORED if field_type == "stored" else {"type": field_type}


def _open_object(features: Features) -> dict[str, Any]:
    """An object whose keys nobody knows beforehand: one field, however many keys come."""
    if features.flattened:
        return {"type": "flattened", "ignore_above": _KEYWORD_CHARACTERS}
    return _STORED
