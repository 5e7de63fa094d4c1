"""The bytes of a keyed state: a header line with the state's name and version, then JSON by a schema.

    task-profile 1
    {"department":"vision",...}

A schema is a frozen dataclass of plain values and of rows (schemas/), apart from the class that the job works with: the
stored form has no module or class name in it, and its field names change only together with the version. A release
reads its own version and those that its upgrades lead from; each turns decoded JSON of version n into that of n + 1.
A row's model that changes so that an older row doesn't fit it is a new version of the states that hold the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

Known = TypeVar("Known")
Stored = TypeVar("Stored")

Upgrade = Callable[[Any], Any]


class StoredForm:
    """Base of a schema's dataclasses: a field that isn't in the schema is an error, as a missing one is."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


class StateUnreadable(Exception):
    """A stored state that this release can't restore. The message holds what was found, what is known, what to do."""


@dataclass(frozen=True)
class StateFormat(Generic[Known, Stored]):
    """How one keyed state is stored.

    schema: of the stored form, which `store` makes of the object and `restore` makes an object of. upgrades: by the
    version that each leads from, without a gap up to `version`.
    """

    name: str
    version: int
    schema: type[Stored]
    store: Callable[[Known], Stored]
    restore: Callable[[Stored], Known]
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sorted(self.upgrades) != list(range(self.version - len(self.upgrades), self.version)):
            raise ValueError(
                f"state {self.name}: upgrades lead from versions {sorted(self.upgrades)}, "
                f"which doesn't reach version {self.version} without a gap"
            )

    @property
    def readable(self) -> list[int]:
        """The versions that can be restored."""
        return [*sorted(self.upgrades), self.version]

    @cached_property
    def _schema_adapter(self) -> TypeAdapter[Stored]:
        """Made once: it takes longer than hundreds of states."""
        return TypeAdapter(self.schema)

    def encode(self, known: Known) -> bytes:
        """The stored form of an object."""
        header = f"{self.name} {self.version}\n".encode()
        return header + orjson.dumps(self.store(known), default=_fields)

    def decode(self, stored: bytes) -> Known:
        """The object of a stored form, upgraded where it is an older one. Raises StateUnreadable."""
        header, _, payload = stored.partition(b"\n")
        version = self._version(header)
        try:
            if version < self.version:
                plain = orjson.loads(payload)
                for older in range(version, self.version):
                    plain = self.upgrades[older](plain)
                payload = orjson.dumps(plain)
            return self.restore(self._schema_adapter.validate_json(payload))
        except (ValidationError, ValueError, LookupError, TypeError) as error:
            raise StateUnreadable(
                f"state {self.name}: version {version} is stored, and doesn't fit its schema: {_first(error)}; "
                f"this release restores versions {self._known()}. {_ADVICE}"
            ) from error

    def _version(self, header: bytes) -> int:
        name, _, version = header.decode("utf-8", "replace").rpartition(" ")
        if name != self.name or not version.isdecimal():
            raise StateUnreadable(
                f"state {self.name}: what is stored begins with {header[:40]!r} instead of the state's name and "
                f"version; this release restores versions {self._known()}. {_ADVICE}"
            )
        if int(version) not in self.readable:
            age = "a newer release wrote it" if int(version) > self.version else "it is too old"
            raise StateUnreadable(
                f"state {self.name}: version {version} is stored, and this release restores versions "
                f"{self._known()}: {age}. {_ADVICE}"
            )
        return int(version)

    def _known(self) -> str:
        return ", ".join(map(str, self.readable))


_ADVICE = (
    "Run the release that wrote the checkpoint or savepoint, or one that upgrades it; or submit the job without it, "
    "which begins with empty state."
)


def finite_or_text(value: float) -> float:
    """A float that JSON can hold: NaN and the infinities are texts, which the schema's `float` reads."""
    return value if math.isfinite(value) else str(value)  # type: ignore[return-value]


def _first(error: Exception) -> str:
    """The first thing that is wrong, beginning with its place."""
    if not isinstance(error, ValidationError):
        return repr(error)
    wrong = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, wrong["loc"])) or "the whole"
    return f"{place}: {wrong['msg']}"


def _fields(value: Any) -> Any:
    """A row's fields: orjson knows dataclasses, and moments with all of their digits."""
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError(f"{value!r} has no stored form")
