"""Settings of identity: how a line of the access log gets its department and task."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from tidegate.schemas.settings.base import Group


class AccessLog(Group):
    """Identity: how a line of the gateway's log becomes department, task, version and replica."""

    service_prefix: str = Field(
        "service-", description="prefix that is cut from the service's name to get the task"
    )
    departments: dict[str, str] = Field(
        default_factory=dict,
        description="department by namespace; any other namespace is a department itself",
    )
    max_tasks_per_department: int = Field(
        5000,
        ge=1,
        description="tasks of a department that have rows of their own; further ones fold into __overflow__",
    )

    @field_validator("departments")
    @classmethod
    def _department_names(cls, departments: dict[str, str]) -> dict[str, str]:
        for namespace, department in departments.items():
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", department):
                raise ValueError(
                    f"department {department!r} of namespace {namespace!r} is not [A-Za-z0-9._-]{{1,128}}"
                )
        return departments
