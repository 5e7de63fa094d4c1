"""What the recomputation depends on besides the lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.schemas.settings import Settings


@dataclass(frozen=True)
class OracleSettings:
    """The settings that change a row or a line's fate; the defaults are the product's."""

    service_prefix: str = "service-"
    departments: Mapping[str, str] = field(default_factory=dict)
    name_key: str = "upstream_cluster"
    name_pattern: str | None = None
    max_tasks_per_department: int = 5000
    watermark_delay_ms: int = 2000
    max_ahead_ms: int = 60_000
    apdex_target_ms: int = 500

    @classmethod
    def of(cls, settings: Settings) -> OracleSettings:
        """The same, from the product's settings."""
        return cls(
            service_prefix=settings.access_log.service_prefix,
            departments=settings.access_log.departments,
            name_key=settings.access_log.name_key,
            name_pattern=settings.access_log.name_pattern,
            max_tasks_per_department=settings.access_log.max_tasks_per_department,
            watermark_delay_ms=round(settings.service_metrics.watermark_delay_seconds * 1000),
            max_ahead_ms=round(settings.service_metrics.max_ahead_seconds * 1000),
            apdex_target_ms=settings.service_metrics.apdex_target_ms,
        )
