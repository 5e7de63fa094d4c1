"""Settings of Elasticsearch and of the indexer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from tidegate.schemas import topics
from tidegate.schemas.settings.base import Group, Seconds
from tidegate.schemas.topics import ACCESS_LOGS, INFERENCE_LOGS, LATE

_Named = TypeVar("_Named", dict[str, int], tuple[str, ...])
Shards = Annotated[int, Field(ge=1, le=1024)]


class Elasticsearch(Group):
    """How to reach Elasticsearch, and how its indices are named."""

    url: str = Field(
        "http://127.0.0.1:9200", pattern=r"^https?://[^\s]+$", description="address of the server"
    )
    username: str | None = Field(None, description="user of HTTP basic authentication; default: none")
    password: SecretStr | None = Field(
        None, description="the user's password; from the environment or password_file only"
    )
    password_file: Path | None = Field(None, description="file that holds the user's password")
    ca_file: Path | None = Field(None, description="PEM file of the server's certificate authority")
    index_prefix: str = Field(
        "", pattern=r"^[a-z0-9._-]{0,100}$", description="prefix of every index' and template's name"
    )
    shards: Shards = Field(1, description="primary shards of each index")
    topic_shards: dict[str, Shards] = Field(
        default_factory=dict, description="primary shards by topic, instead of shards"
    )
    replicas: int = Field(0, ge=0, le=10, description="replicas of each shard")
    refresh_seconds: Seconds | None = Field(
        None, description="interval at which new documents become searchable; default: the server's, 1 s"
    )
    best_compression: tuple[str, ...] = Field(
        (ACCESS_LOGS.name, INFERENCE_LOGS.name, LATE.name),
        description="topics whose indices use the codec best_compression: a quarter to a third smaller, slower to read",
    )
    sorted_indices: bool = Field(
        True,
        description="index sorting of new indices: rows by level, task, replica and time, logs by task, newest first",
    )
    keep_days: dict[str, Annotated[int, Field(ge=1, le=36_500)]] = Field(
        default_factory=dict,
        description="retention by topic, in days beside today, instead of the topic's default",
    )

    @field_validator("topic_shards", "best_compression", "keep_days")
    @classmethod
    def _known_topics(cls, named: _Named, info: ValidationInfo) -> _Named:
        topics.require_indexed(named, by_day=info.field_name == "keep_days")
        return named

    def basic_auth(self) -> tuple[str, str] | None:
        """User and password, or None where no user is set."""
        if self.username is None:
            return None
        secret = self.password.get_secret_value() if self.password else ""
        if self.password is None and self.password_file:
            secret = self.password_file.read_text().strip()
        return self.username, secret


class Indexer(Group):
    """`tidegate index`: topics to Elasticsearch."""

    consumer_group: str = Field(
        "tidegate-indexer", min_length=1, description="Kafka consumer group of the indexer"
    )
    bulk_documents: int = Field(2000, ge=1, le=100_000, description="most documents of a bulk request")
    bulk_bytes: int = Field(8_388_608, ge=1024, description="size at which a bulk request is sent at once")
    flush_ms: int = Field(500, ge=10, le=60_000, description="longest wait before a bulk request is sent")
    max_backoff_seconds: Seconds = Field(
        30, description="longest delay between attempts while Elasticsearch is down or overloaded"
    )
    request_timeout_seconds: Seconds = Field(30, description="timeout of a request to Elasticsearch")
