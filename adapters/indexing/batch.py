"""Messages that were read from Kafka and are not in Elasticsearch yet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tidegate.adapters.indexing.documents import Document, Position, Refusal

Partition = tuple[str, int]
"""A topic's name, with its prefix, and a partition's number."""


@dataclass(frozen=True)
class BatchLimits:
    """The limits of a batch: its messages, its bytes, and its age since the first message."""

    messages: int
    bytes: int
    seconds: float


class Batch:
    """Messages that are sent together, and the offsets that may be committed once all of them are settled.

    Of documents with the same index and id only the last one stays: a try again could otherwise bring an
    older row back over a newer one.
    """

    def __init__(self) -> None:
        self._documents: dict[tuple[str, str], Document] = {}
        self.refusals: list[Refusal] = []
        self.next_offsets: dict[Partition, int] = {}
        self.messages = 0
        self.bytes = 0
        self._started_at: float | None = None

    def add(self, position: Position, made: Document | Refusal | None, now: float) -> bool:
        """Add a message. Returns whether it replaced an older row. `now`: seconds, monotonic."""
        self.reach((position.topic, position.partition), position.offset + 1)
        self.messages += 1
        if self._started_at is None:
            self._started_at = now
        if made is None:
            return False
        self.bytes += len(made.value)
        if isinstance(made, Refusal):
            self.refusals.append(made)
            return False
        older = self._documents.pop((made.index_name, made.id), None)
        self._documents[made.index_name, made.id] = made
        return older is not None

    def reach(self, partition: Partition, next_offset: int) -> None:
        """Everything of this partition before `next_offset` is in this batch or an earlier one."""
        self.next_offsets[partition] = max(next_offset, self.next_offsets.get(partition, 0))

    def documents(self) -> list[Document]:
        """The documents that are not indexed yet, oldest first."""
        return list(self._documents.values())

    def leave(self, documents: Collection[Document]) -> None:
        """Keep only these documents to index."""
        self._documents = {(document.index_name, document.id): document for document in documents}

    def drop(self, partitions: Collection[Partition]) -> int:
        """Forget these partitions' messages; returns how many. Another instance reads them again."""
        gone = [key for key, document in self._documents.items() if document.position[:2] in partitions]
        for key in gone:
            del self._documents[key]
        kept = [refusal for refusal in self.refusals if refusal.position[:2] not in partitions]
        dropped = len(gone) + len(self.refusals) - len(kept)
        self.refusals = kept
        for partition in partitions:
            self.next_offsets.pop(partition, None)
        return dropped

    def full(self, limits: BatchLimits) -> bool:
        """Whether the batch is full."""
        return self.messages >= limits.messages or self.bytes >= limits.bytes

    def due(self, limits: BatchLimits, now: float) -> bool:
        """Whether it is time to send it: full, its first message old enough, or nothing but offsets in it."""
        if not self.next_offsets:
            return False
        return self.full(limits) or self._started_at is None or now - self._started_at >= limits.seconds
