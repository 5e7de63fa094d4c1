"""The Elasticsearch data source that the dashboards need: which indices, and which field says when."""

from __future__ import annotations

from tidegate.schemas.elasticsearch import INDEX_CONTRACTS, RAW_TIME

TIME_FIELD = RAW_TIME
FAMILIES = ("tidegate-*", "gateway-access-logs*", "inference-logs*", "kubernetes-*")
"""What the names of all indices begin with, below the prefix."""


def index_pattern(prefix: str) -> str:
    """The data source's indices: those of every topic, below the index prefix of the settings."""
    return ",".join(f"{prefix}{family}" for family in FAMILIES)


def outside(families: tuple[str, ...] = FAMILIES) -> list[str]:
    """Topics whose indices no family names: none, or the data source lacks something."""
    starts = tuple(family.rstrip("*") for family in families)
    return [one.topic.name for one in INDEX_CONTRACTS if not one.alias("").startswith(starts)]
