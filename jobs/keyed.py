"""The objects of a keyed function: in memory, restored from Flink's state, written to it when a restart must find them.

An update of a Python function's state waits for the JVM's answer, 0.3 to 0.8 ms, at the end of the bundle
(docs/decisions/0011-python-state-in-memory.md). So functions change their objects in memory, and mark those that have
to be stored. However often an object is marked within a bundle, it is encoded once, when PyFlink commits the bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pyflink.common import Types
from pyflink.datastream import RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

from tidegate.jobs.logic.state_format import StateFormat

STATE = "kept"
"""The name of the one Flink state that each keyed function has. Part of every savepoint."""

Known = TypeVar("Known")


@dataclass
class _Entry(Generic[Known]):
    """An object, and when it was stored."""

    known: Known
    stored_ms: int = 0


class KeyedMemory(Generic[Known]):
    """The objects of the keys that this instance of a function has. Keys are those of Flink's keyed context.

    Made in the function's `open`: memory begins empty there, also after a restart in the same process.
    """

    def __init__(self, runtime_context: RuntimeContext, form: StateFormat[Known, Any]) -> None:
        self._format = form
        self._entries: dict[str, _Entry[Known]] = {}
        # Text, which is UTF-8 bytes with their length in the savepoint, as a byte array is: the coder of texts asks
        # the value for its bytes when the bundle is committed, that of byte arrays needs them at each update.
        self._state: Any = runtime_context.get_state(ValueStateDescriptor(STATE, Types.STRING()))

    def find(self, key: str) -> Known | None:
        """The current key's object: from memory, or from the state after a restart. Raises StateUnreadable."""
        entry = self._entries.get(key)
        if entry is None:
            stored = self._state.value()
            if stored is None:
                return None
            entry = self._entries[key] = _Entry(self._format.decode(stored.encode()))
        return entry.known

    def find_or_add(self, key: str, new: Callable[[], Known]) -> Known:
        """The current key's object, or a new one where there is none."""
        known = self.find(key)
        if known is None:
            known = new()
            self.add(key, known)
        return known

    def add(self, key: str, known: Known) -> None:
        """Hold the object of the current key, or another one in its place. It isn't stored by this."""
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(known)
        else:
            entry.known = known

    def store(self, key: str, now_ms: int = 0) -> None:
        """Mark the current key's object: it is stored at the end of the bundle, as it is then."""
        entry = self._entries[key]
        self._state.update(_Encoded(self._format, entry.known))
        entry.stored_ms = now_ms

    def store_when_due(self, key: str, now_ms: int, every_ms: int) -> None:
        """Mark it where it hasn't been stored for so long; for what is worth no write of its own."""
        if now_ms - self._entries[key].stored_ms >= every_ms:
            self.store(key, now_ms)

    def forget(self, key: str) -> None:
        """Drop the current key's object, in memory and in the state."""
        self._entries.pop(key, None)
        self._state.clear()


class _Encoded(Generic[Known]):
    """An object that stands for its stored text: encoded when PyFlink's coder asks for the text's bytes."""

    __slots__ = ("_format", "_known")

    def __init__(self, form: StateFormat[Known, Any], known: Known) -> None:
        self._format = form
        self._known = known

    def encode(self, *_: str) -> bytes:
        """As `str.encode`: the stored bytes, which are UTF-8."""
        return self._format.encode(self._known)
