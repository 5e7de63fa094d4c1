"""The dashboards' uids. They stay, so that links and bookmarks do."""

from __future__ import annotations

OVERVIEW = "tidegate-overview"
DEPARTMENT = "tidegate-department"
TASK = "tidegate-task"
REPLICA = "tidegate-replica"
RATE_LIMITING = "tidegate-rate-limiting"
RESOURCES = "tidegate-resources"
ALERTS = "tidegate-alerts"
CALL_STATISTICS = "tidegate-call-statistics"
LOGS = "tidegate-logs"
PIPELINE_HEALTH = "tidegate-pipeline-health"
