"""Settings of identity: how a line of the access log gets its department and task."""

from __future__ import annotations

import re
from typing import Any

import re2
from pydantic import Field, field_validator

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT
from tidegate.schemas.settings.base import Group

CLUSTER_KEY = "upstream_cluster"
_NAME_GROUPS = {"department", "task", "version"}
_NOT_A_NAME = (set(ACCESS_LOG_FORMAT) | {"access_log_type"}) - {CLUSTER_KEY, "route_name"}
"""Keys with another meaning; the client sends the values of many of them."""
_SYNTAX = re.compile(r"(?P<known>\\[dDwWsS!-/:-@\[-`{-~]|\(\?(?::|P?<))|\\.|\(\?.?|\[\[:", re.DOTALL)
"""Escapes and groups; `known` are those that are documented, and that every engine reads the same way."""


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
    name_key: str = Field(
        CLUSTER_KEY,
        description="the line's key that names department and task: upstream_cluster, route_name, or a key that your "
        "gateway writes from the metadata of its route; a line without it is named by its cluster",
    )
    name_pattern: str | None = Field(
        None,
        max_length=1000,
        description="regular expression (RE2) over the whole name, with the group (?P<task>…) and, optionally, "
        "(?P<department>…) and (?P<version>…); a name that doesn't match is read as without it",
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

    @field_validator("name_key")
    @classmethod
    def _key_of_the_gateway(cls, key: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", key):
            raise ValueError(f"{key!r} is not a key of the access log: [A-Za-z_][A-Za-z0-9_.-]{{0,127}}")
        if key in _NOT_A_NAME:
            raise ValueError(
                f"{key!r} ({ACCESS_LOG_FORMAT.get(key, 'the kind of line')}) doesn't say what the gateway decided; use "
                f"{CLUSTER_KEY}, route_name, or a key of your own that the gateway writes from its route's metadata"
            )
        return key

    @field_validator("name_pattern")
    @classmethod
    def _linear_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        foreign = next((found for found in _SYNTAX.finditer(pattern) if not found["known"]), None)
        if foreign is not None:
            raise ValueError(
                f"{pattern!r} has {foreign[0]!r} at position {foreign.start()}; supported are the escapes "
                "\\d \\w \\s \\D \\W \\S, those of punctuation, and the groups (?:…) and (?P<name>…)"
            )
        try:
            groups = set(compiled(pattern).groupindex)
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
            raise ValueError(f"{pattern!r} is not a valid RE2 expression: {reason}") from error
        if "task" not in groups or not groups <= _NAME_GROUPS:
            found = ", ".join(sorted(groups)) or "none"
            raise ValueError(
                f"{pattern!r} has the named groups {found}; it needs task, and may have department and version"
            )
        return pattern


def compiled(pattern: str) -> Any:
    """The expression, matched in time linear in the name's length. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options=options)
