"""All settings, grouped by what they govern.

Defaults < the running local stack < `tidegate.toml` < environment `TIDEGATE_GROUP__NAME` < command line.
Loaded and validated whole, once, at the start: all errors are reported at once. Every field has a description:
`tidegate settings` prints it, and docs/settings.md is made from it.
"""

from __future__ import annotations

from tidegate.schemas.settings.access_log import AccessLog
from tidegate.schemas.settings.elasticsearch import Elasticsearch, Indexer
from tidegate.schemas.settings.jobs import Flink, ServiceMetrics
from tidegate.schemas.settings.kafka import Kafka
from tidegate.schemas.settings.loading import (
    CONFIG_FILE,
    STACK_FILE,
    Layer,
    Settings,
    SettingsError,
    load,
    load_layers,
)
from tidegate.schemas.settings.shipping import LOG_PLACES, ServiceLogs, Shipper
from tidegate.schemas.settings.stack import Stack
from tidegate.schemas.settings.ui import Lookup, Ui

__all__ = [
    "CONFIG_FILE",
    "LOG_PLACES",
    "STACK_FILE",
    "AccessLog",
    "Elasticsearch",
    "Flink",
    "Indexer",
    "Kafka",
    "Layer",
    "Lookup",
    "ServiceLogs",
    "ServiceMetrics",
    "Settings",
    "SettingsError",
    "Shipper",
    "Stack",
    "Ui",
    "load",
    "load_layers",
]
