"""Grafana's template variables in a text, as Grafana puts their values there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_LUCENE = re.compile(r'([!*+\-=<>\s&|()\[\]{}^~?:\\/"])')

Value = str | tuple[str, ...]


class Raw(str):
    """A value that isn't escaped: what stands for all values of a variable."""


@dataclass(frozen=True)
class View:
    """A dashboard as somebody looks at it: the time range, the bucket of time that it leads to, and the variables."""

    from_ms: int
    to_ms: int
    interval_ms: int
    variables: Mapping[str, Value] = field(default_factory=dict)

    def with_value(self, name: str, value: Value) -> View:
        """The same with one variable set."""
        return replace(self, variables={**self.variables, name: value})

    def lucene(self, text: str) -> str:
        """The text of a Lucene query."""
        return self._replaced(text, "lucene")

    def plain(self, text: str) -> str:
        """Any other text."""
        return self._replaced(text, "raw")

    def _replaced(self, text: str, usual: str) -> str:
        def one(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(3)
            value = self._value(name)
            if value is None:
                return match.group()
            return _formatted(value, match.group(2) or usual)

        return _VARIABLE.sub(one, text)

    def _value(self, name: str) -> Value | None:
        own = {
            "__from": str(self.from_ms),
            "__to": str(self.to_ms),
            "__interval_ms": str(self.interval_ms),
            "__interval": f"{self.interval_ms // 1000}s",
        }
        return own.get(name, self.variables.get(name))


def _formatted(value: Value, style: str) -> str:
    if isinstance(value, Raw):
        return str(value)
    if style == "raw":
        return value if isinstance(value, str) else ",".join(value)
    if isinstance(value, str):
        return _escaped(value)
    if not value:
        return "__empty__"
    return "(" + " OR ".join(f'"{_escaped(one)}"' for one in value) + ")"


def _escaped(value: str) -> str:
    return _LUCENE.sub(r"\\\1", value)
