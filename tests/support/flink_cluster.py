"""A job on the local stack's Flink cluster, seen through Flink's REST address."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflink.table import StatementSet

from tests.support.waiting import until
from tidegate.adapters.queries import replica_history
from tidegate.jobs import environment, messages, replica_changes, service_metrics, task_profile
from tidegate.schemas.settings import Settings


@dataclass(frozen=True)
class Job:
    """A job that was submitted. `rest_address` is host:port of the JobManager."""

    rest_address: str
    identifier: str

    def state_sizes(self) -> list[int]:
        """Bytes of each completed checkpoint that Flink still knows of, oldest first."""
        history = self._get("/checkpoints")["history"]
        done = [entry for entry in history if entry["status"] == "COMPLETED"]
        return [entry["state_size"] for entry in sorted(done, key=lambda entry: entry["id"])]

    def wait_for_checkpoint(self) -> None:
        """Return when the job has completed one more checkpoint."""
        before = self._completed()
        until(lambda: self._completed() > before, "a checkpoint")

    def restored(self) -> int:
        """How often the job went on from a checkpoint."""
        return int(self._get("/checkpoints")["counts"]["restored"])

    def is_running(self) -> bool:
        """Whether all tasks run."""
        vertices = self._get("")["vertices"]
        return all(vertex["status"] == "RUNNING" for vertex in vertices)

    def metric(self, name: str) -> int:
        """The sum of an operator's metric over all operators that have it."""
        total = 0
        for vertex in self._get("")["vertices"]:
            path = f"/vertices/{vertex['id']}/subtasks/metrics"
            found = [entry["id"] for entry in self._get(path) if entry["id"].endswith(f".{name}")]
            for start in range(0, len(found), 20):
                chosen = ",".join(found[start : start + 20])
                total += sum(int(entry["sum"]) for entry in self._get(f"{path}?get={chosen}"))
        return total

    def metric_names(self) -> set[str]:
        """The names of all operators' metrics."""
        return {
            entry["id"]
            for vertex in self._get("")["vertices"]
            for entry in self._get(f"/vertices/{vertex['id']}/subtasks/metrics")
        }

    def _completed(self) -> int:
        return int(self._get("/checkpoints")["counts"]["completed"])

    def _get(self, path: str) -> Any:
        url = f"http://{self.rest_address}/jobs/{self.identifier}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def has_ended(self) -> bool:
        """Whether the job runs no more."""
        return self._get("")["state"] in ("CANCELED", "FAILED", "FINISHED")

    def stop_with_savepoint(self, folder: Path) -> Path:
        """End the job with a savepoint in the canonical format, in a folder of its own. Returns that."""
        wanted = {"targetDirectory": folder.as_uri(), "drain": False, "formatType": "CANONICAL"}
        request = urllib.request.Request(
            f"http://{self.rest_address}/jobs/{self.identifier}/stop",
            json.dumps(wanted).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (the test's own)
            trigger = json.load(answer)["request-id"]
        until(lambda: self._savepoint(trigger) is not None, "the savepoint is complete")
        until(self.has_ended, "the job has stopped")
        location = (self._savepoint(trigger) or {})["location"]
        return Path(urllib.parse.urlparse(location).path)

    def _savepoint(self, trigger: str) -> Any:
        found = self._get(f"/savepoints/{trigger}")
        if found["status"]["id"] != "COMPLETED":
            return None
        assert "failure-cause" not in found["operation"], found["operation"]["failure-cause"]["stack-trace"]
        return found["operation"]

    def cancel(self) -> None:
        """End the job, and wait until it has ended."""
        url = f"http://{self.rest_address}/jobs/{self.identifier}"
        urllib.request.urlopen(urllib.request.Request(url, method="PATCH"), timeout=10).close()
        until(self.has_ended, "the job ends")


@contextmanager
def submitted(settings: Settings, rest_address: str) -> Iterator[Job]:
    """The job service-metrics on the cluster until the block ends; all of its tasks run when it begins."""
    where = environment.Where(cluster=rest_address)
    tables = environment.create(settings, where, service_metrics.NAME)
    with _running(service_metrics.main(tables, settings, bounded=False), rest_address) as job:
        yield job


@contextmanager
def replica_changes_submitted(
    settings: Settings, rest_address: str, savepoint: Path | None = None
) -> Iterator[Job]:
    """The job replica-changes on the cluster, going on from a savepoint or what it said last, until the block ends."""
    where = environment.Where(cluster=rest_address, checkpoint=savepoint)
    tables = environment.create(settings, where, replica_changes.NAME, messages.OPTIONS)
    history = replica_history.newest(settings.kafka)
    with _running(replica_changes.main(tables, settings, history, bounded=False), rest_address) as job:
        yield job


@contextmanager
def task_profile_submitted(settings: Settings, rest_address: str) -> Iterator[Job]:
    """The job task-profile on the cluster until the block ends."""
    where = environment.Where(cluster=rest_address)
    tables = environment.create(settings, where, task_profile.NAME, task_profile.OPTIONS)
    with _running(task_profile.main(tables, settings, bounded=False), rest_address) as job:
        yield job


@contextmanager
def _running(statements: StatementSet, rest_address: str) -> Iterator[Job]:
    job = Job(rest_address, str(statements.execute().get_job_client().get_job_id()))
    try:
        until(job.is_running, "the job runs")
        yield job
    finally:
        if not job.has_ended():
            job.cancel()
