"""The job on the local Flink cluster, seen through Flink's REST address."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

_ENDED_BADLY = {"FAILING", "FAILED", "CANCELED", "CANCELLING", "SUSPENDED"}


def running(rest_address: str) -> bool:
    """Whether a job runs with all of its tasks. False while Flink doesn't answer."""
    jobs = _jobs(rest_address)
    return any(
        job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"] > 0 for job in jobs
    )


def problem(rest_address: str) -> str | None:
    """Why the job has ended, by Flink's own words; None while it runs, restarts, or Flink doesn't answer."""
    for job in _jobs(rest_address):
        if job["state"] in _ENDED_BADLY:
            told = _get(rest_address, f"/jobs/{job['jid']}/exceptions?maxExceptions=1") or {}
            entries = told.get("exceptionHistory", {}).get("entries", [])
            cause = causes(entries[0]["stacktrace"]) if entries else "Flink gives no reason"
            return f"the job {job['name']} is {job['state']}: {cause}"
    return None


def causes(stack_trace: str) -> str:
    """What a Java stack trace says without where: its first line, and each cause's."""
    first, *rest = stack_trace.strip().splitlines()
    return "\n".join([first, *(line for line in rest if line.startswith("Caused by: "))])


def _jobs(rest_address: str) -> list[dict[str, Any]]:
    answer = _get(rest_address, "/jobs/overview")
    return list(answer["jobs"]) if answer else []


def _get(rest_address: str, path: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{rest_address}{path}", timeout=2) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError):
        return None
