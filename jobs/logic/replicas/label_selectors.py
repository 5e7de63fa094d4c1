"""Kubernetes' label selectors: `team=vision, tier in (a, b), !draft`. All parts must hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9._-]*"
_PART = re.compile(
    rf"(?P<not>!)?\s*(?P<key>{_KEY})"
    rf"(?:\s*(?P<sign>=|==|!=)\s*(?P<value>{_VALUE})"
    rf"|\s+(?P<operator>in|notin)\s*\(\s*(?P<values>{_VALUE}(?:\s*,\s*{_VALUE})*)\s*\))?"
)


@dataclass(frozen=True)
class _Requirement:
    """A label that must have one of these values (None: any); with wanted False it must not."""

    key: str
    values: frozenset[str] | None
    wanted: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        return (value is not None and (self.values is None or value in self.values)) is self.wanted


@dataclass(frozen=True)
class LabelSelector:
    """A label selector."""

    requirements: tuple[_Requirement, ...]

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """Parse Kubernetes' text form; an empty text selects all. Raises ValueError for another form."""
        parts = re.split(r",(?![^()]*\))", text) if text.strip() else []
        return cls(tuple(_requirement(part, text) for part in parts))

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether these labels are selected. As in Kubernetes, `!=` and `notin` hold for an absent label."""
        return all(requirement.holds(labels or {}) for requirement in self.requirements)


def _requirement(part: str, text: str) -> _Requirement:
    found = _PART.fullmatch(part.strip())
    if found is None or (found["not"] and (found["sign"] or found["operator"])):
        raise ValueError(
            f"{text!r} is not a valid label selector: {part.strip()!r} is none of KEY, !KEY, KEY=VALUE, KEY!=VALUE, "
            "KEY in (A, B), KEY notin (A, B)"
        )
    if found["sign"]:
        return _Requirement(found["key"], frozenset({found["value"]}), found["sign"] != "!=")
    if found["operator"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return _Requirement(found["key"], values, found["operator"] == "in")
    return _Requirement(found["key"], None, not found["not"])
