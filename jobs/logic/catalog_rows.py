"""The task catalog as rows of `tidegate.tasks`, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from tidegate.schemas.catalog import Catalog, Gateway, Task
from tidegate.schemas.rows.limits import TaskGateway, TaskRow


def rows_of(catalog: Catalog, published_at: datetime) -> Iterator[TaskRow]:
    """One row for each task, with all values that apply to it."""
    for task in catalog.tasks.values():
        gateway = catalog.gateways[task.gateway]
        fields = {name: value for name, value in vars(task).items() if name not in ("name", "gateway")}
        yield TaskRow(
            id=f"{task.department}/{task.name}",
            task=task.name,
            gateway=TaskGateway(name=task.gateway, namespace=gateway.namespace, labels=gateway.labels),
            published_at=published_at,
            **fields,
        )


class RowCatalog:
    """The catalog as rows build it up: an invalid row has no effect."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._gateways: dict[str, Gateway] = {}

    def put(self, key: str, row: TaskRow | None) -> str | None:
        """Apply a task's row; None removes the task. Returns the reason of a rejection, or None."""
        if row is None:
            self._tasks.pop(key, None)
            return None
        if row.id != key or key != f"{row.department}/{row.task}":
            return f"{key}: id {row.id!r} must be department/task, and the message's key"
        if row.ceiling_qps is not None and row.ceiling_qps < row.floor_qps:
            return f"{key}: ceiling_qps {row.ceiling_qps:g} is below floor_qps {row.floor_qps:g}"
        task = Task(
            department=row.department,
            name=row.task,
            gateway=row.gateway.name,
            route=row.route,
            qps_per_replica=row.qps_per_replica,
            headroom=row.headroom,
            floor_qps=row.floor_qps,
            ceiling_qps=row.ceiling_qps,
            burst_seconds=row.burst_seconds,
            owner=row.owner,
            slo=row.slo,
            clients=row.clients,
            autoscaling=row.autoscaling,
        )
        for other_key, other in self._tasks.items():
            if other_key != key and (other.gateway, other.route) == (task.gateway, task.route):
                return f"{key}: route {task.route!r} of gateway {task.gateway} is the route of {other_key}"
        self._tasks[key] = task
        self._gateways[task.gateway] = Gateway(namespace=row.gateway.namespace, labels=row.gateway.labels)
        return None

    def catalog(self) -> Catalog:
        """The current catalog, with the gateways that its tasks name."""
        tasks = self._tasks.values()
        return Catalog(
            {(task.department, task.name): task for task in tasks},
            {name: self._gateways[name] for name in {task.gateway: None for task in tasks}},
        )


def keys(tasks: Iterable[Task]) -> set[str]:
    """The keys of the tasks' rows."""
    return {f"{task.department}/{task.name}" for task in tasks}
